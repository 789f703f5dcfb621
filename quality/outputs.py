"""Gates and verdicts as Arrow tables, in the shape of ``quality/gate`` and ``quality/validation``."""

from __future__ import annotations

from datetime import date
from typing import Any

import pyarrow as pa

from quality.gate import Gate
from quality.integrity import Check
from quality.judge import Verdict

_GATE = pa.schema([
    ("data_date", pa.date32()), ("product", pa.string()), ("gate", pa.string()), ("reason_zh", pa.string()),
    ("reason_en", pa.string()), ("excluded", pa.int64()), ("eligible", pa.int64()), ("excluded_pct", pa.float64()),
])  # fmt: skip

#: ``suite`` is the table, or ``integrity``; ``subject`` the table or feed judged; ``success`` NULL: not evaluated.
_VALIDATION = pa.schema([
    ("data_date", pa.date32()), ("suite", pa.string()), ("rule_id", pa.string()), ("subject", pa.string()),
    ("expectation", pa.string()), ("success", pa.bool_()), ("rows", pa.int64()), ("evaluated", pa.int64()),
    ("failed", pa.int64()), ("threshold_pct", pa.float64()), ("message_zh", pa.string()),
])  # fmt: skip


def gate_table(made: list[Gate]) -> pa.Table:
    return pa.Table.from_pylist([g.__dict__ for g in made], schema=_GATE)


def validation_table(verdicts: list[Verdict], checks: list[Check], data_date: date) -> pa.Table:
    """One row per expectation of the judge and per integrity check."""
    rows: list[dict[str, Any]] = [
        {
            "suite": v.table_name, "rule_id": v.rule_id, "subject": v.table_name, "expectation": v.expectation,
            "success": v.success, "rows": v.rows, "evaluated": v.evaluated, "failed": v.failed,
            "threshold_pct": v.threshold_pct, "message_zh": "",
        }
        for v in verdicts
    ]  # fmt: skip
    rows += [
        {
            "suite": "integrity", "rule_id": c.id, "subject": c.subject, "expectation": "integrity",
            "success": c.passed, "rows": c.evaluated, "evaluated": c.evaluated, "failed": c.failed,
            "threshold_pct": 0.0, "message_zh": c.message_zh,
        }
        for c in checks
    ]  # fmt: skip
    return pa.Table.from_pylist([{"data_date": data_date, **r} for r in rows], schema=_VALIDATION)
