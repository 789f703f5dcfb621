"""Applying a plan: bronze, quarantine, silver, ledger. Each write is a Delta transaction of the batch.

Whatever was done before a kill is skipped when the same plan is applied again, so it may be applied until it
is through. An error (not a kill) undoes the batch: every table goes back to its pinned version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestion import conform, overlay, quarantine
from ingestion import plan as plans
from ingestion.conform import quoted
from ingestion.dedupe import marks_name
from ingestion.plan import Plan, TablePlan
from ingestion.stage import scan
from lake import duck, kill, ledger, tables
from lake.contracts import TableContract
from lake.errors import MedlakeError
from lake.log import logger

_ROWS = 100_000
_log = logger("ingestion")

#: The record's own word on whether it still exists.
_DELETED = {"is_deleted": "coalesce(\"_op\" = 'D', false)"}

UNMAPPED = "ops/unmapped_code"
NOTICES = "ops/ingest_notice"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


class _Statements:
    """The three selections of one table's staged rows."""

    def __init__(self, plan: Plan, table: TableContract, staged: TablePlan) -> None:
        self.plan, self.table, self.staged = plan, table, staged
        folder = plans.folder(plan)
        at = plan.received_at.astimezone(UTC).isoformat(" ")
        self.batch = f"DATE '{plan.data_date}' AS data_date, {_text(plan.batch_id)} AS batch_id, TIMESTAMPTZ '{at}' AS received_at"
        more, laid = overlay.joined(folder, table.name, staged.laid)
        self.rows = f"""(SELECT s.*, f.source_file, f.own_places, coalesce(m.duplicate, false) AS duplicate,
                coalesce(m.current, true) AS current{more}
            FROM {scan(folder, staged.parts)} s
            LEFT JOIN read_parquet({_text(str(folder / marks_name(table.name)))}) m USING (rid)
            JOIN files f USING (file_no) {laid})"""

    def _select(self, values: dict[str, str], columns: Iterable[str], where: str) -> str:
        picked = ", ".join(f"{values.get(n, quoted(n))} AS {quoted(n)}" for n in columns)
        return f"SELECT {picked} FROM (SELECT *, {self.batch} FROM {self.rows}) WHERE {where}"

    def bronze(self) -> str:
        raw = {f.name: quoted("r_" + f.name) for f in self.table.fields} | _DELETED
        return self._select(raw, self.table.bronze_schema().names, "err IS NULL AND NOT duplicate")

    def silver(self) -> str:
        plain = set(self.staged.plain)
        values = {
            f.name: conform.silver_value(f, self.staged.mapped, plain) for f in self.table.fields
        } | _DELETED
        values = overlay.over(self.table, values, self.staged.laid)
        query = self._select(values, self.table.silver_columns, "err IS NULL AND NOT duplicate AND current")
        in_order = self.staged.mode == "merge"  # see tables.merge
        return f"{query} ORDER BY {', '.join(map(quoted, self.table.full_key))}" if in_order else query

    def quarantine(self) -> str:
        record = ", ".join(f"{_text(f.physical_name)}: {quoted('r_' + f.name)}" for f in self.table.fields)
        # what the contract does not know belongs to the record: a header's unit says what its numbers mean; so does
        # that it was deleted
        whole = f"""CASE WHEN _op = 'D' THEN to_json({{{record}, '_extra': _extra, '_op': _op}})
            WHEN _extra IS NULL THEN to_json({{{record}}}) ELSE to_json({{{record}, '_extra': _extra}}) END"""
        raw = f"CAST({whole} AS VARCHAR) AS raw"
        place = """concat(source_file, CASE WHEN source_sheet IS NOT NULL THEN '!' || source_sheet ELSE '' END,
            CASE WHEN source_line IS NOT NULL THEN ':' || source_line ELSE '' END, ' ', source_field)"""
        values = {
            "feed": _text(self.plan.feed),
            "table_name": _text(self.table.name),
            "place": place,
            "errors": "q.all_errors",
            "raw": "q.raw",
        }
        picked = ", ".join(f"{values.get(n, quoted(n))} AS {quoted(n)}" for n in quarantine.SCHEMA.names)
        return f"""SELECT {picked} FROM (
            SELECT *, err AS all_errors, split_part(err, ',', 1) AS first, {raw},
                   {self.batch}
            FROM {self.rows} WHERE err IS NOT NULL) q JOIN reasons ON reasons.err = q.first AND reasons.own_places = q.own_places"""


def _reader(con: duck.duckdb.DuckDBPyConnection, sql: str, schema: pa.Schema) -> pa.RecordBatchReader:
    found = con.execute(sql).to_arrow_reader(_ROWS)
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in found))


