"""The index of a run: one SQLite file, written beside the old one and swapped in by renaming a link.

It is made from the state that linking keeps (``empi.state``), in the order of its keys, so that six million residents
take minutes and bounded memory. A build that is killed leaves the old index.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
from sqlalchemy import func, select

from empi import model, state
from empi.decisions import RecordKey
from empi.online import compare, keys
from lake import duck, ledger, ops, tables
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings

_log = logger("empi")
_BATCH = 50_000
PERSON, REDIRECT = "silver/person", "silver/person_redirect"
_KEY_COLUMNS = RecordKey._fields
_SCHEMA = """
CREATE TABLE meta (content TEXT NOT NULL);
CREATE TABLE rec (rec_no INTEGER PRIMARY KEY, person_no INTEGER NOT NULL, {record});
CREATE TABLE key (h INTEGER, rec_no INTEGER, PRIMARY KEY (h, rec_no)) WITHOUT ROWID;
CREATE TABLE person (person_no INTEGER PRIMARY KEY, empi_id TEXT NOT NULL, {person});
CREATE TABLE owned (person_no INTEGER, rec_no INTEGER, PRIMARY KEY (person_no, rec_no)) WITHOUT ROWID;
CREATE TABLE redirect (empi_id TEXT PRIMARY KEY, current_empi_id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE shared_id (value TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE shared_phone (value TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE region (region_code TEXT PRIMARY KEY, town TEXT, village TEXT) WITHOUT ROWID;
CREATE TABLE nearby (org_code TEXT, village TEXT, town TEXT);
"""
#: Columns of the golden record that the service shows.
GOLDEN = (
    "name",
    "sex_code",
    "birth_date",
    "id_no",
    "phone",
    "addr_detail",
    "region_code",
    "is_deceased",
    "death_date",
    "record_count",
    "has_trusted_id",
)


def folder() -> Path:
    return settings().home / "empi"


def link() -> Path:
    """The name that always leads to the index in force."""
    return folder() / "index.sqlite"


def _attached() -> tuple[duckdb.DuckDBPyConnection, state.About]:
    """A connection with the last run's state (read only) and its golden records.

    Raises:
        MedlakeError: E335, nothing was linked; E336, the state is not that of the visible crosswalk.
    """
    visible = ledger.visible("silver/")
    if "silver/person_identifier" not in visible or not state.path().exists():
        raise MedlakeError("E335", place=state.path().name)
    connection = duck.connect()
    try:
        connection.execute(f"ATTACH '{state.path()}' AS {state.KEPT} (READ_ONLY)")
        about = state.read_about(connection)
    except duckdb.Error as error:
        connection.close()
        raise MedlakeError("E336", place=state.path().name) from error
    here = (visible["silver/person_identifier"], state.fingerprint())
    if about is None or (about.crosswalk_version, about.fingerprint) != here:
        connection.close()
        raise MedlakeError("E336", place=state.path().name)
    connection.execute(f"CREATE VIEW golden AS SELECT * FROM {tables.scan_sql(PERSON, visible[PERSON])}")
    merged = (
        f"SELECT empi_id, current_empi_id FROM {tables.scan_sql(REDIRECT, visible[REDIRECT])}"
        if REDIRECT in visible
        else "SELECT NULL::VARCHAR AS empi_id, NULL::VARCHAR AS current_empi_id WHERE false"
    )
    connection.execute(f"CREATE VIEW redirect AS {merged}")
    return connection, about


def _copy(
    source: duckdb.DuckDBPyConnection, target: sqlite3.Connection, table: str, sql: str, width: int
) -> int:
    """Copy the rows of a query, batch by batch. Returns how many."""
    put = f"INSERT INTO {table} VALUES ({', '.join('?' * width)})"
    copied = 0
    for batch in source.execute(sql).to_arrow_reader(_BATCH):
        # rows go over one by one because SQLite takes them so; the loop is the driver's
        target.executemany(put, zip(*(column.to_pylist() for column in batch.columns), strict=True))
        copied += len(batch)
    return copied


def _fill(source: duckdb.DuckDBPyConnection, target: sqlite3.Connection) -> dict[str, int]:
    kept = f"{state.KEPT}"
    read = compare.columns()
    source.execute(
        f"""CREATE TABLE numbered AS SELECT empi_id, row_number() OVER (ORDER BY empi_id)::INTEGER AS person_no
        FROM (SELECT DISTINCT empi_id FROM {kept}.person)"""
    )
    source.execute(
        f"""CREATE TABLE owner AS SELECT p.rec_id::INTEGER AS rec_no, n.person_no FROM {kept}.person p
        JOIN numbered n USING (empi_id)"""
    )
    texts = ", ".join(f"r.{c}" for c in (*read, *_KEY_COLUMNS))
    joins = " ".join(
        f"LEFT JOIN {state.STATISTICS}.frequency_{c} f_{c} ON f_{c}.{c} = r.{c}"
        for c in model.FREQUENCY.values()
    )
    unseen = dict(source.execute(f"SELECT column_name, tf FROM {state.STATISTICS}.unseen").fetchall())
    frequencies = ", ".join(
        f"CASE WHEN r.{c} IS NOT NULL THEN coalesce(f_{c}.tf_{c}, {unseen[c]!r}) END"
        for c in model.FREQUENCY.values()
    )
    records = _copy(
        source,
        target,
        "rec",
        f"""SELECT o.rec_no, o.person_no, {texts}, {frequencies} FROM {kept}.record r
        JOIN owner o ON o.rec_no = r.rec_id {joins} ORDER BY o.rec_no""",
        2 + len(read) + len(_KEY_COLUMNS) + len(model.FREQUENCY),
    )
    persons = _copy(
        source,
        target,
        "person",
        f"""SELECT n.person_no, n.empi_id, {", ".join(f"g.{c}::VARCHAR" if c.endswith("_date") else f"g.{c}" for c in GOLDEN)}
        FROM numbered n JOIN golden g USING (empi_id) ORDER BY n.person_no""",
        2 + len(GOLDEN),
    )
    found = _copy(source, target, "key", _keys(source), 2)
    for table, sql, width in (
        ("owned", "SELECT person_no, rec_no FROM owner ORDER BY 1, 2", 2),
        ("redirect", "SELECT empi_id, current_empi_id FROM redirect ORDER BY 1", 2),
        ("shared_id", f"SELECT idno FROM {state.STATISTICS}.shared_id ORDER BY 1", 1),
        ("shared_phone", f"SELECT phone_11 FROM {state.STATISTICS}.shared_phone ORDER BY 1", 1),
        ("region", f"SELECT region_code, town, village FROM {state.STATISTICS}.region ORDER BY 1", 3),
        ("nearby", f"SELECT org_code, village, town FROM {state.STATISTICS}.nearby ORDER BY ALL", 3),
    ):
        _copy(source, target, table, sql, width)
    return {"records": records, "persons": persons, "keys": found}


def _keys(source: duckdb.DuckDBPyConnection) -> str:
    """All keys of all records, in order: blocking rules without their crowds, numbers, and the records' own keys."""
    of = f"{state.KEPT}.record"
    parts = []
    for number in range(len(model.BLOCKING)):
        text, has = keys.rule_sql(number)
        width = len(source.execute(f"DESCRIBE {state.STATISTICS}.crowd_{number}").fetchall()) - 1
        crowd = f"concat_ws('|', '{number}', {', '.join(f'k{i}' for i in range(width))})"
        parts.append(
            f"""SELECT {keys.sql(text)} AS h, rec_id::INTEGER AS rec_no FROM {of} WHERE NOT is_unknown AND {has}
            AND {text} NOT IN (SELECT {crowd} FROM {state.STATISTICS}.crowd_{number})"""
        )
    for column in keys.NUMBERS:
        parts.append(
            f"SELECT {keys.sql(keys.number_sql(column))}, rec_id::INTEGER FROM {of} WHERE {column} IS NOT NULL"
        )
    parts.append(f"SELECT {keys.sql(keys.RECORD_SQL)}, rec_id::INTEGER FROM {of}")
    return f"SELECT DISTINCT h, rec_no FROM ({' UNION ALL '.join(parts)}) ORDER BY h, rec_no"


def _last_change() -> int:
    """The newest online change that a run has taken into the lake; later ones are applied on top of the index."""
    t = ops.registry_change.c
    with ops.engine().begin() as connection:
        return int(connection.execute(select(func.max(t.seq)).where(t.run_id.is_not(None))).scalar() or 0)


def _columns(names: Sequence[str], *more: str) -> str:
    return ", ".join((*names, *more))


def build() -> dict[str, Any]:
    """See :func:`empi.online.making`."""
    taken = _last_change()
    source, about = _attached()
    name = f"index-{about.run_id}-{about.crosswalk_version}-{about.fingerprint[:8]}.sqlite"
    made = folder() / name
    try:
        if link().is_symlink() and str(link().readlink()) == name and made.exists():
            return about_index(made) | {"bytes": made.stat().st_size, "is_new": False}
        draft = made.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        target = sqlite3.connect(draft, isolation_level=None)
        try:
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
                target.execute(f"PRAGMA {pragma}")
            record = _columns(
                compare.columns(), *_KEY_COLUMNS, *(f"tf_{c} REAL" for c in model.FREQUENCY.values())
            )
            target.executescript(_SCHEMA.format(record=record, person=_columns(GOLDEN)))
            target.execute("BEGIN")
            counts = _fill(source, target)
            prior = int(source.execute(f"SELECT records FROM {state.STATISTICS}.about").fetchall()[0][0])
            content = {
                "run_id": about.run_id,
                "data_date": about.data_date.isoformat(),
                "prior_records": prior,
                "model": about.fingerprint,
                "last_change_seq": taken,
                **counts,
            }
            target.execute("INSERT INTO meta VALUES (?)", [json.dumps(content)])
            target.execute("CREATE UNIQUE INDEX person_empi_id ON person (empi_id)")
            target.execute("COMMIT")
        finally:
            target.close()
    finally:
        source.close()
    draft.chmod(0o600)
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    draft.replace(made)
    _swap(name)
    result = {"run_id": about.run_id, **counts, "bytes": made.stat().st_size, "is_new": True}
    _log.info("index_built", **{k: v for k, v in result.items() if k in ("run_id", "records", "persons")})
    return result


def about_index(path: Path) -> dict[str, Any]:
    """What an index says of itself."""
    connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    try:
        content: dict[str, Any] = json.loads(connection.execute("SELECT content FROM meta").fetchone()[0])
    finally:
        connection.close()
    return {k: content[k] for k in ("run_id", "records", "persons", "keys")}


def _swap(name: str) -> None:
    """Let the link lead to a new index; the one before stays for readers that have it open, older ones go."""
    before = str(link().readlink()) if link().is_symlink() else None
    following = folder() / "index.next"
    following.unlink(missing_ok=True)
    following.symlink_to(name)
    following.replace(link())
    for old in folder().glob("index-*.sqlite"):
        if old.name not in (name, before):
            old.unlink()
