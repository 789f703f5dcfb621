"""The rows of an export into one table on disk, in order, in little memory whatever their number.

First the template's own rows, and their numbers in order; then what stands beside each of them (a resident, a newest
visit), looked up by the row's number with nothing wide in memory; at last the columns, part by part. To sort what the
joins made would be to hold it all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb

from lake import audit, registry
from products.exports.query import Compiled, code_sql

#: Small row groups: one is in memory, uncompressed, while it is written.
_STORED = "ROW_GROUP_SIZE 16384, STORAGE_VERSION 'latest'"
#: DuckDB's share: what an export of 40 columns needs, and what a wider one is given when that was too little.
MEMORY = ("48MB", "96MB", "192MB", "384MB")
#: Rows of a part: of one row group, which is then written whole.
_PART = 16_384
_KINDS = {"number": "DOUBLE", "date": "DATE", "instant": "TIMESTAMP"}


def gather(
    con: Any, compiled: Compiled, path: Path, counted_as: Callable[[int], None]
) -> tuple[int, int, audit.Parts | None]:
    """Make the table ``job(c0, c1, ...)`` in a database of its own at ``path``; the connection then works in that.

    Args:
        counted_as: told the rows planned before they are fetched.

    Returns:
        rows planned, counted on the template's own table without any join; rows that no condition could decide; who
        gives the index numbers of the residents whose rows they are, while the connection is open (None: nobody's).
    """
    quoted = str(path).replace("'", "''")
    con.execute("SET preserve_insertion_order = true; SET enable_progress_bar = false")
    con.execute(f"ATTACH '{quoted}' AS work ({_STORED}); USE work")
    if not compiled.is_there:
        listed = ", ".join(f"c{n} {_KINDS.get(h.kind, 'VARCHAR')}" for n, h in enumerate(compiled.headers))
        con.execute(f"CREATE TABLE job ({listed})")
        counted_as(0)
        return 0, 0, None
    _do(con, f"CREATE TABLE org_register AS {registry.orgs_sql()}")
    for name, system in compiled.codes.items():
        _do(con, f"CREATE TABLE {name} AS {code_sql(system)}")
    planned = int(con.execute(compiled.count_sql).fetchone()[0])
    unknown = int(con.execute(compiled.unknown_sql).fetchone()[0])
    counted_as(planned)
    _do(con, f"CREATE TABLE picked AS {compiled.picked_sql}")
    _do(con, f"CREATE TABLE ordered AS {compiled.order_sql}")
    for name, sql in compiled.beside.items():
        _do(con, f"CREATE TABLE {name} AS {sql}")
    for first in range(0, max(planned, 1), _PART):
        # the texts hold braces of their own (masks are patterns)
        part = compiled.part_sql.replace("{first}", str(first)).replace("{last}", str(first + _PART))
        _do(con, f"INSERT INTO job {part}" if first else f"CREATE TABLE job AS {part}")
    if "p" in compiled.beside:
        _do(con, "CREATE TABLE whose AS SELECT DISTINCT empi_id FROM p")
    for name in ("picked", "ordered", *compiled.beside):
        con.execute(f"DROP TABLE {name}")
    return planned, unknown, (lambda: residents(con)) if "p" in compiled.beside else None


def _do(con: Any, sql: str) -> None:
    """Run a statement in as little memory as it can do with: what fails for want of it is undone, and is done with more."""
    for memory in MEMORY:
        try:
            con.execute(f"SET memory_limit = '{memory}'")
            con.execute(sql)
            return
        except duckdb.OutOfMemoryException:
            if memory == MEMORY[-1]:
                raise


def residents(con: Any) -> Iterator[Sequence[str]]:
    """Index numbers in the table ``whose``, as the audit log takes them (``lake.audit.Parts``)."""
    rows = con.execute("SELECT DISTINCT empi_id FROM whose ORDER BY empi_id")
    while part := rows.fetchmany(audit.PART):
        yield [empi_id for (empi_id,) in part]
