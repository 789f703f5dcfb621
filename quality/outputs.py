"""Gates and verdicts as SQL rows, in the shape of ``quality/gate`` and ``quality/validation``.

As SQL and not as Arrow made of Python values: that would import pandas, a second for a few rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from quality.compile import day, text
from quality.gate import Gate
from quality.integrity import Check
from quality.judge import Verdict

_GATE = {
    "data_date": "DATE", "product": "VARCHAR", "gate": "VARCHAR", "reason_zh": "VARCHAR", "reason_en": "VARCHAR",
    "excluded": "BIGINT", "eligible": "BIGINT", "excluded_pct": "DOUBLE",
}  # fmt: skip

#: ``suite`` is the table, or ``integrity``; ``subject`` the table or feed judged; ``success`` NULL: not evaluated.
_VALIDATION = {
    "data_date": "DATE", "suite": "VARCHAR", "rule_id": "VARCHAR", "subject": "VARCHAR", "expectation": "VARCHAR",
    "success": "BOOLEAN", "rows": "BIGINT", "evaluated": "BIGINT", "failed": "BIGINT", "threshold_pct": "DOUBLE",
    "message_zh": "VARCHAR",
}  # fmt: skip


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date):
        return day(value)
    return text(value) if isinstance(value, str) else repr(value)


def rows_sql(kinds: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> str:
    """A SELECT of rows in Python, with the named columns and their DuckDB types."""
    listed = ", ".join(f"({', '.join(_literal(v) for v in row)})" for row in rows)
    columns = ", ".join(f"{c}::{kind} AS {c}" for c, kind in kinds.items())
    if not listed:
        return "SELECT " + ", ".join(f"NULL::{kind} AS {c}" for c, kind in kinds.items()) + " WHERE false"
    return f"SELECT {columns} FROM (VALUES {listed}) AS v({', '.join(kinds)})"


def gate_sql(made: list[Gate]) -> str:
    return rows_sql(_GATE, ([getattr(g, c) for c in _GATE] for g in made))


def validation_sql(verdicts: list[Verdict], checks: list[Check], data_date: date) -> str:
    """One row per expectation of the judge and per integrity check."""
    rows: list[Sequence[Any]] = [
        (data_date, v.table_name, v.rule_id, v.table_name, v.expectation, v.success, v.rows, v.evaluated, v.failed,
         v.threshold_pct, "")
        for v in verdicts
    ]  # fmt: skip
    rows += [
        (data_date, "integrity", c.id, c.subject, "integrity", c.passed, c.evaluated, c.evaluated, c.failed, 0.0,
         c.message_zh)
        for c in checks
    ]  # fmt: skip
    return rows_sql(_VALIDATION, rows)
