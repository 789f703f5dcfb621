"""The tables that rules see: silver's columns plus ``rid``, ``record_key`` and the resident behind each record.

``birth_date`` and ``sex_code`` are the health archive's; ``empi_id`` is the person of the master index;
``person_key`` is the same, or the archive itself while the index does not know it. All are temporary tables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from lake.contracts import table_contract
from lake.settings import settings
from quality import builders
from quality.compile import bind, name, query_sql, text
from quality.rule import REFERENCE, Query, RuleBook
from quality.shapes import Shape, derived, shape

#: Columns that findings need from every record besides what rules name.
_KEPT = frozenset(
    {"org_code", "source_file", "source_sheet", "source_line", "doctor_id", "archive_id", "patient_local_id"}
)
_WORD = re.compile(r"[a-z][a-z0-9_]*")
_MACROS = Path(__file__).parent / "macros.sql"
_VALUES = Path(__file__).parent / "reference"


@dataclass(frozen=True)
class Prepared:
    """``rows`` per judged table that the lake has; ``present``: all tables of the book that it has."""

    rows: dict[str, int]
    present: frozenset[str]


def _words(book: RuleBook) -> set[str]:
    """Every word in any SQL or template of the book: a column that is not among them is not read."""
    texts = [book.queries[q].sql for q in book.used_queries]
    texts += [derived()[t].sql for t in book.reads if t in derived()]
    for target in (t for r in book.rules for t in r.targets):
        texts += [target.eligibility, target.condition, target.warn_when or "", target.message_zh]
        texts += [*target.observed.values(), *target.expected.values(), target.dated_by or "", *target.fields]
    return set(_WORD.findall(" ".join(texts)))


def held_columns(connection: duckdb.DuckDBPyConnection) -> dict[str, set[str]]:
    """Columns of each silver view."""
    held: dict[str, set[str]] = {}
    for table, column in connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'silver' AND table_catalog = current_database()"
    ).fetchall():
        held.setdefault(table, set()).add(column)
    return held


def _source(held: dict[str, set[str]], table: str, columns: dict[str, str]) -> str:
    """The silver view, or no rows of its shape when nothing was ever delivered. A column that silver does not have
    yet (the contract grew after the delivery) is NULL."""
    if table not in held:
        empty = ", ".join(f"CAST(NULL AS {kind}) AS {name(column)}" for column, kind in columns.items())
        return f"(SELECT {empty} WHERE false)"
    if missing := [c for c in columns if c not in held[table]]:
        nulls = ", ".join(f"CAST(NULL AS {columns[c]}) AS {name(c)}" for c in missing)
        return f"(SELECT *, {nulls} FROM silver.{name(table)})"
    return f"silver.{name(table)}"


def crosswalk(connection: duckdb.DuckDBPyConnection, held: dict[str, set[str]]) -> None:
    """``crosswalk``: the open index entry of each source record; ``resident``: one row per archive id."""
    entry = dict.fromkeys(
        ("empi_id", "source_system", "org_code", "identifier_type", "identifier_value"), "VARCHAR"
    )
    source = _source(held, "person_identifier", {**entry, "valid_to": "DATE"})
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE crosswalk AS
        SELECT source_system, org_code, identifier_value, min(empi_id) AS empi_id
        FROM {source}
        WHERE identifier_type = 'MR' AND valid_to IS NULL
        GROUP BY ALL
    """)
    archive = _source(held, "ph_archive", table_contract("ph_archive").silver_columns)
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE resident AS
        SELECT a.archive_id, a.birth_date, a.sex_code, c.empi_id
        FROM {archive} AS a
        LEFT JOIN crosswalk AS c
            ON c.source_system = 'public_health' AND c.org_code = a.org_code AND c.identifier_value = a.archive_id
        QUALIFY row_number() OVER (PARTITION BY a.archive_id ORDER BY a.source_updated_at DESC NULLS LAST, a.org_code) = 1
    """)


def resident_columns(columns: dict[str, str]) -> tuple[str, str]:
    """Further columns and the join that brings them, by what the table knows about its person."""
    if "archive_id" in columns:
        further = [f"p.{c}" for c in ("birth_date", "sex_code") if c not in columns]
        own = "coalesce(p.empi_id, 'archive|' || s.archive_id)"
        joins = "LEFT JOIN resident AS p ON p.archive_id = s.archive_id"
        if (
            "patient_local_id" in columns
        ):  # a hospital's record of the programme: the archive if it is known, else the patient
            joins += (
                " LEFT JOIN crosswalk AS h ON s.archive_id IS NULL AND h.source_system = 'his' "
                "AND h.org_code = s.org_code AND h.identifier_value = s.patient_local_id"
            )
            empi = "coalesce(p.empi_id, h.empi_id)"
            own = f"coalesce({empi}, 'archive|' || s.archive_id, 'patient|' || s.org_code || '|' || s.patient_local_id)"
            return ", ".join([*further, f"{empi} AS empi_id", f"{own} AS person_key"]), joins
        return ", ".join([*further, "p.empi_id", f"{own} AS person_key"]), joins
    if "patient_local_id" in columns:
        # a laboratory examines for others: the number is the patient's at the institution that asked (empi.sources.KEYS)
        org = (
            "coalesce(s.requesting_org_code, s.org_code)"
            if "requesting_org_code" in columns
            else "s.org_code"
        )
        key = f"coalesce(p.empi_id, 'patient|' || {org} || '|' || s.patient_local_id) AS person_key"
        join = (
            f"LEFT JOIN crosswalk AS p ON p.source_system = 'his' AND p.org_code = {org} "
            "AND p.identifier_value = s.patient_local_id"
        )
        return f"p.empi_id, {key}", join
    return "CAST(NULL AS VARCHAR) AS empi_id, CAST(NULL AS VARCHAR) AS person_key", ""


def _table(
    connection: duckdb.DuckDBPyConnection,
    held: dict[str, set[str]],
    table: str,
    words: set[str],
    judged: bool,
) -> None:
    """A judged table is kept with a ``rid``; one that set queries only read stays a view, however large."""
    contract = table_contract(table)
    columns = contract.silver_columns
    read = [c for c in columns if c in words or c in _KEPT or c in contract.key]
    record_key = "concat_ws('|', " + ", ".join(f"s.{name(k)}" for k in contract.key) + ")"
    further, join = resident_columns(columns)
    doctor = "" if "doctor_id" in columns else ", CAST(NULL AS VARCHAR) AS doctor_id"
    kind, rid = ("TABLE", "row_number() OVER () AS rid,") if judged else ("VIEW", "")
    connection.execute(f"""
        CREATE OR REPLACE TEMP {kind} {name(table)} AS
        SELECT
            {rid}
            {record_key} AS record_key,
            {", ".join(f"s.{name(c)}" if c != "record_key" else "s.record_key AS of_record_key" for c in read)},
            {further}{doctor}
        FROM {_source(held, table, columns)} AS s {join}
    """)


def _derived(
    connection: duckdb.DuckDBPyConnection, held: dict[str, set[str]], made: Shape, as_of: date
) -> None:
    """A derived table with all that findings need of a record: its place in a file it has none."""
    envelope = {"org_code": "VARCHAR", "doctor_id": "VARCHAR", "empi_id": "VARCHAR", "person_key": "VARCHAR",
                "source_file": "VARCHAR", "source_sheet": "VARCHAR", "source_line": "BIGINT"}  # fmt: skip
    if made.name in held or not (made.builder or made.sql):
        source = _source(held, made.name, {**made.columns, "org_code": "VARCHAR"})
    elif made.builder:
        source = f"({builders.BUILDERS[made.builder](connection, held, as_of)})"
    else:
        source = f"({bind(made.sql, {}, as_of)})"
    has = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    given = [c for c in {**made.columns, **envelope} if c in has]
    nulls = [
        f"CAST(NULL AS {k}) AS {name(c)}" for c, k in {**made.columns, **envelope}.items() if c not in has
    ]
    key = "concat_ws('|', " + ", ".join(f"s.{name(k)}" for k in made.key) + ") AS record_key"
    columns = ", ".join([key, *(f"s.{name(c)}" for c in given), *nulls])
    kind, rid = ("TABLE", "row_number() OVER () AS rid, ") if made.is_kept else ("VIEW", "")
    connection.execute(
        f"CREATE OR REPLACE TEMP {kind} {name(made.name)} AS SELECT {rid}{columns} FROM {source} AS s"
    )


def _reference(connection: duckdb.DuckDBPyConnection, wanted: set[str]) -> None:
    """Code lists and reference values: dbt's seeds and ``quality/reference``."""
    for table in wanted & set(REFERENCE):
        seed = settings().seeds_dir / f"{table.removeprefix('dim_')}.csv"
        path = seed if table.startswith("dim_") else _VALUES / f"{table}.csv"
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {name(table)} AS SELECT * FROM read_csv({text(str(path))}, all_varchar = true)"
        )


