"""The same rules where data is born: a record before it is saved (``check``), a file before it is handed in
(``check_file``).

Both run the batch's own SQL (``quality.compile``, ``quality.prepare``), so that what passes here passes at night.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quality.entry.checking import Checker

__all__ = ["build_residents", "check_file", "open_checker", "refresh_residents"]


def open_checker() -> Checker:
    """What answers entry-time checks in one process. See ``quality.entry.checking``."""
    from quality.entry.checking import Checker

    return Checker()


def build_residents(data_date: date) -> dict[str, Any]:
    """Make the store of residents' rows that entry-time checks look up. See ``quality.entry.store``."""
    from quality.entry.store import build

    return build(data_date)


def refresh_residents(data_date: date) -> dict[str, Any]:
    """The same as a step after the day's check: an error is told and stops nothing."""
    from quality.entry.store import build_after_check

    return build_after_check(data_date)


def check_file(
    path: Path,
    table: str,
    *,
    as_of: date | None = None,
    org_code: str | None = None,
    mapping: Path | None = None,
    with_lake: bool = False,
    out: Path | None = None,
) -> dict[str, Any]:
    """Run a table's rules over any file, without writing to the lake. See ``quality.entry.files``."""
    from quality.entry.files import check_file as run

    return run(path, table, as_of=as_of, org_code=org_code, mapping=mapping, with_lake=with_lake, out=out)
