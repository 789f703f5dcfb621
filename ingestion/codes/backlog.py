"""What is not mapped: by volume, and by institution."""

from __future__ import annotations

from typing import Any

import duckdb

from ingestion import codemaps, units
from ingestion.conform import is_typed, quoted
from ingestion.units import sql as quantities
from lake import duck, ledger, tables
from lake.contracts import TableContract, contracts

_UNMAPPED = "ops/unmapped_code"


def coded_tables(code_system: str = "") -> list[tuple[TableContract, list[str]]]:
    """Tables in silver with fields whose code systems have a list here, and the names of those fields."""
    found = []
    for feed in contracts().values():
        for table in feed.tables.values():
            names = [
                f.name
                for f in table.fields
                if f.code_system and not is_typed(f) and code_system in ("", f.code_system)
                if codemaps.entries(f.code_system)
            ]
            if names and f"silver/{table.name}" in ledger.visible():
                found.append((table, names))
    return found


def _rows(
    connection: duckdb.DuckDBPyConnection, sql: str, values: list[Any] | None = None
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = connection.execute(sql, values or []).to_arrow_table().to_pylist()
    return rows


def inbox(code_system: str, org_code: str, limit: int) -> list[dict[str, Any]]:
    if not tables.exists(_UNMAPPED):
        return []
    with duck.connect() as con:
        con.execute(f"CREATE TEMP VIEW backlog AS SELECT * FROM {tables.scan_sql(_UNMAPPED)}")
        systems = [s for (s,) in con.execute("SELECT DISTINCT code_system FROM backlog").fetchall()]
        con.register("codemap", codemaps.as_table(codemaps.mapped_systems(systems), every=True))
        con.register("unit_rule", quantities.rule_table())
        return _rows(
            con,
            f"""SELECT code_system, source_code, sum(records)::BIGINT AS records, count(DISTINCT org_code) AS institutions,
                   string_agg(DISTINCT feed || '.' || table_name || '.' || field, ', ') AS tables,
                   min(data_date) AS first_on, max(data_date) AS last_on
            FROM backlog b
            WHERE ? IN ('', code_system) AND ? IN ('', org_code) AND source_code IS NOT NULL
              AND NOT EXISTS (SELECT 1 FROM codemap m WHERE m.code_system = b.code_system
                AND m.source_key = lower(b.source_code) AND m.feed IN ('', b.feed) AND m.org_code IN ('', b.org_code)
                AND b.data_date BETWEEN m.valid_from AND m.valid_to)
              AND NOT (code_system = 'ucum' AND {units.fold_sql("source_code")} IN (SELECT unit_spelled FROM unit_rule))
            GROUP BY code_system, source_code ORDER BY records DESC, code_system, source_code LIMIT ?""",
            [code_system, org_code, limit],
        )


def coverage(code_system: str) -> list[dict[str, Any]]:
    visible = ledger.visible()
    parts = []
    found = coded_tables(code_system)
    for table, names in found:
        scan = tables.scan_sql(f"silver/{table.name}", visible[f"silver/{table.name}"])
        parts += [
            f"SELECT org_code, '{table.field(n).code_system}' AS code_system, {quoted(n)} AS code, count(*) AS n"
            f" FROM {scan} WHERE {quoted(n)} IS NOT NULL GROUP BY ALL"
            for n in names
        ]
    if not parts:
        return []
    with duck.connect() as con:
        systems = {t.field(n).code_system for t, names in found for n in names}
        con.register("codemap", codemaps.as_table(sorted(systems), every=True))
        return _rows(
            con,
            f"""WITH coded AS ({" UNION ALL ".join(parts)}), known AS (SELECT DISTINCT code_system, code FROM codemap)
            SELECT org_code, code_system, sum(n)::BIGINT AS recorded,
                   coalesce(sum(n) FILTER (k.code IS NOT NULL), 0)::BIGINT AS mapped, recorded - mapped AS unmapped,
                   round(mapped / recorded, 4) AS share
            FROM coded LEFT JOIN known k USING (code_system, code)
            GROUP BY org_code, code_system ORDER BY share, unmapped DESC, org_code, code_system""",
        )
