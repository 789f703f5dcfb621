"""A day's persons into Delta: their rows take the place of what the visible version says of them.

The crosswalk only grows, and a day mostly adds to it, so new rows are appended; rows that were closed are merged in,
which rewrites the files they lie in. The person table has one row each, spread over all its files by the opaque id:
those are copied with the touched persons left out, a plain scan and no join of the rest.
"""

from __future__ import annotations

import duckdb

from lake import copies, kill, tables

#: What makes a row of the crosswalk; only ``valid_to`` ever changes.
_ROW = ("empi_id", "identifier_type", "source_system", "org_code", "identifier_value", "valid_from")
#: A row that was closed and opened again on one day is there twice: only the open one is closed.
_OPEN = "t.valid_to IS NULL"
_BATCH = 200_000


def _restored(name: str, visible: int) -> None:
    """A killed run may have left a version that nobody sees: it does not count."""
    if tables.version(name) != visible:
        tables.restore(name, visible)


def write_identifier(connection: duckdb.DuckDBPyConnection, name: str, visible: int) -> int:
    """Write ``crosswalk``, the whole history of ``touched_person``. Returns the table's version.

    The rows it differs in are found against the visible version, whatever was replayed since.
    """
    _restored(name, visible)
    columns = ", ".join(r[0] for r in connection.execute("DESCRIBE crosswalk").fetchall())
    key = ", ".join(_ROW)
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_shown AS
        SELECT {columns} FROM {tables.scan_sql(name, visible)} SEMI JOIN touched_person USING (empi_id)"""
    )
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_row AS
        SELECT *, valid_to IS NOT NULL AND ({key}) IN (SELECT ({key}) FROM day_shown WHERE valid_to IS NULL) AS is_closing
        FROM (
            SELECT {columns} FROM crosswalk EXCEPT SELECT {columns} FROM day_shown)"""
    )
    closed = f"SELECT {columns} FROM day_row WHERE is_closing ORDER BY {key}"
    added = f"SELECT {columns} FROM day_row WHERE NOT is_closing ORDER BY {key}"
    at = tables.version(name)
    if connection.execute("SELECT count(*) FROM day_row WHERE is_closing").fetchall()[0][0]:
        at = tables.merge(name, connection.execute(closed).to_arrow_reader(_BATCH), key=_ROW, newer=_OPEN)
        kill.point("empi.crosswalk_closed")
    if connection.execute("SELECT count(*) FROM day_row WHERE NOT is_closing").fetchall()[0][0]:
        at = tables.append(name, connection.execute(added).to_arrow_table())
    return at


def write_person(connection: duckdb.DuckDBPyConnection, name: str, visible: int) -> int:
    """Write ``person``, all rows of ``touched_person`` and of new persons. Returns the table's version."""
    _restored(name, visible)
    columns = ", ".join(r[0] for r in connection.execute("DESCRIBE person").fetchall())
    scan = tables.scan_sql(name, visible)
    if not connection.execute("SELECT count(*) FROM assigned WHERE is_new").fetchall()[0][0]:
        connection.execute(
            f"CREATE OR REPLACE TABLE day_shown AS SELECT {columns} FROM {scan} SEMI JOIN touched_person USING (empi_id)"
        )
        differs = f"""SELECT count(*) FROM (
            (SELECT {columns} FROM person EXCEPT SELECT {columns} FROM day_shown)
            UNION ALL (SELECT {columns} FROM day_shown EXCEPT SELECT {columns} FROM person))"""
        if not connection.execute(differs).fetchall()[0][0]:
            return tables.version(name)
    copy = copies.Copy(connection, name)
    copy.add(f"SELECT {columns} FROM {scan} ANTI JOIN touched_person USING (empi_id)")
    copy.add(f"SELECT {columns} FROM person")
    return copy.commit("overwrite")
