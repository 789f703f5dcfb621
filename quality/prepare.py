"""The tables that rules see: silver's columns plus ``rid``, ``record_key`` and the resident behind each record.

``birth_date`` and ``sex_code`` are the health archive's; ``empi_id`` is the person of the master index;
``person_key`` is the same, or the archive itself while the index does not know it. All are temporary tables.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import duckdb

from lake.contracts import TableContract, table_contract
from quality.compile import name, query_sql, text
from quality.rule import Query, RuleBook

#: Columns that findings need from every record besides what rules name.
_KEPT = frozenset(
    {"org_code", "source_file", "source_sheet", "source_line", "doctor_id", "archive_id", "patient_local_id"}
)
_WORD = re.compile(r"[a-z][a-z0-9_]*")
_MACROS = Path(__file__).parent / "macros.sql"


def _words(book: RuleBook) -> set[str]:
    """Every word in any SQL or template of the book: a column that is not among them is not read."""
    texts = [q.sql for q in book.queries.values()]
    for target in (t for r in book.rules for t in r.targets):
        texts += [target.eligibility, target.condition, target.warn_when or "", target.message_zh]
        texts += [*target.observed.values(), *target.expected.values(), target.dated_by or "", *target.fields]
    return set(_WORD.findall(" ".join(texts)))


def _exists(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    found = connection.execute(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'silver' AND table_name = ?",
        [table],
    ).fetchone()
    return bool(found and found[0])


def _source(connection: duckdb.DuckDBPyConnection, table: str, columns: dict[str, str]) -> str:
    """The silver view, or no rows of its shape when nothing was ever delivered."""
    if _exists(connection, table):
        return f"silver.{name(table)}"
    empty = ", ".join(f"CAST(NULL AS {kind}) AS {name(column)}" for column, kind in columns.items())
    return f"(SELECT {empty} WHERE false)"


def _crosswalk(connection: duckdb.DuckDBPyConnection) -> None:
    """``crosswalk``: the open index entry of each source record; ``resident``: one row per archive id."""
    entry = dict.fromkeys(
        ("empi_id", "source_system", "org_code", "identifier_type", "identifier_value"), "VARCHAR"
    )
    source = _source(connection, "person_identifier", {**entry, "valid_to": "DATE"})
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE crosswalk AS
        SELECT source_system, org_code, identifier_value, min(empi_id) AS empi_id
        FROM {source}
        WHERE identifier_type = 'MR' AND valid_to IS NULL
        GROUP BY ALL
    """)
    archive = _source(connection, "ph_archive", table_contract("ph_archive").silver_columns)
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE resident AS
        SELECT a.archive_id, a.birth_date, a.sex_code, c.empi_id
        FROM {archive} AS a
        LEFT JOIN crosswalk AS c
            ON c.source_system = 'public_health' AND c.org_code = a.org_code AND c.identifier_value = a.archive_id
        QUALIFY row_number() OVER (PARTITION BY a.archive_id ORDER BY a.source_updated_at DESC NULLS LAST, a.org_code) = 1
    """)


def _resident_columns(contract: TableContract) -> tuple[str, str]:
    """Further columns and the join that brings them, by what the table knows about its person."""
    columns = contract.silver_columns
    if "archive_id" in columns:
        own = "birth_date" in columns
        person = "" if own else "p.birth_date, p.sex_code, "
        key = "coalesce(p.empi_id, 'archive|' || s.archive_id) AS person_key"
        return f"{person}p.empi_id, {key}", "LEFT JOIN resident AS p ON p.archive_id = s.archive_id"
    if "patient_local_id" in columns:
        key = "coalesce(p.empi_id, 'patient|' || s.org_code || '|' || s.patient_local_id) AS person_key"
        join = (
            "LEFT JOIN crosswalk AS p ON p.source_system = 'his' AND p.org_code = s.org_code "
            "AND p.identifier_value = s.patient_local_id"
        )
        return f"p.empi_id, {key}", join
    return "CAST(NULL AS VARCHAR) AS empi_id, CAST(NULL AS VARCHAR) AS person_key", ""


def _table(connection: duckdb.DuckDBPyConnection, table: str, words: set[str], judged: bool) -> None:
    """A judged table is kept with a ``rid``; one that set queries only read stays a view, however large."""
    contract = table_contract(table)
    columns = contract.silver_columns
    read = [c for c in columns if c in words or c in _KEPT or c in contract.key]
    record_key = "concat_ws('|', " + ", ".join(f"s.{name(k)}" for k in contract.key) + ")"
    further, join = _resident_columns(contract)
    doctor = "" if "doctor_id" in columns else ", CAST(NULL AS VARCHAR) AS doctor_id"
    kind, rid = ("TABLE", "row_number() OVER () AS rid,") if judged else ("VIEW", "")
    connection.execute(f"""
        CREATE OR REPLACE TEMP {kind} {name(table)} AS
        SELECT
            {rid}
            {record_key} AS record_key,
            {", ".join(f"s.{name(c)}" for c in read)},
            {further}{doctor}
        FROM {_source(connection, table, columns)} AS s {join}
    """)


def prepare(connection: duckdb.DuckDBPyConnection, book: RuleBook) -> dict[str, int]:
    """Make macros and tables in a connection that has silver's views. Returns rows per judged table."""
    connection.execute(_MACROS.read_text("utf-8"))
    _crosswalk(connection)
    words = _words(book)
    for table in book.reads:
        _table(connection, table, words, table in book.tables)
    counts = " UNION ALL ".join(f"SELECT {text(t)} AS t, count(*) FROM {name(t)}" for t in book.tables)
    return dict(connection.execute(counts).fetchall())


def run_query(connection: duckdb.DuckDBPyConnection, query: Query, as_of: date) -> None:
    """Evaluate a set query into ``q_<name>``; its ``rid`` becomes ``q_rid``."""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE q_{query.name} AS "
        f"SELECT rid AS q_rid, * EXCLUDE (rid) FROM ({query_sql(query, as_of)})"
    )
