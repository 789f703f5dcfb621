"""What came in over MQTT (``.mqtt``): one message a line, ``{"topic", "received_at", "payload"}``, payload as text.

A payload is an object or an array of objects; each object is a record. An empty one holds none (it is how a broker is
told to forget a retained message). The topic says which table and which
institution, and which device where the object does not. ``payload_base64`` holds what was no UTF-8.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime

import pyarrow as pa

from ingestion import typing_sql
from ingestion.iot.rules import rules
from ingestion.readers import json_rows
from ingestion.readers.base import LandedFile, Reject, Sink, reject_file, why
from ingestion.readers.text import shown
from lake import registry
from lake.contracts import TableContract, table_contract

#: Fields that say when the platform had a reading, where the sender leaves them out.
_RECEIPT_FIELDS = ("server_at", "status_at")


def envelope(topic: str, received_at: datetime, payload: bytes) -> bytes:
    """One line of the journal, without its line break."""
    outer = {"topic": topic, "received_at": received_at.isoformat(timespec="milliseconds")}
    try:
        outer["payload"] = payload.decode()
    except UnicodeDecodeError:
        outer["payload_base64"] = base64.b64encode(payload).decode()
    return json.dumps(outer, ensure_ascii=False, separators=(",", ":")).encode()


_OPENED = """
    SELECT source_line, text, v[1] AS topic, v[2] AS received_at, v[3] AS payload, str_split(v[1], '/') AS parts
    FROM (SELECT source_line, text, CASE WHEN json_valid(text)
            THEN json_extract_string(text, ['$.topic', '$.received_at', '$.payload']) ELSE [NULL, NULL, NULL] END AS v
          FROM lines WHERE NOT regexp_full_match(text, '\\s*'))"""

_JUDGED = """
    SELECT o.source_line, o.text, o.topic, o.received_at, o.parts[2] AS org_code, o.parts[4] AS device, t.name, CASE
        WHEN o.topic IS NULL THEN 'E216'
        WHEN len(o.parts) <> 5 OR o.parts[1] <> 'hmg' OR t.name IS NULL OR g.org_code IS NULL THEN 'E265'
        WHEN o.payload = '' THEN NULL
        WHEN o.payload IS NULL OR NOT json_valid(o.payload) THEN 'E266'
        WHEN json_type(o.payload) NOT IN ('ARRAY', 'OBJECT') THEN 'E266' END AS code,
        CASE WHEN t.name IS NULL OR len(o.parts) <> 5 THEN 'topic' WHEN g.org_code IS NULL THEN 'institution' END AS detail,
        CASE WHEN json_valid(o.payload) THEN CASE json_type(o.payload)
            WHEN 'ARRAY' THEN from_json(o.payload, '["JSON"]') WHEN 'OBJECT' THEN [CAST(o.payload AS JSON)] END END AS objects
    FROM opened o LEFT JOIN topics t ON t.kind = o.parts[3] AND t.channel = o.parts[5]
    LEFT JOIN institutions g ON g.org_code = o.parts[2]"""


def _topics() -> pa.Table:
    """(kind, channel) -> table, only tables that a contract has."""
    given = rules()
    wanted = dict(given.tables) | {(kind, "status"): given.status for kind in given.kinds}
    known = [(k, c, t) for (k, c), t in wanted.items() if _contract(t)]
    return pa.table(
        {n: pa.array([r[i] for r in known], pa.string()) for i, n in enumerate(("kind", "channel", "name"))}
    )


def _contract(name: str) -> TableContract | None:
    try:
        return table_contract(name)
    except KeyError:
        return None


def read(file: LandedFile, sink: Sink) -> None:
    """Read one file of messages; it holds rows of several tables and institutions."""
    con = json_rows.connection()
    told: set[str] = set()
    orgs = pa.table({"org_code": pa.array(sorted(registry.org_codes()), pa.string())})
    con.register("topics", _topics())
    con.register("institutions", orgs)
    try:
        for lines, bad in json_rows.numbered_lines(file.path):
            for line, raw in bad.items():
                sink.reject(Reject(file, "file", "E206", shown(raw), line, context={"encoding": "utf-8"}))
            con.register("lines", lines)
            con.execute(f"CREATE OR REPLACE TEMP TABLE opened AS {_OPENED}")
            con.execute(f"CREATE OR REPLACE TEMP TABLE judged AS {_JUDGED}")
            con.unregister("lines")
            _refuse(file, sink)
            found = con.execute("SELECT DISTINCT name FROM judged WHERE code IS NULL ORDER BY 1").fetchall()
            for (name,) in found:
                _table(file, table_contract(name), sink, told)
    except OSError as error:
        reject_file(sink, file, "E202", detail=why(error))


#: Every element of every payload that is accepted as a whole, with its place in the payload.
_ELEMENTS = """(SELECT * EXCLUDE (o), coalesce(o, 'null'::JSON) AS o FROM (
    SELECT source_line, org_code, device, received_at, name, unnest(objects) AS o, generate_subscripts(objects, 1) AS n
    FROM judged WHERE code IS NULL))"""


def _refuse(file: LandedFile, sink: Sink) -> None:
    """Whole messages that mean nothing, and single elements of an array that are no object."""
    con = json_rows.connection()
    messages = (
        "SELECT source_line, text, code, detail, NULL AS org, 0 AS n FROM judged WHERE code IS NOT NULL"
    )
    elements = f"""SELECT source_line, CAST(o AS VARCHAR), 'E266', NULL, org_code, n FROM {_ELEMENTS}
        WHERE json_type(o) <> 'OBJECT'"""
    for line, raw, code, detail, org, n in con.execute(
        f"{messages} UNION ALL {elements} ORDER BY 1, 6"
    ).fetchall():
        place = f"[{n - 1}]" if n else ""
        context = {"detail": detail} if detail else {}
        sink.reject(
            Reject(
                file, "file", code, raw.rstrip("\n"), line, place=place, org_code=org or "", context=context
            )
        )


def _table(file: LandedFile, table: TableContract, sink: Sink, told: set[str]) -> None:
    con = json_rows.connection()
    source = f"""(SELECT source_line, n AS _n, org_code, device AS _device, received_at AS _received,
        CAST(o AS VARCHAR) AS object FROM {_ELEMENTS}
        WHERE json_type(o) = 'OBJECT' AND name = {json_rows.text(table.name)})"""
    query = json_rows.rows_sql(table, source, ["source_line", "_n", "org_code", "_device", "_received"])
    query = f"SELECT *, NULL::DOUBLE AS _offset, false AS _ahead FROM ({query})"
    device = rules().device_field.get(table.name, "device_id")
    filled = {device: "_device"} | dict.fromkeys(_RECEIPT_FIELDS, "_received")
    names = {f.name for f in table.fields}
    values = [f"coalesce({n}, {v}) AS {n}" for n, v in filled.items() if n in names]
    if {"clock_offset_s", "device_at"} <= names:
        query, judged = _clocks(query, device, names)
        values += judged
    replaced = f"REPLACE ({', '.join(values)})" if values else ""
    hidden = "EXCLUDE (_n, _device, _received, _offset, _ahead)"
    found = con.execute(
        f"SELECT * {hidden} {replaced} FROM ({query}) ORDER BY source_line, _n"
    ).to_arrow_table()
    if found["_extra"].null_count < found.num_rows and table.name not in told:
        first = json.loads(next(v for v in found["_extra"].to_pylist() if v))
        sink.notice(file, "E221", columns="、".join(first))
        told.add(table.name)
    if found.num_rows:
        sink.rows(file, table.name, found)


def _clocks(query: str, device: str, names: set[str]) -> tuple[str, list[str]]:
    """Each reading gets what its device's clock was off by: its time minus receipt, the largest within the file, since
    transport and storage only make it smaller. A time that lies ahead of receipt makes the reading suspect; a sender's
    own words about offset and quality stay, and no time is ever changed."""
    taken = typing_sql.timestamp("device_at")
    ahead = f"epoch({taken}) - epoch(CAST(_received AS TIMESTAMPTZ))"
    query = f"""SELECT * REPLACE (max({ahead}) OVER (PARTITION BY org_code, coalesce({device}, _device)) AS _offset,
        {ahead} > {rules().clock_flag_seconds} AS _ahead) FROM ({query})"""
    values = ["coalesce(clock_offset_s, CAST(round(_offset, 1) AS VARCHAR)) AS clock_offset_s"]
    if "quality_code" in names:
        values.append("coalesce(quality_code, CASE WHEN _ahead THEN 'suspect' END) AS quality_code")
    return query, values
