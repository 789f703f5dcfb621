"""Residents' own rows, quick to look up: what rules over several records need when one of them is typed in.

A file beside the lake (``home/quality/entry``), made from the tables of a checked run: the rows of every table that
rules of one resident read, ordered by the person behind them in small row groups, so that a look-up reads one or two of
them. It can be made again from the lake at any time; without it, those rules wait for the night.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Collection, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from lake import duck, runs
from lake.log import logger
from lake.settings import settings
from quality.compile import name, text
from quality.entry.scope import person_tables
from quality.entry.statement import _IDENTITY, _Written
from quality.prepare import prepare
from quality.rule import RuleBook, rulebook
from quality.shapes import contract_tables, shape

_log = logger("quality")

#: Rows that one look-up must read at least.
_ROW_GROUP = 8192
#: Persons of a request up to whom each is looked up by a statement that was planned for one.
_FEW = 8
_POINTER = "residents.json"


def folder() -> Path:
    return settings().home / "quality" / "entry"


def _tables(book: RuleBook) -> list[str]:
    plain = [t for t in book.tables if t in contract_tables()]
    return sorted({"ph_archive", *(x for t in plain for x in person_tables(book, t))})


def build(data_date: date, book: RuleBook | None = None) -> dict[str, Any]:
    """Make the store of a date's run; the next look-up uses it, the one before is removed.

    Returns:
        data_date, tables, rows, bytes.

    Raises:
        MedlakeError: E106, the date has no run.
    """
    run, book = runs.get_run(data_date), book or rulebook()
    wanted = _tables(book)
    target = settings().folder("quality", "entry") / f"residents-{run.run_id}-{secrets.token_hex(4)}.duckdb"
    counts: dict[str, int] = {}
    with duck.connect() as connection:
        duck.create_views(connection, {n: v for n, v in run.versions.items() if n.startswith("silver/")})
        written = _Written(_Silent(connection))  # type: ignore[arg-type]
        prepare(written, book, data_date)  # type: ignore[arg-type]
        made = {t.strip('"'): select for t, select in written.made}
        for table in ("crosswalk", "resident"):
            connection.execute(f"DROP VIEW {table}")
            connection.execute(f"CREATE TEMP TABLE {table} AS {made[table]}")
        connection.execute(f"ATTACH {text(str(target))} AS store (ROW_GROUP_SIZE {_ROW_GROUP})")
        for table in (t for t in wanted if t in made and f"silver/{t}" in run.versions):
            own = {**dict.fromkeys(contract_tables()[table].key), **dict.fromkeys(shape(table).columns)}
            kept = [c for c in own if c != "source_line" and _has(connection, made[table], c)]
            connection.execute(
                f"CREATE TABLE store.{name(table)} AS SELECT person_key AS person, "
                f"{', '.join(name(c) for c in kept)} FROM ({made[table]}) WHERE person_key IS NOT NULL ORDER BY ALL"
            )
            found = connection.execute(f"SELECT count(*) FROM store.{name(table)}").fetchone()
            counts[table] = int(found[0]) if found else 0
        identity = ", ".join(_IDENTITY)
        is_known = "silver/person_identifier" in run.versions
        source = "silver.person_identifier" if is_known else _nothing()
        connection.execute(
            f"CREATE TABLE store.person_identifier AS SELECT empi_id AS person, {identity} FROM {source} "
            "WHERE identifier_type = 'MR' AND valid_to IS NULL ORDER BY ALL"
        )
        connection.execute(
            "CREATE TABLE store.by_archive AS SELECT archive_id, org_code, min(person) AS person "
            "FROM store.ph_archive GROUP BY ALL ORDER BY ALL"
        )
        connection.execute(
            "CREATE TABLE store.by_patient AS SELECT org_code, identifier_value AS patient_local_id, min(empi_id) AS person "
            f"FROM {source} WHERE identifier_type = 'MR' AND source_system = 'his' AND valid_to IS NULL GROUP BY ALL ORDER BY ALL"
        )
        connection.execute("DETACH store")
    target.chmod(0o600)
    pointer = folder() / _POINTER
    before = _current()
    draft = pointer.with_suffix(f".{os.getpid()}")
    draft.write_text(
        json.dumps(
            {
                "file": target.name,
                "data_date": data_date.isoformat(),
                "tables": sorted([*counts, "person_identifier"]),
            }
        ),
        "utf-8",
    )
    draft.replace(pointer)
    if before is not None and before["file"] != target.name:
        (folder() / before["file"]).unlink(missing_ok=True)
    rows = sum(counts.values())
    _log.info("entry_residents_built", data_date=data_date, tables=len(counts), rows=rows)
    return {
        "data_date": data_date.isoformat(),
        "tables": len(counts),
        "rows": rows,
        "bytes": target.stat().st_size,
    }


def _nothing() -> str:
    return "(SELECT " + ", ".join(f"NULL::{k} AS {c}" for c, k in _IDENTITY.items()) + " WHERE false)"


class _Silent:
    """Runs macros, looks and reference tables of ``prepare``, and makes none of its tables: they may be large."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(self, query: str, *values: Any) -> duckdb.DuckDBPyConnection:
        if query.startswith("CREATE OR REPLACE TEMP TABLE "):
            query = query.replace("TEMP TABLE", "TEMP VIEW", 1)
        elif "count(*)" in query:
            query = "SELECT '' AS t, 0 AS n WHERE false"
        return self._connection.execute(query, *values)


