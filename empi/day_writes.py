"""A day's persons into Delta: their rows take the place of what the visible version says of them.

The crosswalk only grows, and a day mostly adds to it: new rows are a file more, and the few files that hold a row which
is closed now are written anew. The person table has one row each, spread over all its files by the opaque id: those
are copied with the touched persons left out, a plain scan and no join of the rest.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from lake import copies, tables

#: What makes a row of the crosswalk; only ``valid_to`` ever changes.
_ROW = ("empi_id", "identifier_type", "source_system", "org_code", "identifier_value", "valid_from")


def _restored(name: str, visible: int) -> None:
    """A killed run may have left a version that nobody sees: it does not count."""
    if tables.version(name) != visible:
        tables.restore(name, visible)


def write_identifier(connection: duckdb.DuckDBPyConnection, name: str, visible: int) -> int:
    """Write ``crosswalk``, the whole history of ``touched_person``. Returns the table's version.

    The rows it differs in are found against ``previous``, what the visible version says of those persons.
    """
    _restored(name, visible)
    columns = ", ".join(r[0] for r in connection.execute("DESCRIBE crosswalk").fetchall())
    key = ", ".join(_ROW)
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_row AS
        SELECT *, valid_to IS NOT NULL AND ({key}) IN (SELECT ({key}) FROM previous WHERE valid_to IS NULL) AS is_closing
        FROM (SELECT {columns} FROM crosswalk EXCEPT SELECT {columns} FROM previous)"""
    )
    if not connection.execute("SELECT count(*) FROM day_row").fetchall()[0][0]:
        return tables.version(name)
    copy = copies.Copy(connection, name)
    for path in _holding(connection, name):
        # a row that was closed and opened again on one day is there twice: only the open one is closed
        scan, opened = f"read_parquet('{tables.path(name) / path}')", f"valid_to IS NULL AND ({key}) IN"
        copy.add(
            f"""SELECT {columns} FROM {scan} WHERE NOT ({opened} (SELECT ({key}) FROM day_row WHERE is_closing))
            UNION ALL SELECT {columns} FROM day_row
            WHERE is_closing AND ({key}) IN (SELECT ({key}) FROM {scan} WHERE valid_to IS NULL) ORDER BY empi_id""",
            bounds=("empi_id",),
        )
        copy.without([path])
    copy.add(f"SELECT {columns} FROM day_row WHERE NOT is_closing ORDER BY {key}", bounds=("empi_id",))
    return copy.commit("append")


def _holding(connection: duckdb.DuckDBPyConnection, name: str) -> list[str]:
    """Paths of the files that hold an open row which ``day_row`` closes."""
    connection.register("file_arrow", tables.bounds(name, "empi_id"))
    near = connection.execute(
        """SELECT path FROM file_arrow f WHERE low IS NULL OR high IS NULL OR EXISTS (
            SELECT 1 FROM day_row r WHERE r.is_closing AND r.empi_id BETWEEN f.low AND f.high)"""
    ).fetchall()
    connection.unregister("file_arrow")
    if not near or not connection.execute("SELECT count(*) FROM day_row WHERE is_closing").fetchall()[0][0]:
        return []
    root, key = tables.path(name), ", ".join(_ROW)
    found = connection.execute(
        f"""SELECT DISTINCT filename FROM read_parquet({[str(root / path) for (path,) in near]}, filename = true)
        WHERE valid_to IS NULL AND ({key}) IN (SELECT ({key}) FROM day_row WHERE is_closing) ORDER BY ALL"""
    ).fetchall()
    return [str(Path(path).relative_to(root)) for (path,) in found]


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
