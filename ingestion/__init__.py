"""Ingestion: what source systems deliver, from files to bronze, quarantine and silver.

The verbs: ``ingest_feed`` (a date's drop), ``ingest_paths`` (any files), ``recover`` (finish what was killed),
``status`` and ``watch`` (who delivers how), ``quarantine_list``, ``quarantine_show``, ``replay`` (what was refused).
Importing this room is cheap; its engines load on first use.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path
from typing import Any

__all__ = [
    "ingest_feed",
    "ingest_paths",
    "quarantine_list",
    "quarantine_show",
    "recover",
    "replay",
    "status",
    "watch",
]


def ingest_feed(feed: str, data_date: date, *, org_codes: Collection[str] | None = None) -> dict[str, Any]:
    """Ingest all files of ``<sources>/<data_date>/<feed>/`` that are not in yet (of some institutions only).

    Returns:
        feed, data_date, batch_id, received, loaded, duplicate, quarantined, files, failed_files, tables, failed_batches
        (deliveries that are not what their source announced), notices.
        Running it again gives the committed counts and changes nothing.
    """
    from ingestion.run import ingest_feed as run

    return run(feed, data_date, org_codes=org_codes)


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


def status(as_of: date) -> list[dict[str, Any]]:
    """Lag, completeness and rejects per feed and institution. See ``ingestion.watching``."""
    from ingestion.watching import status as run

    return run(as_of)


def watch(as_of: date) -> dict[str, Any]:
    """Ask for work on silent feeds, refused records and unknown codes. See ``ingestion.watching``."""
    from ingestion.watching import watch as run

    return run(as_of)


def quarantine_list(feed: str = "", org_code: str = "", code: str = "") -> list[dict[str, Any]]:
    """What waits in quarantine, by reason. See ``ingestion.replaying``."""
    from ingestion.replaying import quarantine_list as run

    return run(feed, org_code, code)


def quarantine_show(
    feed: str, *, actor: str, purpose: str, org_code: str = "", code: str = "", limit: int = 20
) -> list[dict[str, Any]]:
    """Quarantined records with their payload, audited. See ``ingestion.replaying``."""
    from ingestion.replaying import quarantine_show as run

    return run(feed, actor=actor, purpose=purpose, org_code=org_code, code=code, limit=limit)


def replay(feed: str, *, actor: str, table: str = "", org_code: str = "", code: str = "") -> dict[str, Any]:
    """Run quarantined records again after a contract or a map was mended. See ``ingestion.replaying``."""
    from ingestion.replaying import replay as run

    return run(feed, actor=actor, table=table, org_code=org_code, code=code)
