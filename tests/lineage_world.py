"""The OpenLineage standard's own schemas, for tests that hold events against them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from lake.settings import settings


def _folder() -> Path:
    return Path(os.environ.get("MEDLAKE_STANDARDS", settings().standards_dir)) / "openlineage"


class Standard:
    """Validates an event and every facet in it whose schema the standard ships."""

    def __init__(self) -> None:
        if not (_folder() / "OpenLineage.json").exists():
            pytest.skip(f"the standard's schemas are not here: {_folder()}")
        files = [_folder() / "OpenLineage.json", *sorted((_folder() / "facets").glob("*.json"))]
        read = [json.loads(p.read_text("utf-8")) for p in files]
        self.registry = Registry().with_resources((s["$id"], Resource.from_contents(s)) for s in read)
        self.event = Draft202012Validator(
            read[0], registry=self.registry, format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        #: facet key -> the schema document that defines it
        self.facets = {key: s for s in read[1:] for key in s.get("properties", {})}

    def problems(self, event: dict[str, Any]) -> list[str]:
        """What is wrong with an event, nothing if it is valid."""
        found = [e.message for e in self.event.iter_errors(event)]
        places = [event["run"].get("facets", {}), event["job"].get("facets", {})]
        for dataset in [*event.get("inputs", []), *event.get("outputs", [])]:
            places += [dataset.get(k, {}) for k in ("facets", "inputFacets", "outputFacets")]
        for facets in places:
            for key, value in facets.items():
                if key in self.facets:
                    checked = Draft202012Validator(self.facets[key], registry=self.registry)
                    found += [f"{key}: {e.message}" for e in checked.iter_errors({key: value})]
        return found


def events(path: Path) -> list[dict[str, Any]]:
    """All events of a file of JSON lines, or of a folder with one file an event."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [json.loads(line) for f in files for line in f.read_text("utf-8").splitlines() if line.strip()]
