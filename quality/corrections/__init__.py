"""The correction loop: a workbook per institution, its hand-in as an overlay, until the source itself carries the value.

Handing in goes through ingestion (feed ``correction``), which lays accepted values over silver and keeps their state in
``overlay/<table>`` (``ingestion.overlay``). Here: the workbooks, what is waiting, and files for the sources to import.
"""

from __future__ import annotations

from datetime import date
from typing import Any

__all__ = ["corrections", "out", "show", "status", "waiting", "waiting_sql", "write"]


def out(org_code: str, data_date: date | None = None, **options: Any) -> dict[str, Any]:
    """Write an institution's correction workbook. See ``quality.corrections.workbook``."""
    from quality.corrections.workbook import out as run

    return run(org_code, data_date, **options)


def waiting_sql(as_of: date) -> str:
    """Fields that silver shows corrected and their source does not, as SQL for a FROM clause. See ``state``."""
    from quality.corrections.state import waiting_sql as run

    return run(as_of)


def waiting(as_of: date) -> list[dict[str, Any]]:
    """The same as rows: table_name, org_code, record_key, field, correction_id, handed_in_on."""
    from quality.corrections.state import waiting as run

    return run(as_of)


def corrections(org_code: str = "", state: str = "", limit: int = 50) -> list[dict[str, Any]]:
    """Corrections with their states, newest first; without a value of any record."""
    from quality.corrections.state import corrections as run

    return run(org_code, state, limit)


def show(correction_id: str, *, actor: str, purpose: str) -> dict[str, Any]:
    """One correction with its values, audited. Raises E439."""
    from quality.corrections.state import show as run

    return run(correction_id, actor=actor, purpose=purpose)


def status() -> list[dict[str, Any]]:
    """Counts by institution, table and state."""
    from quality.corrections.state import status as run

    return run()


def write(data_date: date, **options: Any) -> dict[str, Any]:
    """Write what is waiting as files in the layout each source delivers. See ``quality.corrections.write_back``."""
    from quality.corrections.write_back import write as run

    return run(data_date, **options)