def _has(connection: duckdb.DuckDBPyConnection, select: str, column: str) -> bool:
    found = connection.execute(f"DESCRIBE {select}").fetchall()
    return column in {row[0] for row in found}


def _current() -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((folder() / _POINTER).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found


class Residents:
    """Look-ups in the current store by one thread; follows the pointer when a newer one is there."""

    def __init__(self) -> None:
        self._file = ""
        self._seen = -1
        self._con: duckdb.DuckDBPyConnection | None = None
        self._looks: set[str] = set()
        self.tables: frozenset[str] = frozenset()

    def open(self) -> bool:
        """Whether there is a store; opens it, or the newer one."""
        try:
            seen = (folder() / _POINTER).stat().st_mtime_ns
        except OSError:
            self.close()
            return False
        if seen == self._seen and self._con is not None:
            return True
        current = _current()
        if current is None or not (folder() / current["file"]).is_file():
            return False
        self.close()
        self._con = duckdb.connect(str(folder() / current["file"]), read_only=True, config={"threads": 1})
        self._con.execute("SET TimeZone = 'UTC'")
        self._file, self._seen, self.tables = current["file"], seen, frozenset(current["tables"])
        return True

    def close(self) -> None:
        if self._con is not None:
            self._con.close()
        self._con, self._seen, self.tables = None, -1, frozenset()
        self._looks.clear()

    def persons(self, rows: Iterable[dict[str, Any]], org_code: str) -> list[str | None]:
        """The person behind each record, where the asking institution keeps the archive or the patient's number."""
        if self._con is None:
            return [None for _ in rows]
        if "who_archive" not in self._looks:
            for kind, column in (("archive", "archive_id"), ("patient", "patient_local_id")):
                self._con.execute(
                    f"PREPARE who_{kind} AS SELECT person FROM by_{kind} "
                    f"WHERE {column} = $1::VARCHAR AND org_code = $2::VARCHAR"
                )
                self._looks.add(f"who_{kind}")
        found: list[str | None] = []
        for row in rows:  # one look-up a record: a request has few
            kind = "archive" if row.get("archive_id") else "patient"
            number = row.get("archive_id") or row.get("patient_local_id")
            one = None
            if number:
                asked = f"EXECUTE who_{kind}({text(str(number))}, {text(org_code)})"
                one = self._con.execute(asked).fetchone()
            found.append(str(one[0]) if one else None)
        return found

    def rows(
        self, persons: Collection[str], tables: Collection[str], but: str, keys: Sequence[str]
    ) -> dict[str, list[str]]:
        """The persons' rows per table, as JSON texts of lists.

        Args:
            but: the table whose records are being judged; their stored versions (``keys``, institution first) stay out.
        """
        found: dict[str, list[str]] = {}
        if self._con is None or not persons:
            return found
        wanted = [t for t in sorted({*tables, "ph_archive", "person_identifier"}) if t in self.tables]
        is_few = len(persons) <= _FEW  # each by a statement that was planned for one; many at once
        groups = [text(p) for p in sorted(persons)] if is_few else [list_sql(sorted(persons))]
        for table in wanted:
            look = self._look(table, but == table, is_few)
            more = f", {list_sql(keys)}" if but == table else ""
            for group in groups:
                one = self._con.execute(f"EXECUTE {look}({group}{more})").fetchone()
                if one and one[0]:
                    found.setdefault(table, []).append(one[0])
        return found

    def _look(self, table: str, is_judged: bool, is_one: bool) -> str:
        """The prepared look-up in a table, made at its first use."""
        look = f"look_{table}_{int(is_judged)}{int(is_one)}"
        if look not in self._looks and self._con is not None:
            where = "person = $1::VARCHAR" if is_one else "person IN (SELECT unnest($1::VARCHAR[]))"
            if is_judged:
                parts = ", ".join(name(k) for k in ("org_code", *contract_tables()[table].key))
                where += f" AND NOT list_contains($2::VARCHAR[], concat_ws('|', {parts}))"
            self._con.execute(
                f"PREPARE {look} AS SELECT CAST(to_json(list(s)) AS VARCHAR) "
                f"FROM (SELECT * EXCLUDE (person) FROM {name(table)} WHERE {where}) AS s"
            )
            self._looks.add(look)
        return look


def list_sql(values: Sequence[str]) -> str:
    """A list of texts as a SQL literal."""
    return "[" + ", ".join(text(v) for v in values) + "]"
