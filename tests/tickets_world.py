"""A lake with nothing but what a check leaves: findings and rules of a date, pinned in its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import duckdb

from lake import runs, tables
from quality.findings import COLUMNS

RULES = ("HTN-022", "ARC-002")


def checked(data_date: date, found: Sequence[Mapping[str, Any]]) -> None:
    """Write findings as a date's check would; what is not given is plain. ``key`` is the record's."""
    plain = {
        "rule_version": "1", "domain": "HTN", "severity": "error", "category": "唯一性", "table_name": "htn_visit",
        "doctor_id": "D1", "field_list": "visited_on", "observed": "{}", "expected": "{}", "message_zh": "重复",
        "source_file": "htn.csv", "source_line": 2, "first_seen_on": data_date, "last_seen_on": data_date,
        "reopened": 0, "state": "open", "effect": "exclude", "products": "chronic_disease",
    }  # fmt: skip
    rows = [
        {**plain, "record_key": f["key"], "finding_id": f"f-{f['rule_id']}-{f['key']}", **f} for f in found
    ]
    with duckdb.connect() as connection:
        columns = ", ".join(f"{c} {t}" for c, t in COLUMNS.items())
        connection.execute(f"CREATE TABLE finding ({columns})")
        for row in rows:  # a handful
            kept = {c: row.get(c) for c in COLUMNS}
            connection.execute(
                f"INSERT INTO finding VALUES ({', '.join('?' * len(kept))})", list(kept.values())
            )
        at = tables.overwrite("quality/finding", connection.sql("FROM finding").to_arrow_table())
        listed = ", ".join(f"('{r}', 1::BIGINT, 'htn_visit', '标题{r}')" for r in RULES)
        rules = connection.sql(
            f"SELECT * FROM (VALUES {listed}) AS t(rule_id, version, table_name, title_zh)"
        )
        rule = tables.overwrite("quality/rule", rules.to_arrow_table())
    runs.record_output(runs.open_run(data_date), {"quality/finding": at, "quality/rule": rule})


def finding(
    key: str, *, rule_id: str = "HTN-022", org_code: str | None = "C201", **more: Any
) -> dict[str, Any]:
    return {"key": key, "rule_id": rule_id, "org_code": org_code, **more}
