"""What came in over HTTP (``.http``): one envelope a line, ``{"receipt", "received_at", "table", "record"}``.

``record`` is the uploaded object as JSON text, so nothing in it can be mistaken for the envelope.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from ingestion.readers import json_rows
from ingestion.readers.base import LandedFile, Reject, Sink, reject_file, why
from ingestion.readers.text import shown
from lake.contracts import table_contract


def envelope(receipt: str, received_at: str, table: str, record: Mapping[str, Any]) -> bytes:
    """One line of the journal, without its line break."""
    inner = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    outer = {"receipt": receipt, "received_at": received_at, "table": table, "record": inner}
    return json.dumps(outer, ensure_ascii=False, separators=(",", ":")).encode()


_OPENED = """
    SELECT source_line, text, v[1] AS name, v[2] AS object, CASE
        WHEN v[1] IS NULL OR v[2] IS NULL OR NOT json_valid(v[2]) THEN 'E216'
        WHEN json_type(v[2]) <> 'OBJECT' THEN 'E217' END AS code
    FROM (SELECT source_line, text, CASE WHEN json_valid(text)
            THEN json_extract_string(text, ['$.table', '$.record']) ELSE [NULL, NULL] END AS v
          FROM lines WHERE NOT regexp_full_match(text, '\\s*'))"""


def read(file: LandedFile, sink: Sink) -> None:
    """Read one file of uploads; it may hold rows of several tables."""
    con = json_rows.connection()
    told: set[str] = set()
    try:
        for lines, bad in json_rows.numbered_lines(file.path):
            for line, raw in bad.items():
                sink.reject(Reject(file, "file", "E206", shown(raw), line, context={"encoding": "utf-8"}))
            con.register("lines", lines)
            con.execute(f"CREATE OR REPLACE TEMP TABLE opened AS {_OPENED}")
            con.unregister("lines")
            broken = "SELECT source_line, text, code FROM opened WHERE code IS NOT NULL"
            for line, raw_text, code in con.execute(broken).fetchall():
                sink.reject(Reject(file, "file", code, raw_text.rstrip("\n"), line))
            names = [
                r[0]
                for r in con.execute(
                    "SELECT DISTINCT name FROM opened WHERE code IS NULL ORDER BY 1"
                ).fetchall()
            ]
            for name in names:
                _table(file, name, sink, told)
    except OSError as error:
        reject_file(sink, file, "E202", detail=why(error))


def _table(file: LandedFile, name: str, sink: Sink, told: set[str]) -> None:
    con = json_rows.connection()
    source = f"(SELECT source_line, object FROM opened WHERE code IS NULL AND name = {json_rows.text(name)})"
    try:
        table = table_contract(name)
    except KeyError:  # the contract lost a table since: what came for it is kept with its reason
        for line, raw in con.execute(f"SELECT source_line, object FROM {source}").fetchall():
            sink.reject(Reject(file, "file", "E268", raw, line, context={"detail": f"table {name}"}))
        return
    found = con.execute(json_rows.rows_sql(table, source, ["source_line"])).to_arrow_table()
    found = found.take(pc.sort_indices(found["source_line"]))
    if found["_extra"].null_count < found.num_rows and name not in told:
        first = json.loads(next(v for v in found["_extra"].to_pylist() if v))
        sink.notice(file, "E221", columns="、".join(first))
        told.add(name)
    sink.rows(file, name, found)
