"""What a source says it sent, beside the file: ``<name>.manifest.json`` or ``<name>.manifest.csv``.

JSON: an object with ``records`` and, optionally, ``table`` and ``sha256``; CSV: a header with the same names and one
row. A file that does not hold what was announced fails as a whole (``ingestion.run``).
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from ingestion.readers.base import LandedFile
from ingestion.sources import SIDECARS
from ingestion.stage import Stage


def _content(path: Path) -> dict[str, Any]:
    text = path.read_text("utf-8-sig")
    if path.name.endswith(".json"):
        found = json.loads(text)
        return found if isinstance(found, dict) else {}
    return next(iter(csv.DictReader(text.splitlines())), {})


def by_sidecar(files: list[LandedFile], stage: Stage) -> None:
    """Tell the stage what the files' sidecars announce; one that cannot be read announces what no file holds."""
    for file in files:
        for suffix in SIDECARS:
            beside = Path(file.origin + suffix)
            if not beside.is_file():
                continue
            try:
                told = _content(beside)
                count = int(told["records"])
            except (OSError, ValueError, KeyError, TypeError):
                stage.announce(file, None, -1, "manifest")
                continue
            stage.announce(file, str(told.get("table") or "") or None, count, "manifest")
            if (digest := str(told.get("sha256") or "").lower()) and digest != file.sha256:
                stage.announce(file, None, -1, "sha256")
