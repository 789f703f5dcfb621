"""The audit between writing a serving file and letting anybody see it. Whatever fails, nothing is swapped."""

from __future__ import annotations

from pathlib import Path

import duckdb

from lake import contracts, duck
from lake.errors import MedlakeError

#: Identifying columns that come from no feed's contract but from our own tables.
_OWN_IDENTIFIERS = frozenset(
    {"empi_id", "other_empi_id", "identifier_value", "record_key", "id_card", "mobile", "address"}
)

#: GB/T 39725 level from which a field identifies a person and may not be served.
_IDENTIFYING_LEVEL = 4

#: Texts put together by a model, where an identifier could slip in. Codes and ids are digits by nature.
_TEXT_COLUMNS = r"(_zh|_en|_text|^text|^note|_note|message|remark|label)$"

#: A resident id (region, birth date, serial, check character) or a mobile number, standing alone.
_LOOKS_PERSONAL = (
    r"(^|[^0-9A-Za-z])"
    r"([1-9][0-9]{5}(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx]|1[3-9][0-9]{9})"
    r"($|[^0-9A-Za-z])"
)

_OPS_TABLES = ("publication", "run_info", "ledger", "asset_product", "org")


def identifying_columns() -> frozenset[str]:
    """Names of all fields that the contracts put at level 4 or 5, and our own identifiers."""
    of_contracts = {
        field.name
        for feed in contracts.contracts().values()
        for table in feed.tables.values()
        for field in table.fields
        if field.level >= _IDENTIFYING_LEVEL
    }
    return frozenset(of_contracts) | _OWN_IDENTIFIERS


def _views(con: duckdb.DuckDBPyConnection) -> list[str]:
    rows = con.execute(
        "SELECT schema_name || '.' || view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1"
    )
    return [row[0] for row in rows.fetchall()]


def _check_columns(con: duckdb.DuckDBPyConnection) -> None:
    denied = identifying_columns()
    columns = con.execute(
        "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE NOT internal AND schema_name = 'gold' ORDER BY 1, 2, 3"
    ).fetchall()
    if bad := [f"{schema}.{table}.{name}" for schema, table, name, _ in columns if name.lower() in denied]:
        raise MedlakeError("E606", columns=", ".join(bad))
    # one query per text column over a small table: the columns differ, the set is the table
    for schema, table, name, kind in columns:
        if kind != "VARCHAR":
            continue
        found = con.execute(
            f'SELECT count(*) FROM "{schema}"."{table}" WHERE regexp_matches(?, ?) AND regexp_matches("{name}", ?)',
            [name, _TEXT_COLUMNS, _LOOKS_PERSONAL],
        ).fetchone()
        if found and found[0]:
            raise MedlakeError("E611", columns=f"{schema}.{table}.{name}")


def audit(path: Path, planned: dict[str, int]) -> int:
    """Hold a finished serving file against its plan; returns the rows of its gold tables together.

    Args:
        planned: rows per gold table, counted where they come from.

    Raises:
        MedlakeError: E603 a table is missing; E604 row counts differ; E605 it holds a view; E606 an identifying
            column; E611 a text that holds what looks like an identifier.
    """
    con = duck.connect(path, read_only=True)
    try:
        have = {
            (schema, table)
            for schema, table in con.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
        }
        expected = {("gold", t) for t in planned} | {("ops", t) for t in _OPS_TABLES}
        if missing := sorted(expected - have):
            raise MedlakeError("E603", tables=", ".join(".".join(m) for m in missing))
        if views := _views(con):
            raise MedlakeError("E605", tables=", ".join(views))
        for table, rows in planned.items():
            counted = con.execute(f'SELECT count(*) FROM gold."{table}"').fetchone()
            written = int(counted[0]) if counted else 0
            if written != rows:
                raise MedlakeError("E604", table=f"gold.{table}", planned=rows, written=written)
        _check_columns(con)
    finally:
        con.close()
    return sum(planned.values())
