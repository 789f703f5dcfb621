"""The crosswalk: by which numbers each source knows a person, from when to when. Rows are closed, never taken away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from itertools import pairwise

import duckdb
import pyarrow as pa

from empi import replay
from empi.decisions import RecordKey
from empi.sources import as_date
from lake.crypto import token_column

RECORD_KEY = RecordKey._fields
#: Registrations whose rows are joined to the crosswalk that was at once.
_SLICE = 250_000
#: Registrations whose rows make a file: a day's merges and moves close few rows, and only their files are rewritten.
_FILE = 60_000
_ROW = ("empi_id", "identifier_type", *RECORD_KEY)
#: Kind of number -> its column in ``held``. ``MR``, the registration itself, is the crosswalk proper.
_KINDS = {"MR": "identifier_value", "NI": "idno", "HC": "card", "SN": "insurance"}
#: Columns of ``silver/person_identifier``.
COLUMNS = {
    "empi_id": "VARCHAR",
    "person_token": "VARCHAR",
    "source_system": "VARCHAR",
    "org_code": "VARCHAR",
    "identifier_type": "VARCHAR",
    "identifier_value": "VARCHAR",
    "valid_from": "DATE",
    "valid_to": "DATE",
    "link_cause": "VARCHAR",
}


@contextmanager
def in_order(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Rows keep the order they are made or stored in; our connections otherwise give that up for memory."""
    connection.execute("SET preserve_insertion_order = true")
    try:
        yield
    finally:
        connection.execute("SET preserve_insertion_order = false")


