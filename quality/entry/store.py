"""The residents' store: made from a checked run, found by entry-time checks of every process through one small file.

A file beside the lake (``home/quality/entry``, 0600): of every table that rules of one resident look back on, the columns
that those rules read, ordered by the person's number (64 bits of an MD5), so that a look-up reads one place of each column.
It can be made again from the lake at any time; without it, those rules wait for the night.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from lake import duck, runs
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings
from quality.compile import name, text
from quality.entry.scope import columns_read, person_tables
from quality.entry.statement import IDENTITY, Written
from quality.prepare import prepare
from quality.rule import RuleBook, rulebook
from quality.shapes import contract_tables

_log = logger("quality")

#: Measured over 9.6 million rows: smaller groups make more of them to look at, larger ones more to read of one.
_ROW_GROUP = 30_720
_POINTER = "residents.json"


@dataclass(frozen=True)
class Store:
    """A store that was made: its file, and per table the columns it has."""

    file: Path
    data_date: date
    columns: dict[str, frozenset[str]]


def folder() -> Path:
    return settings().home / "quality" / "entry"


def number(key: str) -> int:
    """The number under which a person or an archive lies; DuckDB's ``md5_number_lower``."""
    return int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest()[8:], "little")


def stamp() -> int | None:
    """Changes when there is another store; None while there is none."""
    try:
        return (folder() / _POINTER).stat().st_mtime_ns
    except OSError:
        return None


def current() -> Store | None:
    """The newest store; None where there is none, or one of an older kind."""
    try:
        node = json.loads((folder() / _POINTER).read_text("utf-8"))
        columns = {t: frozenset(c) for t, c in node["columns"].items()}
        store = Store(folder() / node["file"], date.fromisoformat(node["data_date"]), columns)
    except (OSError, ValueError, KeyError):
        return None
    return store if store.file.is_file() else None


def wanted(book: RuleBook) -> dict[str, frozenset[str]]:
    """Table -> columns that rules of one resident read of it when any table's record is typed in."""
    found: dict[str, frozenset[str]] = {}
    for table in (t for t in book.tables if t in contract_tables()):
        for other in {"ph_archive", *person_tables(book, table)}:
            found[other] = found.get(other, frozenset()) | columns_read(book, table, other)
    return found


def build(data_date: date, book: RuleBook | None = None) -> dict[str, Any]:
    """Make the store of a date's run; the next look-up uses it, the one before is removed.

    Returns:
        data_date, tables, rows, bytes.

    Raises:
        MedlakeError: E106, the date has no run.
    """
    run, book = runs.get_run(data_date), book or rulebook()
    target = settings().folder("quality", "entry") / f"residents-{run.run_id}-{secrets.token_hex(4)}.duckdb"
    try:
        counts, columns = _filled(target, run.versions, book, data_date)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    target.chmod(0o600)
    _point(target, data_date, columns)
    rows = sum(counts.values())
    _log.info("entry_residents_built", data_date=data_date, tables=len(counts), rows=rows)
    return {
        "data_date": data_date.isoformat(),
        "tables": len(counts),
        "rows": rows,
        "bytes": target.stat().st_size,
    }


def build_after_check(data_date: date) -> dict[str, Any]:
    """:func:`build` as a step after the check: what goes wrong is told, and the desk goes on with the store it has."""
    try:
        return build(data_date)
    except Exception as error:
        code = error.code if isinstance(error, MedlakeError) else type(error).__name__
        _log.error("entry_residents_not_built", data_date=data_date, code=code)
        return {"data_date": data_date.isoformat(), "error": code}


def _filled(
    target: Path, versions: dict[str, int], book: RuleBook, data_date: date
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Write the file; rows and columns per table."""
    counts: dict[str, int] = {}
    columns: dict[str, list[str]] = {"person_identifier": list(IDENTITY)}
    with duck.connect() as connection:
        duck.create_views(connection, {n: v for n, v in versions.items() if n.startswith("silver/")})
        written = Written(_Silent(connection))  # type: ignore[arg-type]
        prepare(written, book, data_date)  # type: ignore[arg-type]
        made = {t.strip('"'): select for t, select in written.made}
        for table in ("crosswalk", "resident"):
            connection.execute(f"DROP VIEW {table}")
            connection.execute(f"CREATE TEMP TABLE {table} AS {made[table]}")
        connection.execute(f"ATTACH {text(str(target))} AS store (ROW_GROUP_SIZE {_ROW_GROUP})")
        for table, read in sorted(wanted(book).items()):
            if table not in made or f"silver/{table}" not in versions:
                continue
            columns[table] = sorted(read)
            named = ", ".join(name(c) for c in columns[table])
            connection.execute(
                f"CREATE TABLE store.{name(table)} AS SELECT md5_number_lower(person_key) AS person_no, "
                f"person_key AS person, {named} FROM ({made[table]}) WHERE person_key IS NOT NULL ORDER BY person_no"
            )
            found = connection.execute(f"SELECT count(*) FROM store.{name(table)}").fetchone()
            counts[table] = int(found[0]) if found else 0
        _keys(connection, "silver/person_identifier" in versions, "ph_archive" in counts)
        connection.execute("DETACH store")
    return counts, columns


def _keys(connection: duckdb.DuckDBPyConnection, is_known: bool, has_archives: bool) -> None:
    """What finds a person: the numbers of archives and patients, and the person's entries in the index."""
    empty = "(SELECT " + ", ".join(f"NULL::{k} AS {c}" for c, k in IDENTITY.items()) + " WHERE false)"
    source = "silver.person_identifier" if is_known else empty
    connection.execute(
        "CREATE TABLE store.person_identifier AS SELECT md5_number_lower(empi_id) AS person_no, empi_id AS person, "
        f"{', '.join(IDENTITY)} FROM {source} WHERE identifier_type = 'MR' AND valid_to IS NULL ORDER BY person_no"
    )
    archives = (
        "store.ph_archive"
        if has_archives
        else "(SELECT '' AS archive_id, '' AS org_code, '' AS person WHERE false)"
    )
    connection.execute(
        "CREATE TABLE store.by_archive AS SELECT md5_number_lower(archive_id) AS key_no, archive_id AS key, org_code, "
        f"min(person) AS person FROM {archives} GROUP BY ALL ORDER BY key_no"
    )
    connection.execute(
        "CREATE TABLE store.by_patient AS SELECT md5_number_lower(identifier_value) AS key_no, identifier_value AS key, "
        f"org_code, min(empi_id) AS person FROM {source} "
        "WHERE identifier_type = 'MR' AND source_system = 'his' AND valid_to IS NULL GROUP BY ALL ORDER BY key_no"
    )


def _point(target: Path, data_date: date, columns: dict[str, list[str]]) -> None:
    """Make a file the current store, in one step; then remove the one before."""
    pointer, before = folder() / _POINTER, current()
    node = {"file": target.name, "data_date": data_date.isoformat(), "columns": columns}
    draft = pointer.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(node), "utf-8")
    draft.replace(pointer)
    for old in folder().glob("residents-*.duckdb") if before is None else [before.file]:
        if old != target:
            old.unlink(missing_ok=True)


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
