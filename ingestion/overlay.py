"""Corrections that institutions handed in, laid over silver until the source itself carries the value.

``overlay/<table>`` (Delta) holds one row per correction: what the source said (``source_value``), what is right
(``value_after``), and its state: ``waiting_for_source`` (待源系统更正: silver shows ``value_after``), ``confirmed``
(the source delivered it), ``superseded`` (the source delivered a third value or deleted the record: the source wins),
``replaced`` (a later hand-in for the same cell). All but the first are final. Values are texts as DuckDB writes them.

It is written under the lock of its table, pinned and undone with the batch, and computed from what is delivered and
what silver holds, so the same deliveries in the same order give the same rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion import conform
from ingestion.fields import quoted
from ingestion.readers.base import Reject
from ingestion.stage import Stage, scan
from lake import tables
from lake.contracts import TableContract, table_contract
from lake.correction_book import record_key_sql

if TYPE_CHECKING:
    from ingestion.plan import Plan

FEED = "correction"
WAITING = "waiting_for_source"
SCHEMA = pa.schema(
    [(n, pa.string()) for n in ("correction_id", "org_code", "record_key", "key_json", "field", "source_value",
                                "value_after", "state")]
    + [(n, pa.date32()) for n in ("handed_in_on", "settled_on")]
)  # fmt: skip
_COLUMNS = ", ".join(SCHEMA.names)


def name(table: str) -> str:
    """Delta name of a table's corrections; its lock is the table's own."""
    return f"overlay/{table}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _key_json(keys: list[str], alias: str) -> str:
    return f"CAST(to_json([{', '.join(f'CAST({alias}.{quoted(k)} AS VARCHAR)' for k in keys)}]) AS VARCHAR)"


def waiting_sql(table: str) -> str:
    """The waiting corrections of a table, newest version, for a FROM clause."""
    if not tables.exists(name(table)):
        empty = ", ".join(
            f"NULL::{'DATE' if f.type == pa.date32() else 'VARCHAR'} AS {f.name}" for f in SCHEMA
        )
        return f"(SELECT {empty} WHERE false)"
    return f"(SELECT {_COLUMNS} FROM {tables.scan_sql(name(table))} WHERE state = '{WAITING}')"


def _save(con: duckdb.DuckDBPyConnection, sql: str, path: Path) -> int:
    found = con.execute(sql).to_arrow_table().cast(SCHEMA)
    pq.write_table(found, path)
    return int(found.num_rows)


# what a source delivers


def mark(
    con: duckdb.DuckDBPyConnection,
    table: TableContract,
    mapped: list[str],
    plain: set[str],
    directory: Path,
    parts: list[str],
    made: Plan,
) -> tuple[list[str], bool]:
    """Hold the current rows of a batch against the waiting corrections (``marks`` of ``dedupe.mark`` is there).

    Writes ``<table>.laid.parquet`` (``rid``, per field whether and what to lay over it) and ``<table>.settled.parquet``
    (corrections that the batch settles).

    Returns:
        the fields with something to lay over, and whether any correction is settled.
    """
    if not tables.exists(name(table.name)):
        return [], False
    con.execute("SET TimeZone = 'UTC'")
    con.execute(f"CREATE OR REPLACE TEMP TABLE ov AS SELECT * FROM {waiting_sql(table.name)}")
    present = {f.name for f in table.fields}
    fields = [r[0] for r in con.execute("SELECT DISTINCT field FROM ov ORDER BY 1").fetchall()]
    fields = [f for f in fields if f in present]
    if not fields:
        return [], False
    keys = [f for f in table.fields if f.is_key]
    typed = ", ".join(f"{_text(f.name)}: {conform.silver_value(f, mapped, plain)}" for f in keys)
    said = "CASE o.field " + " ".join(
        f"WHEN {_text(f)} THEN CAST({conform.silver_value(table.field(f), mapped, plain)} AS VARCHAR)"
        for f in fields
    )  # fmt: skip
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE met AS
        SELECT o.*, s.rid, s._op IS NOT DISTINCT FROM 'D' AS gone, {said} END AS now
        FROM (SELECT *, {_key_json(table.key, "k")} AS kj FROM (SELECT *, {{{typed}}} AS k
              FROM {scan(directory, parts)} LEFT JOIN marks USING (rid)
              WHERE err IS NULL AND NOT coalesce(duplicate, false) AND coalesce(current, true)
                AND org_code IN (SELECT org_code FROM ov))) s
        JOIN ov o ON o.org_code = s.org_code AND o.key_json = s.kj""")
    stays = "NOT gone AND now IS NOT DISTINCT FROM source_value"
    settled = _save(
        con,
        f"""SELECT * EXCLUDE (gone, now) REPLACE (CASE WHEN NOT gone AND now IS NOT DISTINCT FROM value_after THEN 'confirmed'
                ELSE 'superseded' END AS state, DATE '{made.data_date}' AS settled_on)
            FROM (SELECT {_COLUMNS}, gone, now FROM met WHERE NOT ({stays}))""",
        directory / f"{table.name}.settled.parquet",
    )
    laid = [r[0] for r in con.execute(f"SELECT DISTINCT field FROM met WHERE {stays} ORDER BY 1").fetchall()]
    if laid:
        picked = ", ".join(
            f"bool_or(field = {_text(f)}) AS {quoted('has_' + f)}, "
            f"max(value_after) FILTER (field = {_text(f)}) AS {quoted('ov_' + f)}"
            for f in laid
        )
        target = str(directory / f"{table.name}.laid.parquet").replace("'", "''")
        con.execute(
            f"COPY (SELECT rid, {picked} FROM met WHERE {stays} GROUP BY rid) TO '{target}' (FORMAT parquet)"
        )
    return laid, settled > 0


