"""What became of corrections, read from ``overlay/<table>`` at the versions that the ledger shows."""

from __future__ import annotations

from datetime import date
from typing import Any

from lake import audit, duck, ledger, tables
from lake.errors import MedlakeError
from quality.compile import day, text

_EMPTY = """(SELECT NULL::VARCHAR AS table_name, NULL::VARCHAR AS correction_id, NULL::VARCHAR AS org_code,
    NULL::VARCHAR AS record_key, NULL::VARCHAR AS key_json, NULL::VARCHAR AS field, NULL::VARCHAR AS source_value,
    NULL::VARCHAR AS value_after, NULL::VARCHAR AS state, NULL::DATE AS handed_in_on, NULL::DATE AS settled_on WHERE false)"""


def every_sql() -> str:
    """All corrections of all tables, for a FROM clause: the columns of ``overlay/<table>`` and ``table_name``."""
    found = [
        f"SELECT {text(name.split('/')[1])} AS table_name, * FROM {tables.scan_sql(name, at)}"
        for name, at in sorted(ledger.visible("overlay/").items())
        if tables.exists(name)
    ]
    return f"({' UNION ALL BY NAME '.join(found)})" if found else _EMPTY


def waiting_sql(as_of: date) -> str:
    """Fields that an institution corrected and whose source had not delivered the value by the end of a data date.

    Returns:
        SQL for a FROM clause, one row a field: table_name, org_code, record_key (as findings have it), field,
        correction_id, handed_in_on.
    """
    return f"""(SELECT table_name, org_code, record_key, field, correction_id, handed_in_on FROM {every_sql()}
        WHERE handed_in_on <= {day(as_of)} AND (settled_on IS NULL OR settled_on > {day(as_of)}))"""


def _rows(sql: str) -> list[dict[str, Any]]:
    with duck.connect() as connection:
        rows: list[dict[str, Any]] = connection.execute(sql).to_arrow_table().to_pylist()
    return rows


def waiting(as_of: date) -> list[dict[str, Any]]:
    """See :func:`waiting_sql`."""
    return _rows(f"SELECT * FROM {waiting_sql(as_of)} ORDER BY ALL")


def corrections(org_code: str = "", state: str = "", limit: int = 50) -> list[dict[str, Any]]:
    """Newest first: correction_id, table_name, org_code, field, state, handed_in_on, settled_on. No values, no keys."""
    wanted = {"org_code": org_code, "state": state}
    where = " AND ".join([f"{k} = {text(v)}" for k, v in wanted.items() if v] or ["true"])
    return _rows(
        f"""SELECT correction_id, table_name, org_code, field, state, handed_in_on, settled_on FROM {every_sql()}
        WHERE {where} ORDER BY handed_in_on DESC, correction_id LIMIT {int(limit)}"""
    )


def status() -> list[dict[str, Any]]:
    """Per institution and table: how many corrections are in each state, and since when the oldest one waits."""
    return _rows(
        f"""SELECT org_code, table_name, count(*) FILTER (state = 'waiting_for_source') AS waiting_for_source,
                   count(*) FILTER (state = 'confirmed') AS confirmed,
                   count(*) FILTER (state = 'superseded') AS superseded,
                   count(*) FILTER (state = 'replaced') AS replaced,
                   min(handed_in_on) FILTER (state = 'waiting_for_source') AS waiting_since
        FROM {every_sql()} GROUP BY ALL ORDER BY ALL"""
    )


def show(correction_id: str, *, actor: str, purpose: str) -> dict[str, Any]:
    """One correction with its values and where it was handed in; the look is a line of the audit log.

    Raises:
        MedlakeError: E439, none or several begin so.
    """
    at = ledger.visible("silver/").get("silver/correction")
    found = (
        _rows(
            f"""SELECT o.* EXCLUDE (key_json), c.value_before, c.source_file, c.source_sheet, c.cell
            FROM {every_sql()} o LEFT JOIN {tables.scan_sql("silver/correction", at)} c USING (org_code, correction_id)
            WHERE starts_with(o.correction_id, {text(correction_id)}) LIMIT 2"""
        )
        if at is not None and correction_id
        else []
    )
    if len(found) != 1:
        raise MedlakeError("E439", correction_id=correction_id)
    audit.record(
        "correction.show",
        actor=actor,
        purpose=purpose,
        tables=["silver/correction"],
        fields=["value_before", "value_after"],
        rows=1,
        result="shown",
    )
    return found[0]
