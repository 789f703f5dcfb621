"""Extracts from source databases: increments by watermark, whole snapshots that find deletes; both end as drop files.

The drop file ``<table>_extract_<run>_<what>.parquet`` holds the source's values as text; ``medlake ingest`` takes it
like any other delivery. Only when it is durable does the frontier move, so a kill costs a repeated read, never a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from ingestion.pull import database_keys as keys_
from ingestion.pull import database_read, database_sources, database_sql, database_state
from ingestion.pull.database_drop import chunks, durable, visible
from ingestion.pull.database_keys import HASH, OP, hash_of, literal, quoted
from ingestion.pull.database_sources import Extract, Source
from ingestion.pull.database_sql import KEY, SETTLED, WATERMARK, Frontier, Relation
from ingestion.pull.database_state import State
from lake import duck, kill
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings

_log = logger("ingestion")


@dataclass
class _Run:
    """One table of one run."""

    source: Source
    extract: Extract
    state: State
    relation: Relation
    data_date: date
    told: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return keys_.folder(self.source.name, self.extract.table.name)

    def target(self, what: str) -> Path:
        name = f"{self.extract.table.name}_extract_{self.source.name}_{self.state.run:06d}_{what}.parquet"
        made = (
            settings().sources_dir
            / self.data_date.isoformat()
            / self.source.feed
            / self.source.org_code
            / name
        )
        made.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return made


def _frontier(chunk: pa.Table, keys: int) -> Frontier | None:
    """The last settled row of a chunk; the rows are in order, so it ends the settled ones."""
    settled = chunk.num_rows - chunk[SETTLED].null_count
    if not settled:
        return None
    row = chunk.slice(settled - 1, 1).to_pylist()[0]
    return Frontier(row[WATERMARK], tuple(row[f"{KEY}{i}"] for i in range(keys)))


def _increment(run: _Run, reader: database_read.Reader) -> None:
    newest, clock = reader.row(run.relation.newest())
    now = run.relation.local_now(clock, run.source.time_zone)
    bound = database_sql.settled_bound(newest, now, run.extract.overlap) if newest is not None else None
    marked: Iterator[pa.RecordBatch] = iter(())
    if bound is not None:
        marked = reader.since(run.relation, run.extract, run.state.frontier, bound)
    unmarked = reader.unmarked(run.relation)
    rows = without = 0
    pieces = chain(
        ((True, c) for c in chunks(marked, run.extract.chunk_rows)),
        ((False, c) for c in chunks(unmarked, run.extract.chunk_rows)),
    )
    for number, (is_marked, chunk) in enumerate(pieces):
        rows += chunk.num_rows
        without += 0 if is_marked else chunk.num_rows
        _deliver_chunk(run, chunk, number)
        if is_marked and (found := _frontier(chunk, len(run.relation.contract.key))):
            run.state.frontier = found
            run.state.save()
        kill.point("extract.chunk")
    run.told |= {"rows": rows, "changed": rows, "deleted": 0, "without_watermark": without}


def _deliver_chunk(run: _Run, chunk: pa.Table, number: int) -> None:
    """The drop file first, then what we know of its rows: the other way round a kill would hide them from a diff."""
    shown = visible(chunk, run.relation, run.source.time_zone)
    target = run.target(f"inc_{number:04d}")
    draft = target.with_name(f"{target.name}.part")
    pq.write_table(shown, draft, compression="zstd", row_group_size=50_000)
    durable(draft, target)
    run.files.append(target.name)
    kill.point("extract.dropped")
    with duck.connect() as con:
        con.register("chunk", shown)
        columns = ", ".join(map(quoted, run.relation.key_output))
        query = f"SELECT DISTINCT {columns}, {hash_of(run.relation.output)} AS {HASH} FROM chunk"
        keys_.write(con, query, run.folder / f"keys-{run.state.run:06d}-{number:04d}.parquet")


def _write_snapshot(run: _Run, reader: database_read.Reader, target: Path) -> int:
    rows = 0
    schema = pa.schema([(n, pa.string()) for n in run.relation.output])
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for chunk in chunks(reader.snapshot(run.relation), 20_000):
            writer.write_table(visible(chunk, run.relation, run.source.time_zone).cast(schema))
            rows += chunk.num_rows
    target.chmod(0o600)
    return rows


def _snapshot(run: _Run, reader: database_read.Reader, accept_deletes: bool) -> None:
    taken = run.folder / ".snapshot.part"
    rows = _write_snapshot(run, reader, taken)
    kill.point("extract.snapshot")
    keys = run.relation.key_output
    columns = ", ".join(map(quoted, run.relation.output))
    hashed = (
        f"(SELECT {columns}, {hash_of(run.relation.output)} AS {HASH} FROM read_parquet({literal(taken)}))"
    )
    with duck.connect() as con:
        gone, known = keys_.compare(con, hashed, run.folder, keys)
        if gone > run.extract.max_delete_share * known and not accept_deletes:
            raise MedlakeError(
                "E277", place=f"{run.source.name}.{run.extract.table.name}", gone=gone, known=known
            )
        changed = _count(con, "changed")
        if changed or gone:
            _deliver_diff(con, run, hashed, keys)
        kill.point("extract.dropped")
        keys_.write(
            con,
            f"SELECT {', '.join(map(quoted, keys))}, {HASH} FROM new",
            run.folder / f"keys-{run.state.run:06d}.parquet",
        )
    taken.unlink()
    keys_.sweep(run.folder)
    run.told |= {"rows": rows, "changed": changed, "deleted": gone, "without_watermark": 0}


def _count(con: duck.duckdb.DuckDBPyConnection, table: str) -> int:
    row = con.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


def _deliver_diff(con: duck.duckdb.DuckDBPyConnection, run: _Run, hashed: str, keys: list[str]) -> None:
    """New and changed rows whole, deleted ones by their key alone."""
    same = " AND ".join(f"s.{quoted(k)} IS NOT DISTINCT FROM c.{quoted(k)}" for k in keys)
    picked = ", ".join(quoted(c) for c in run.relation.output)
    keyed = ", ".join(f"{quoted(c)}" if c in keys else f"NULL AS {quoted(c)}" for c in run.relation.output)
    query = f"""SELECT {picked}, 'U' AS {OP} FROM {hashed} s SEMI JOIN changed c ON {same} AND s.{HASH} = c.{HASH}
        UNION ALL SELECT {keyed}, 'D' AS {OP} FROM gone"""
    target = run.target("full")
    draft = target.with_name(f"{target.name}.part")
    con.execute(
        f"COPY ({query}) TO {literal(draft)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 50000)"
    )
    durable(draft, target)
    run.files.append(target.name)


def _columns_told(
    source: Source, extract: Extract, state: State, relation: Relation, accept: bool
) -> dict[str, Any]:
    """What became of the columns since the last run.

    Raises:
        MedlakeError: E276, one that was read is gone and nobody has accepted that.
    """
    before = state.columns
    gone = sorted(set(before) - set(relation.columns)) if before else []
    new = sorted(set(relation.columns) - set(before)) if before else []
    if gone and not accept:
        raise MedlakeError(
            "E276",
            place=f"{source.name}.{extract.table.name}",
            gone="、".join(gone),
            new="、".join(new) or "—",
        )
    changed = sorted(c for c, t in relation.columns.items() if before.get(c, t) != t)
    return {
        "columns_new": new,
        "columns_gone": gone,
        "types_changed": changed,
        "columns_unknown": list(relation.others),
    }


def run(
    source_name: str,
    data_date: date,
    *,
    table: str | None = None,
    full: bool = False,
    accept_columns: bool = False,
    accept_deletes: bool = False,
) -> list[dict[str, Any]]:
    """Extract the tables of a source into the drop of a date.

    Args:
        table: this one only.
        full: a snapshot even where there is a watermark; tables without one are always read whole.
        accept_columns, accept_deletes: go on where E276 or E277 would stop.

    Returns:
        per table: source, table, mode, rows read, changed, deleted, files, and what became of the columns.

    Raises:
        MedlakeError: E274 register, E275 source, E276 columns, E277 deletes, E278 running elsewhere.
    """
    source = database_sources.source(source_name)
    wanted = [source.extract(table)] if table else list(source.extracts)
    return [_run_table(source, e, data_date, full, accept_columns, accept_deletes) for e in wanted]


def _run_table(
    source: Source, extract: Extract, data_date: date, full: bool, accept_columns: bool, accept_deletes: bool
) -> dict[str, Any]:
    place = f"{source.name}.{extract.table.name}"
    directory = keys_.folder(source.name, extract.table.name)
    try:
        with FileLock(directory / "lock", timeout=0), database_read.opened(source) as (reader, engine):
            state = database_state.load(source.name, extract.table.name)
            relation = database_sql.find(engine, source, extract)
            told = _columns_told(source, extract, state, relation, accept_columns)
            state.run += 1
            state.columns = relation.columns
            state.save()
            made = _Run(source, extract, state, relation, data_date, told)
            whole = full or extract.watermark is None
            if whole:
                _snapshot(made, reader, accept_deletes)
            else:
                _increment(made, reader)
    except Timeout:
        raise MedlakeError("E278", place=place) from None
    _log.info(
        "extracted",
        feed=source.feed,
        table=extract.table.name,
        org_code=source.org_code,
        rows=made.told["rows"],
    )
    mode = "snapshot" if whole else "increment"
    return {
        "source": source.name,
        "table": extract.table.name,
        "mode": mode,
        **made.told,
        "files": made.files,
    }


def sources() -> list[dict[str, Any]]:
    """One row per registered table: where it comes from, how far it is read. No password, no address's secrets."""
    rows = []
    for source in database_sources.load():
        for e in source.extracts:
            state = database_state.load(source.name, e.table.name)
            rows.append(
                {
                    "source": source.name,
                    "database": re.sub(r"\+\w+", "", source.url.drivername),
                    "host": source.url.host,
                    "org_code": source.org_code,
                    "feed": source.feed,
                    "table": e.table.name,
                    "relation": e.relation,
                    "watermark": e.watermark or "—",
                    "read_up_to": state.frontier.watermark if state.frontier else "—",
                    "runs": state.run,
                    "last_run": database_state.updated_at(source.name, e.table.name),
                }
            )
    return rows
