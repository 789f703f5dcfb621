"""Ingestion: what source systems deliver, from files to bronze, quarantine and silver.

The verbs: ``ingest_feed`` (a date's drop), ``ingest_paths`` (any files), ``recover`` (finish what was killed).
Importing this room is cheap; its engines load on first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

__all__ = ["ingest_feed", "ingest_paths", "recover"]


def ingest_feed(feed: str, data_date: date) -> dict[str, Any]:
    """Ingest all files of ``<sources>/<data_date>/<feed>/`` that are not in yet.

    Returns:
        feed, data_date, batch_id, received, loaded, duplicate, quarantined, files, failed_files, tables, notices.
        Running it again gives the committed counts and changes nothing.
    """
    from ingestion.run import ingest_feed as run

    return run(feed, data_date)


def ingest_paths(
    paths: Sequence[Path | str], feed: str, *, org_code: str | None = None, data_date: date | None = None
) -> dict[str, Any]:
    """Ingest files and folders from anywhere; a file that is known by content counts as duplicate.

    Raises:
        MedlakeError: E102 no such feed; E201 a path that does not exist; E202 one that may not be read.
    """
    from ingestion.run import ingest_paths as run

    return run(paths, feed, org_code=org_code, data_date=data_date)


def recover(feed: str) -> dict[str, Any]:
    """Finish the batches of a feed whose process was killed; ``ingest_*`` do this first by themselves."""
    from ingestion.run import recover as run

    return run(feed)