def joined(directory: Path, table: str, laid: list[str]) -> tuple[str, str]:
    """Further columns and the join that bring what is laid over staged rows ``s``."""
    if not laid:
        return "", ""
    path = _text(str(directory / f"{table}.laid.parquet"))
    return ", o.* EXCLUDE (rid)", f"LEFT JOIN read_parquet({path}) o USING (rid)"


def over(table: TableContract, values: dict[str, str], laid: list[str]) -> dict[str, str]:
    """Silver's values with the corrections over them."""
    return values | {
        f: f"CASE WHEN {quoted('has_' + f)} THEN CAST({quoted('ov_' + f)} AS {table.field(f).duck_type}) ELSE {values[f]} END"
        for f in laid
    }


# what an institution hands in


def touched(stage: Stage) -> list[str]:
    """Delta tables that hand-ins of this delivery may change."""
    if FEED not in stage.parts:
        return []
    source = scan(stage.directory, stage.parts[FEED])
    found = stage.connection.execute(
        f"SELECT DISTINCT r_table_name FROM {source} WHERE err IS NULL"
    ).fetchall()
    return [n for (t,) in sorted(found) for n in (f"silver/{t}", name(t))]


def _tables(stage: Stage) -> list[str]:
    return [n.split("/")[1] for n in touched(stage) if n.startswith("silver/")]