def present_tables(book: RuleBook, held: dict[str, set[str]]) -> frozenset[str]:
    """Tables that the lake has; a derived one where it has something that it is made of."""
    found = {t for t in book.reads if t in held}
    for table, made in derived().items():
        if made.builder or (set(made.requires) <= found and any(r in found for r in made.reads)):
            found.add(table)
    return frozenset(found)


def prepare(connection: duckdb.DuckDBPyConnection, book: RuleBook, as_of: date) -> Prepared:
    """Make macros and tables in a connection that has silver's views."""
    connection.execute(_MACROS.read_text("utf-8"))
    held = held_columns(connection)
    crosswalk(connection, held)
    words = _words(book)
    reads, judged = set(book.reads), set(book.tables)
    present = present_tables(book, held)
    # a table that no rule can judge here (what they require is not connected) is not copied
    judged = {t for t in judged if any(book.evaluable(r, t, present) for r in book.of_table(t))}
    plain = sorted(t for t in reads if t not in REFERENCE and not shape(t).is_derived)
    for table in plain:
        _table(connection, held, table, words, table in judged)
    _reference(connection, reads)
    for table in sorted(reads):
        if table not in REFERENCE and table not in derived() and shape(table).is_derived:
            _derived(connection, held, shape(table), as_of)
    for made in derived().values():  # in the order of the file: each after those it reads
        if made.name in reads:
            _derived(connection, held, made, as_of)
    there = [t for t in book.tables if t in present and t in judged]
    counts = " UNION ALL ".join(f"SELECT {text(t)} AS t, count(*) FROM {name(t)}" for t in there)
    return Prepared(dict(connection.execute(counts).fetchall()) if there else {}, present)


def run_query(connection: duckdb.DuckDBPyConnection, query: Query, as_of: date) -> None:
    """Evaluate a set query into ``q_<name>``; its ``rid`` becomes ``q_rid``."""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE q_{query.name} AS "
        f"SELECT rid AS q_rid, * EXCLUDE (rid) FROM ({query_sql(query, as_of)})"
    )
