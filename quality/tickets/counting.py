"""What a check left open, by rule and institution: sets over ``quality/finding``, ids only, nothing of a resident."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

import duckdb

from lake import duck, registry, runs, tables
from lake.errors import MedlakeError
from quality.compile import day, text
from quality.tickets.limits import Parameters

FINDING, RULE = "quality/finding", "quality/rule"


@lru_cache(maxsize=1)
def _lead() -> str:
    rows = registry.orgs().select(["org_code", "org_kind"]).to_pylist()
    return next(r["org_code"] for r in rows if r["org_kind"] == "lead_hospital")


def org_sql(alias: str) -> str:
    """Whose a finding is, as SQL. Of the city as a whole (a batch, a feed) the lead hospital's stewards see to it.

    The check joins waivers to findings by it (``quality.tickets.waiver_sql``).
    """
    return f"coalesce(nullif({alias}.org_code, ''), {text(_lead())})"


@dataclass(frozen=True)
class Checked:
    """A run whose check is done: which findings and rules it left. ``occasion`` names the check for ever."""

    run_id: str
    data_date: date
    finding: int
    rule: int

    @property
    def occasion(self) -> str:
        return f"{self.run_id}v{self.finding}"


def checked(data_date: date) -> Checked:
    """The check of a date.

    Raises:
        MedlakeError: E106 the date has no run; E423 it was not checked.
    """
    run = runs.get_run(data_date)
    if FINDING not in run.versions:
        raise MedlakeError("E423", data_date=data_date)
    return Checked(run.run_id, data_date, run.versions[FINDING], run.versions[RULE])


def newest() -> Checked | None:
    """The newest date's check, if any was made."""
    run = runs.latest_run()
    while run is not None and FINDING not in run.versions:
        run = runs.previous_run(run.data_date)
    return (
        None if run is None else Checked(run.run_id, run.data_date, run.versions[FINDING], run.versions[RULE])
    )


def open_counts(at: Checked, limits: Parameters) -> list[dict[str, Any]]:
    """One row a rule and institution with open (or waived) findings; rules in observation have no tickets.

    Columns: ``rule_id``, ``rule_version``, ``title_zh``, ``domain``, ``org_code``, ``severity`` (the worst open one),
    ``findings``, ``new_findings`` (first seen with this check), ``first_seen_on``, ``table_names``, ``finding_ids``
    (a sample), ``doctor_ids`` (whose records they are: they cannot waive them).
    """
    with duck.connect() as connection:
        return _rows(
            connection,
            f"""
            SELECT
                f.rule_id,
                any_value(r.version) AS rule_version,
                any_value(r.title_zh) AS title_zh,
                any_value(f.domain) AS domain,
                {org_sql("f")} AS org_code,
                CASE min(CASE f.severity WHEN 'error' THEN 0 WHEN 'warn' THEN 1 ELSE 2 END)
                    WHEN 0 THEN 'error' WHEN 1 THEN 'warn' ELSE 'info' END AS severity,
                count(*) AS findings,
                count(*) FILTER (f.first_seen_on = {day(at.data_date)}) AS new_findings,
                min(f.first_seen_on) AS first_seen_on,
                list_sort(list(DISTINCT f.table_name)) AS table_names,
                min(f.finding_id, {limits.samples}) AS finding_ids,
                list_sort(coalesce(list(DISTINCT f.doctor_id) FILTER (f.doctor_id IS NOT NULL), [])) AS doctor_ids
            FROM {tables.scan_sql(FINDING, at.finding)} AS f
            LEFT JOIN {tables.scan_sql(RULE, at.rule)} AS r
                ON r.rule_id = f.rule_id AND r.table_name = f.table_name
            WHERE f.state IN ('open', 'waived')
            GROUP BY f.rule_id, {org_sql("f")}
            ORDER BY f.rule_id, {org_sql("f")}
            """,
        )


def repeated(at: Checked, limits: Parameters) -> list[dict[str, Any]]:
    """Rules with new findings at an institution in month after month: ``rule_id``, ``org_code``, ``months``, ``title_zh``.

    New findings, not open ones: a single record that nobody mends is a ticket, not a habit.
    """
    since = f"date_trunc('month', {day(at.data_date)}) - to_months({limits.training_window - 1})"
    with duck.connect() as connection:
        return _rows(
            connection,
            f"""
            SELECT f.rule_id, {org_sql("f")} AS org_code, any_value(r.title_zh) AS title_zh,
                count(DISTINCT date_trunc('month', f.first_seen_on)) AS months
            FROM {tables.scan_sql(FINDING, at.finding)} AS f
            LEFT JOIN {tables.scan_sql(RULE, at.rule)} AS r
                ON r.rule_id = f.rule_id AND r.table_name = f.table_name
            WHERE f.state <> 'observing' AND f.first_seen_on >= {since} AND f.first_seen_on <= {day(at.data_date)}
            GROUP BY f.rule_id, {org_sql("f")}
            HAVING months >= {limits.training_months} AND count(*) FILTER (f.state = 'open') > 0
            ORDER BY f.rule_id, {org_sql("f")}
            """,
        )


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    return list(connection.execute(sql).to_arrow_table().to_pylist())


def places(at: Checked, rule_id: str, org_code: str, limit: int) -> list[dict[str, Any]]:
    """Where a ticket's findings are: record, fields, file and line; no value of any record. Oldest first."""
    with duck.connect() as connection:
        return _rows(
            connection,
            f"""
            SELECT f.finding_id, f.table_name, f.record_key, f.field_list, f.severity, f.state, f.doctor_id,
                f.source_file, f.source_sheet, f.source_line, f.first_seen_on, f.reopened
            FROM {tables.scan_sql(FINDING, at.finding)} AS f
            WHERE f.rule_id = {text(rule_id)} AND {org_sql("f")} = {text(org_code)} AND f.state IN ('open', 'waived')
            ORDER BY f.first_seen_on, f.table_name, f.record_key
            LIMIT {int(limit)}
            """,
        )