def refuse(stage: Stage) -> None:
    """Take out hand-ins whose record is not there (E438) or was changed by its source meanwhile (E434).

    A correction that is in already is left for ``dedupe`` to find.
    """
    names = _tables(stage)
    if not names:
        return
    con, source = stage.connection, scan(stage.directory, stage.parts[FEED])
    con.execute("SET TimeZone = 'UTC'")
    con.execute("CREATE OR REPLACE TEMP TABLE refused (rid BIGINT, code VARCHAR)")
    known = (
        f"SELECT org_code, correction_id FROM {tables.scan_sql('silver/correction')}"
        if tables.exists("silver/correction")
        else "SELECT '' AS org_code, '' AS correction_id WHERE false"
    )
    for t in names:
        silver = f"silver/{t}"
        record = (
            "SELECT NULL::VARCHAR AS org_code, NULL::VARCHAR AS k, NULL::VARCHAR AS h, 0 AS n WHERE false"
        )
        if tables.exists(silver):
            key = record_key_sql(table_contract(t).key)
            record = f"""SELECT org_code, {key} AS k, any_value(raw_hash) AS h, count(*) AS n
                FROM {tables.scan_sql(silver)} t WHERE NOT coalesce(is_deleted, false)
                  AND org_code IN (SELECT org_code FROM {source}) GROUP BY ALL"""
        con.execute(f"""
            INSERT INTO refused SELECT s.rid, CASE WHEN r.n IS NULL OR r.n > 1 THEN 'E438' ELSE 'E434' END
            FROM {source} s LEFT JOIN ({record}) r ON r.org_code = s.org_code AND r.k = s.r_record_key
            ANTI JOIN ({known}) c ON c.org_code = s.org_code AND c.correction_id = s.r_correction_id
            WHERE s.err IS NULL AND s.r_table_name = {_text(t)}
              AND (r.n IS NULL OR r.n > 1 OR r.h IS DISTINCT FROM s.r_record_hash)""")
    told = con.execute(
        f"SELECT s.*, refused.code FROM {source} s JOIN refused USING (rid) ORDER BY rid"
    ).to_arrow_table()
    if not told.num_rows:
        return
    for r in told.to_pylist():
        raw = {k[2:]: str(v) for k, v in r.items() if k.startswith("r_") and v is not None}
        context = {"sheet": r["source_sheet"], "cell": r["r_cell"]}
        stage.rejected.append(
            Reject(
                stage.files[r["file_no"]], FEED, r["code"], json.dumps(raw, ensure_ascii=False),
                r["source_line"], r["source_sheet"], r["r_cell"], r["org_code"], context,
            )
        )  # fmt: skip
    kept = "correction-accepted.parquet"
    target = _text(str(stage.directory / kept))
    con.execute(f"COPY (SELECT * FROM {source} ANTI JOIN refused USING (rid)) TO {target} (FORMAT parquet)")
    stage.parts[FEED] = [kept]