def _create_person_key(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``person_key(empi_id, person_token)`` of ``assigned``; only ids without a row in ``previous`` are computed."""
    connection.execute(
        """CREATE OR REPLACE TABLE person_key AS
        SELECT empi_id, any_value(person_token) AS person_token FROM previous SEMI JOIN assigned USING (empi_id)
        GROUP BY empi_id"""
    )
    new = connection.execute(
        "SELECT empi_id FROM assigned ANTI JOIN person_key USING (empi_id)"
    ).to_arrow_table()["empi_id"]
    connection.register(
        "token_arrow", pa.table({"empi_id": new, "person_token": token_column("person", new)})
    )
    connection.execute("INSERT INTO person_key SELECT * FROM token_arrow")
    connection.unregister("token_arrow")


def _create_now(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``now`` (record -> person) and ``held``, the same with the record's numbers, in the order of the ids.

    They are sorted here, once and narrow; what is made of them by union and written afterwards keeps the order.
    ``is_repeated``: the person has several registrations at that institution.
    """
    connection.execute(
        """CREATE OR REPLACE TABLE now AS
        SELECT c.rec_no, a.empi_id, a.cluster_no, c.link_cause, a.is_new, k.person_token
        FROM cluster c JOIN assigned a USING (cluster_no) JOIN person_key k USING (empi_id)"""
    )
    # one number for an institution in a source: persons and institutions are then counted by numbers alone
    with in_order(connection):
        connection.execute(
            """CREATE OR REPLACE TABLE held AS
        WITH place AS (SELECT source_system, org_code, row_number() OVER () AS place_no
                       FROM (SELECT DISTINCT source_system, org_code FROM record)),
        numbered AS (SELECT n.*, p.place_no, r.source_system, r.org_code, r.identifier_value,
                            CASE WHEN r.id_own THEN r.idno END AS idno, r.card, r.insurance
                     FROM now n JOIN record r USING (rec_no) JOIN place p USING (source_system, org_code)),
        repeated AS (SELECT cluster_no, place_no FROM numbered
                     WHERE idno IS NOT NULL OR card IS NOT NULL OR insurance IS NOT NULL
                     GROUP BY ALL HAVING count(*) > 1)
        SELECT n.* EXCLUDE (place_no), r.cluster_no IS NOT NULL AS is_repeated
        FROM numbered n LEFT JOIN repeated r USING (cluster_no, place_no)
        ORDER BY n.empi_id, n.rec_no"""
        )


def _wanted() -> str:
    """SELECT text of the rows that must be open: of ``held``, one for each kind of number.

    Two registrations of a person at one institution may show the same number: only their rows are made distinct.
    """
    parts = []
    for kind, column in _KINDS.items():
        given = f"""SELECT empi_id, person_token, source_system, org_code, '{kind}' AS identifier_type,
            {column} AS identifier_value, NULL::DATE AS valid_from, NULL::DATE AS valid_to, link_cause
            FROM held WHERE {column} IS NOT NULL"""
        if kind == "MR":
            parts.append(given)
            continue
        parts.append(f"{given} AND NOT is_repeated")
        parts.append(
            f"SELECT * REPLACE (min(link_cause) AS link_cause) FROM ({given} AND is_repeated) GROUP BY ALL"
        )
    return " UNION ALL ".join(parts)


def build_crosswalk(
    connection: duckdb.DuckDBPyConnection, data_date: date, *, is_replayed: bool = False
) -> int:
    """Make ``now`` (record -> person) and ``crosswalk`` (the new ``silver/person_identifier``, history included).

    ``MR`` rows are the crosswalk proper: one open row per record. ``NI`` (trusted national id), ``HC`` (health
    card) and ``SN`` (insurance number) say by which numbers a source knows the person.

    Args:
        is_replayed: people changed persons since the last run: what an undo brings back is as it was.

    Returns:
        rows that are new or closed now; with none the crosswalk is the one that was.
    """
    _create_person_key(connection)
    _create_now(connection)
    day = as_date(data_date)
    _drop(connection)
    if not _count(
        connection, "previous"
    ):  # nothing to hold it against: it need not be made before it is written
        connection.execute(
            f"CREATE VIEW crosswalk AS SELECT * REPLACE ({day} AS valid_from) FROM ({_wanted()})"
        )
        return _count(connection, "crosswalk")
    if is_replayed:
        connection.execute(f"CREATE OR REPLACE TABLE wanted AS {_wanted()}")
        replay.into_wanted(connection)
        _join(connection, day, "wanted")
    else:
        _join(connection, day, f"({_wanted()})")
    open_ = "WHERE valid_to IS NULL"
    new = _count(connection, "crosswalk") - _count(connection, "previous")
    closed = _count(connection, f"previous {open_}") + new - _count(connection, f"crosswalk {open_}")
    return new + closed


def _join(connection: duckdb.DuckDBPyConnection, day: str, wanted: str) -> None:
    """Make ``crosswalk`` of ``previous`` and what is wanted (FROM text), range by range: no join holds all rows."""
    whose = {c: f"coalesce(p.{c}, w.{c}) AS {c}" for c in COLUMNS}
    whose["valid_from"] = f"coalesce(p.valid_from, {day}) AS valid_from"
    whose["valid_to"] = f"CASE WHEN w.empi_id IS NULL THEN greatest({day}, p.valid_from) END AS valid_to"
    same = " AND ".join(f"p.{c} = w.{c}" for c in _ROW)
    connection.execute("CREATE TABLE crosswalk AS SELECT * FROM previous LIMIT 0")
    with in_order(connection):
        for ids in _ranges(connection, _SLICE):
            connection.execute(
                f"""INSERT INTO crosswalk BY NAME
                SELECT * FROM (
                    SELECT * FROM previous WHERE valid_to IS NOT NULL AND {ids}
                    UNION ALL BY NAME
                    SELECT {", ".join(whose.values())}
                    FROM (SELECT * FROM previous WHERE valid_to IS NULL AND {ids}) p
                    FULL JOIN (SELECT * FROM {wanted} WHERE {ids}) w ON {same})
                ORDER BY empi_id"""
            )


def _ranges(connection: duckdb.DuckDBPyConnection, registrations: int) -> list[str]:
    """Conditions on ``empi_id``, each for the persons of about so many registrations, in order; together all."""
    ids = connection.execute(  # ``held`` lies in the order of ids
        f"SELECT DISTINCT empi_id FROM held WHERE rowid > 0 AND rowid % {registrations} = 0 ORDER BY empi_id"
    ).fetchall()
    bounds = [None, *(empi_id for (empi_id,) in ids), None]
    return [
        " AND ".join(
            [f"empi_id >= '{low}'"] * (low is not None) + [f"empi_id < '{high}'"] * (high is not None)
        )
        or "true"
        for low, high in pairwise(bounds)
    ]


def crosswalk_slices(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """SELECT texts of the rows of ``crosswalk`` by ranges of ids, in order: one range is in memory at a time.

    Each range is made a table first: DuckDB stands still for ever where it fetches from a union whose branches
    aggregate (seen four times at nine million records, never with fewer).
    """
    for ids in _ranges(connection, _FILE):
        connection.execute(f"CREATE OR REPLACE TABLE slice AS SELECT * FROM crosswalk WHERE {ids}")
        yield "SELECT * FROM slice"
    connection.execute("DROP TABLE slice")


def _count(connection: duckdb.DuckDBPyConnection, source: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {source}").fetchall()[0][0])


def _drop(connection: duckdb.DuckDBPyConnection) -> None:
    """Away with an earlier ``crosswalk``, be it a table or a view."""
    is_view = connection.execute(
        "SELECT view_name FROM duckdb_views() WHERE view_name = 'crosswalk' AND NOT internal"
    ).fetchall()
    connection.execute("DROP VIEW crosswalk" if is_view else "DROP TABLE IF EXISTS crosswalk")
