"""What the checks leave for the next one: findings with their amendments, counts by rule, and what they were found by.

``quality/finding`` is written whole by a full check; a day after it writes beside it only the findings that the day
changed (``lake.amended``), until they are so many that the whole is cheaper to read. ``quality/rule_count`` holds
evaluated and failed records per rule, table and institution; ``quality/check_state`` the signature of each rule on each
table, that of the engine, and the day of the last full check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
from deltalake import WriterProperties, write_deltalake

from lake import amended, duck, runs, tables
from lake.runs import Run
from quality.outputs import rows_sql

FINDING, COUNT, STATE = "quality/finding", "quality/rule_count", "quality/check_state"
KEY = "finding_id"
#: A rule on a table: (rule_id, table_name).
Pair = tuple[str, str]

#: Amendments beyond this share of the findings are folded in: readers pay for each of them.
_MOST_AMENDED = 0.2
#: Rows that are in memory as Arrow at once while they are written.
_BATCH = 50_000
#: Row groups of this many rows: a writer holds one in memory, and readers share them out.
_WRITER = WriterProperties(max_row_group_size=128 * 1024)
_STATE_COLUMNS = dict.fromkeys(("kind", "rule_id", "table_name", "value"), "VARCHAR")


@dataclass(frozen=True)
class Previous:
    """The check before: its run, and what it was made by. ``engine`` None: one of an older Medlake, without a state."""

    run: Run
    signatures: Mapping[Pair, str]
    engine: str | None
    full_on: date | None

    @property
    def finding_sql(self) -> str:
        """FROM text of its findings."""
        return tables.scan_sql(FINDING, self.run.versions[FINDING])


def previous(data_date: date) -> Previous | None:
    """The last checked run before a date, if any."""
    run = runs.previous_run(data_date)
    while run is not None and FINDING not in run.versions:
        run = runs.previous_run(run.data_date)
    if run is None:
        return None
    if STATE not in run.versions or COUNT not in run.versions:
        return Previous(run, {}, None, None)
    with duck.connect() as connection:
        scan = tables.scan_sql(STATE, run.versions[STATE])
        rows = connection.execute(f"SELECT kind, rule_id, table_name, value FROM {scan}").fetchall()
    signatures = {(rule_id, table): value for kind, rule_id, table, value in rows if kind == "rule"}
    told = {kind: value for kind, _, _, value in rows if kind != "rule"}
    return Previous(run, signatures, told["engine"], date.fromisoformat(told["full_on"]))


def write_state(
    connection: duckdb.DuckDBPyConnection, signatures: Mapping[Pair, str], engine: str, full_on: date
) -> int:
    """Keep what a check was made by. Returns the version."""
    rows = [("rule", rule, table, value) for (rule, table), value in sorted(signatures.items())]
    rows += [("engine", None, None, engine), ("full_on", None, None, full_on.isoformat())]  # type: ignore[list-item]
    return tables.overwrite(STATE, connection.sql(rows_sql(_STATE_COLUMNS, rows)).to_arrow_table())


def write_whole(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    """Write all findings of a query anew. Returns the version."""
    return _write(connection, sql, amends=False)


def write_changed(connection: duckdb.DuckDBPyConnection, changed: str, at: int) -> int | None:
    """Lay the findings of the temporary table ``changed`` over those of a version, with its own amendments.

    Returns:
        The new version; None where the whole must be written: the findings as last written whole are others by now, or
        the amendments have grown too many.
    """
    if not _same_base(at, tables.version(FINDING)):
        return None
    kept = f"SELECT * FROM {_amendments_sql(at)} ANTI JOIN (SELECT {KEY} FROM {changed}) USING ({KEY})"
    both = f"{kept} UNION ALL SELECT * FROM {changed}"
    row = connection.execute(f"SELECT count(*) FROM ({both})").fetchone()
    if row is None or row[0] > _MOST_AMENDED * _base_rows(at):
        return None
    return _write(connection, both, amends=True)


def _uris(at: int) -> list[str]:
    return list(tables.open_table(FINDING, at).file_uris())


def _amendments_sql(at: int) -> str:
    return amended.read(amended.files(_uris(at), amends=True), tables.column_types(FINDING, at))


def _same_base(one: int, other: int) -> bool:
    """Whether two versions stand on the same rows, so that amendments to one can be laid over the other."""
    if amended.key_of(tables.open_table(FINDING, one).metadata().partition_columns) is None:
        return False
    return amended.files(_uris(one), amends=False) == amended.files(_uris(other), amends=False)


def _base_rows(at: int) -> int:
    table = tables.open_table(FINDING, at)
    actions = pa.table(table.get_add_actions(flatten=True))
    sides = actions[f"partition.{amended.PREFIX}{KEY}"].to_pylist()
    counts = actions["num_records"].to_pylist()
    return sum(int(n) for n, is_amendment in zip(counts, sides, strict=True) if not is_amendment)


def _write(connection: duckdb.DuckDBPyConnection, sql: str, *, amends: bool) -> int:
    """Replace all amendments, or the whole. The query is asked again where storage must be written again."""
    tables.restrict()
    part = f"{amended.PREFIX}{KEY}"

    def put() -> None:
        rows = connection.execute(f'SELECT *, {str(amends).lower()} AS "{part}" FROM ({sql})')
        options: dict[str, Any] = {"predicate": f"{part} = true"} if amends else {}
        if not amends and tables.exists(FINDING):
            options["schema_mode"] = "overwrite"
        write_deltalake(
            str(tables.path(FINDING)),
            rows.to_arrow_reader(_BATCH),
            mode="overwrite",
            partition_by=[part],
            writer_properties=_WRITER,
            **options,
        )

    tables.storing(FINDING, None, put, repeats=True)
    return tables.version(FINDING)