def lay(stage: Stage, made: Plan) -> list[str]:
    """Write what accepted hand-ins do: ``<table>.handed.parquet`` (corrections) and ``<table>.patched.parquet`` (silver
    rows with the corrected values). ``marks`` of ``dedupe.mark`` is there. Returns the tables."""
    con, directory = stage.connection, stage.directory
    found = []
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE handed AS
        SELECT rid, org_code, r_correction_id AS correction_id, r_table_name AS table_name, r_record_key AS record_key,
               r_field AS field, nullif(r_value_after, '') AS value_after, t_handed_in_on AS handed_in_on
        FROM {scan(directory, stage.parts[FEED])} LEFT JOIN marks USING (rid)
        WHERE err IS NULL AND NOT coalesce(duplicate, false)""")
    for (t,) in con.execute("SELECT DISTINCT table_name FROM handed ORDER BY 1").fetchall():
        contract, silver = table_contract(t), tables.scan_sql(f"silver/{t}")
        columns = tables.column_types(f"silver/{t}")
        fields = [
            r[0]
            for r in con.execute(
                "SELECT DISTINCT field FROM handed WHERE table_name = ? ORDER BY 1", [t]
            ).fetchall()
            if r[0] in columns
        ]
        shown = "CASE h.field " + " ".join(
            f"WHEN {_text(f)} THEN CAST(t.{quoted(f)} AS VARCHAR)" for f in fields
        )
        con.execute(f"CREATE OR REPLACE TEMP TABLE held AS SELECT * FROM {waiting_sql(t)}")
        con.execute(f"""
            CREATE OR REPLACE TEMP TABLE taken AS
            SELECT *, CASE WHEN w_id IS NOT NULL THEN w_value ELSE now END AS source_value,
                   row_number() OVER (PARTITION BY org_code, key_json, field ORDER BY rid DESC) = 1 AS last
            FROM (SELECT h.*, k.key_json, k.now, w.correction_id AS w_id, w.source_value AS w_value
                  FROM handed h
                  JOIN (SELECT h.rid, {_key_json(contract.key, "t")} AS key_json, {shown} END AS now
                        FROM handed h JOIN {silver} t
                          ON t.org_code = h.org_code AND {record_key_sql(contract.key)} = h.record_key
                        WHERE h.table_name = {_text(t)}) k USING (rid)
                  LEFT JOIN held w ON w.org_code = h.org_code AND w.key_json = k.key_json AND w.field = h.field)""")
        day = f"DATE '{made.data_date}'"
        _save(
            con,
            f"""SELECT correction_id, org_code, record_key, key_json, field, source_value, value_after,
                       CASE WHEN NOT last THEN 'replaced' WHEN value_after IS NOT DISTINCT FROM source_value
                            THEN 'confirmed' ELSE '{WAITING}' END AS state,
                       handed_in_on,
                       CASE WHEN NOT last OR value_after IS NOT DISTINCT FROM source_value THEN {day} END AS settled_on
                FROM taken
                UNION ALL
                SELECT * REPLACE ('replaced' AS state, {day} AS settled_on)
                FROM (SELECT {_COLUMNS} FROM held) w SEMI JOIN taken USING (org_code, key_json, field)""",
            directory / f"{t}.handed.parquet",
        )
        picked = ", ".join(
            f"bool_or(field = {_text(f)}) AS {quoted('has_' + f)}, "
            f"max(value_after) FILTER (field = {_text(f)}) AS {quoted('ov_' + f)}"
            for f in fields
        )
        replaced = ", ".join(
            f"CASE WHEN {quoted('has_' + f)} THEN CAST({quoted('ov_' + f)} AS {columns[f]}) ELSE t.{quoted(f)} END"
            f" AS {quoted(f)}"
            for f in fields
        )
        mine = ", ".join(quoted(c) for c in columns)
        patched = con.execute(
            f"""SELECT {mine} FROM (SELECT t.* REPLACE ({replaced}) FROM {silver} t JOIN (
                    SELECT org_code, record_key, {picked} FROM taken WHERE last GROUP BY ALL) p
                  ON p.org_code = t.org_code AND p.record_key = {record_key_sql(contract.key)})
                ORDER BY {", ".join(quoted(k) for k in contract.full_key)}"""
        ).to_arrow_table()
        pq.write_table(patched, directory / f"{t}.patched.parquet")
        found.append(t)
    return found


# applying


def write(plan: Plan, directory: Path, table: str, kind: str) -> None:
    """Bring one table's corrections (``handed``, with their patched rows, or ``settled``) into the lake."""
    txn = (plan.batch_id, 1)
    if kind == "handed":
        # a transaction of its own number: a batch of this feed writes a table once
        rows = pq.read_table(directory / f"{table}.patched.parquet")
        tables.merge(f"silver/{table}", rows, key=table_contract(table).full_key, txn=txn)
    rows = pq.read_table(directory / f"{table}.{kind}.parquet")
    tables.merge(name(table), rows, key=["correction_id"], txn=txn)


def reapply(con: duckdb.DuckDBPyConnection, relation: str, table: TableContract) -> None:
    """Lay the waiting corrections over rows of silver's shape that another step made from bronze (a changed code map)."""
    con.execute(f"CREATE OR REPLACE TEMP TABLE ov AS SELECT * FROM {waiting_sql(table.name)}")
    for (field,) in con.execute("SELECT DISTINCT field FROM ov ORDER BY 1").fetchall():
        con.execute(
            f"""UPDATE {relation} AS t SET {quoted(field)} = CAST(o.value_after AS {table.field(field).duck_type})
            FROM ov o WHERE o.field = {_text(field)} AND o.org_code = t.org_code AND o.key_json = {_key_json(table.key, "t")}"""
        )
