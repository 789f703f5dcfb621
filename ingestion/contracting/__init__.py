"""Contracts as they change: check them, compare two versions, make the first one of a new source, write their pages.

Heavy imports stay inside: ``import ingestion.contracting`` costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingestion.contracting.change import Change
    from lake.contracts import FeedContract

__all__ = ["diff", "listed", "review", "scaffold", "shown", "validate", "write_pages"]


def validate(feed: str | None = None) -> list[str]:
    """What is wrong with the contracts (of one feed, or all): one line each, empty when nothing is.

    Raises:
        MedlakeError: E102, there is no such feed.
    """
    from ingestion.contracting.check import problems

    return problems(feed)


def diff(old: FeedContract | None, new: FeedContract | None) -> list[Change]:
    """Every change between two versions of one contract; ``None`` stands for a contract that is not there."""
    from ingestion.contracting.change import between

    return between(old, new)


def review(feed: str | None = None, against: str = "HEAD") -> dict[str, Any]:
    """Compare the contracts with an earlier version (a git revision or a file) and with what the lake holds.

    Returns:
        ``changes`` (rows), ``breaking`` and ``additive`` (counts), ``refused``: those that may not go in as they are,
        each with its remedy.

    Raises:
        MedlakeError: E102 no such feed; E235 the earlier version cannot be read.
    """
    from ingestion.contracting.against import review as run

    return run(feed, against)


def scaffold(feed: str, samples: Sequence[Path], *, label_zh: str = "", write: bool = True) -> dict[str, Any]:
    """Make the draft contract of a new feed from sample files.

    Raises:
        MedlakeError: E233 a sample cannot be read; E234 the feed's name is taken or not allowed.
    """
    from ingestion.contracting.draft import scaffold as run

    return run(feed, samples, label_zh=label_zh, write=write)


def listed() -> list[dict[str, Any]]:
    """One row a feed: version, tables, fields, highest level, national grade, grace."""
    from lake.contracts import contracts

    return [
        {
            "feed": c.feed,
            "label_zh": c.label_zh,
            "version": c.version,
            "status": c.status,
            "domain": c.domain,
            "tables": len(c.tables),
            "fields": sum(len(t.fields) for t in c.tables.values()),
            "level": max(t.level for t in c.tables.values()),
            "national_grade": c.national_grade,
            "grace_hours": c.grace_hours,
        }
        for c in contracts().values()
    ]


def shown(feed: str) -> list[dict[str, Any]]:
    """One row a field of a feed.

    Raises:
        MedlakeError: E102, there is no such feed.
    """
    from lake.contracts import contract

    return [
        {
            "table": t.name,
            "field": f.name,
            "source_name": f.physical_name,
            "label_zh": f.label_zh,
            "type": f.type,
            "key": f.is_key,
            "required": f.required,
            "unit": f.unit,
            "code_system": f.code_system,
            "level": f.level,
            "data_element": f.data_element,
        }
        for t in contract(feed).tables.values()
        for f in t.fields
    ]


def write_pages(folder: Path | None = None) -> list[Path]:
    """Write ``docs/feeds``: one page a feed, and the index."""
    from ingestion.contracting.pages import write

    return write(folder)