def _apply_table(con: duck.duckdb.DuckDBPyConnection, plan: Plan, staged: TablePlan) -> None:
    table = staged.contract
    sql = _Statements(plan, table, staged)
    txn = (plan.batch_id, 1)
    bronze, silver, refused = staged.bronze, f"silver/{table.name}", staged.refused
    if staged.loaded and not tables.done(bronze, txn):
        tables.append(bronze, _reader(con, sql.bronze(), table.bronze_schema()), txn=txn)
    kill.point(f"ingest.bronze.{table.name}")
    if staged.quarantined and not tables.done(refused, (plan.batch_id + ":rows", 1)):
        folder = plans.folder(plan)
        codes = con.execute(
            f"SELECT DISTINCT split_part(err, ',', 1) FROM {scan(folder, staged.parts)} WHERE err IS NOT NULL"
        ).fetchall()
        con.register("reasons", quarantine.reasons(table, [c[0] for c in codes], plan.places))
        rows = _reader(con, sql.quarantine(), quarantine.SCHEMA)
        tables.append(refused, rows, txn=(plan.batch_id + ":rows", 1))
    kill.point(f"ingest.quarantine.{table.name}")
    if staged.mode != "none" and not tables.done(silver, txn):
        rows = _reader(con, sql.silver(), table.silver_schema())
        if staged.mode == "merge":
            tables.merge(silver, rows, key=table.full_key, txn=txn)
        else:
            tables.append(silver, rows, txn=txn)
    kill.point(f"ingest.silver.{table.name}")
    if staged.settles:
        overlay.write(plan, plans.folder(plan), table.name, "settled")
        kill.point(f"ingest.overlay.{table.name}")


def _apply_rejects(plan: Plan) -> None:
    folder = plans.folder(plan)
    if not plan.reject_tables:
        return
    found = pq.read_table(folder / "rejects.parquet")
    n = found.num_rows
    batch = {
        "data_date": pa.repeat(pa.scalar(plan.data_date, pa.date32()), n),
        "batch_id": pa.repeat(pa.scalar(plan.batch_id, pa.string()), n),
        "received_at": pa.repeat(pa.scalar(plan.received_at, pa.timestamp("us", tz="UTC")), n),
    }
    whole = pa.table(
        {k: batch.get(k, found[k] if k in found.column_names else None) for k in quarantine.SCHEMA.names}
    )
    for name in plan.reject_tables:
        rows = whole.filter(pc.equal(whole["table_name"], name)).cast(quarantine.SCHEMA)
        tables.append(plans.reject_table(plan.feed, name), rows, txn=(plan.batch_id + ":rejects", 1))


def _apply_side_tables(plan: Plan) -> None:
    """The inbox of unmapped codes and the notices: about the batch, so written once it is committed."""
    folder = plans.folder(plan)
    if plan.unmapped:
        rows = pq.read_table(folder / "unmapped.parquet")
        batch = pa.repeat(pa.scalar(plan.batch_id, pa.string()), rows.num_rows)
        tables.append(UNMAPPED, rows.append_column("batch_id", batch), txn=(plan.batch_id, 1))
    if plan.notices:
        tables.append(NOTICES, notice_rows(plan), txn=(plan.batch_id, 1))


def notice_rows(plan: Plan) -> pa.Table:
    """Notices (unknown and missing columns, trailers that do not add up) with their texts."""
    rows = []
    for n in plan.notices:
        place = quarantine.place_text(n["file"], n["sheet"], None)
        error = MedlakeError(n["code"], place=place, **n["context"])
        rows.append(
            {
                "batch_id": plan.batch_id,
                "feed": plan.feed,
                "data_date": plan.data_date.isoformat(),
                "org_code": n["org_code"],
                "source_file": n["file"],
                "place": place,
                "notice_code": n["code"],
                "text_zh": error.zh,
                "text_en": error.en,
                "remedy_zh": error.remedy_zh,
                "remedy_en": error.remedy_en,
                "context": json.dumps(n["context"], ensure_ascii=False),
            }
        )
    return pa.Table.from_pylist(rows)


def apply(plan: Plan) -> dict[str, int]:
    """Make a staged batch visible; returns its totals. The caller holds the tables (``locking.writing``).

    Raises:
        MedlakeError: E105, a line does not balance. This and any other error leave the batch undone.
    """
    batch = ledger.begin(
        plan.batch_id,
        plan.feed,
        plan.data_date,
        contract_version=plan.contract_version,
        writes=plan.writes(),
        received_at=plan.received_at,
        files=[{k: v for k, v in f.items() if k not in ("number", "own_places")} for f in plan.files],
    )
    kill.point("ingest.begun")
    plan = replace(plan, batch_id=batch.batch_id)
    if batch.state != "committed":
        try:
            with duck.connect() as con:
                con.register("files", _file_numbers(plan))
                for staged in plan.tables:
                    _apply_table(con, plan, staged)
            _apply_rejects(plan)
            for name in plan.corrected:
                overlay.write(plan, plans.folder(plan), name, "handed")
                kill.point(f"ingest.overlay.{name}")
        except BaseException as error:
            # the plan goes first: its transactions stay in the logs of tables that are taken back, so nobody may
            # apply it again. A batch that dies in its undoing is open and without a plan, and is undone by the next
            plans.discard(plans.folder(plan))
            ledger.undo(batch, reason=type(error).__name__)
            raise
        kill.point("ingest.written")
        total = ledger.commit(batch, plan.lines, plan.announced)
    else:
        total = plan.totals()
    kill.point("ingest.committed")
    _apply_side_tables(plan)
    plans.discard(plans.folder(plan))
    _compact(plan)
    return total


def _compact(plan: Plan) -> None:
    """Few large files instead of the many small ones of a receiver's micro-batches."""
    for name in plan.writes():
        if tables.exists(name) and tables.compact(name):
            ledger.show(name)


def _file_numbers(plan: Plan) -> pa.Table:
    files = plan.files
    return pa.table(
        {
            "file_no": pa.array([f["number"] for f in files], pa.int32()),
            "source_file": pa.array([f["path"] for f in files], pa.string()),
            "own_places": pa.array([f["own_places"] for f in files], pa.bool_()),
        }
    )
