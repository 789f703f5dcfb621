"""Resources to typed rows, set by set: what the resources of a delivery say now, less what they said before.

A table's row may come from a part of a resource, and its key may need another resource (a laboratory result is
numbered within the report that lists it). So the rows of the resources as they are now are compared with the rows
of the same resources as silver's ``fhir_resource`` holds them: rows that are no more become tombstones.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from ingestion.conform import quoted
from ingestion.readers.base import LandedFile, Sink
from ingestion.readers.fhir import versions
from ingestion.readers.fhir.mapping import Mapping, mappings, query
from ingestion.readers.fhir.staged import Collected
from lake.contracts import table_contract

_ROWS = 50_000


def hand_over(con: duckdb.DuckDBPyConnection, files: list[LandedFile], found: Collected, sink: Sink) -> None:
    """Give the typed rows of all collected resources to the sink, tombstones first."""
    if not found.parts or not mappings():
        return
    versions.prepare(con, found)
    places = {k: v for m in mappings() for k, v in m.places().items()}
    for file in files:
        if file.number in found.counts:
            sink.places(file, places)
    by_table: dict[str, list[Mapping]] = {}
    for m in mappings():
        by_table.setdefault(m.table, []).append(m)
    present = {row[0] for row in con.execute("SELECT DISTINCT resource_type FROM chosen").fetchall()}
    present |= {row[0] for row in con.execute("SELECT DISTINCT resource_type FROM relinked").fetchall()}
    for table, entries in by_table.items():
        wanted = [m for m in entries if m.resource in present]
        if wanted:
            _table(con, files[0], table, wanted, found, sink)


def _union(table: str, entries: list[Mapping], sources: dict[str, str], links: str) -> str:
    """All rows of a table; a column that an entry does not fill is null."""
    names = [f.name for f in table_contract(table).fields]
    filled = [n for n in names if any(n in m.fields for m in entries)]
    parts = []
    for m in entries:
        columns = ", ".join(quoted(n) if n in m.fields else f"NULL::VARCHAR AS {quoted(n)}" for n in filled)
        rows = query(m, sources[m.resource], links)
        parts.append(f"SELECT file_no, source_line, org_code, _extra, {columns} FROM ({rows})")
    return " UNION ALL ".join(parts)


def _table(
    con: duckdb.DuckDBPyConnection,
    file: LandedFile,
    table: str,
    entries: list[Mapping],
    found: Collected,
    sink: Sink,
) -> None:
    key = ", ".join(quoted(n) for n in table_contract(table).full_key)
    now = _union(table, entries, {m.resource: versions.current(found, m.resource) for m in entries}, "links")
    row = con.execute("SELECT count(*) FROM previous").fetchone()
    if row and row[0]:
        sources = {m.resource: versions.previous(m.resource) for m in entries}
        before = _union(table, entries, sources, "links_before")
        gone = f"SELECT *, 'D' AS _op FROM ({before}) ANTI JOIN (SELECT {key} FROM ({now})) USING ({key})"
        _stream(con, file, table, gone, sink)
    _stream(con, file, table, f"SELECT *, 'U' AS _op FROM ({now})", sink)


def _stream(con: duckdb.DuckDBPyConnection, file: LandedFile, table: str, sql: str, sink: Sink) -> None:
    for batch in con.execute(sql).to_arrow_reader(_ROWS):
        if batch.num_rows:
            sink.rows(file, table, pa.Table.from_batches([batch]))
