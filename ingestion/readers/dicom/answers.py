"""What an archive answered (QIDO-RS or C-FIND, files of ``ingestion.pull.pacs``) to rows of studies and series.

The JSON is read by DuckDB in bulk; the tags of a line are taken out of it in one pass.
"""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pyarrow as pa

from ingestion.conform import quoted
from ingestion.readers.base import LandedFile, Reject, Sink, reject_file
from ingestion.readers.dicom.text import person_name, recovered
from ingestion.readers.ndjson import lines_of, utf8_lines, windows
from ingestion.readers.text import shown
from lake import duck, tables
from lake.contracts import table_contract
from lake.settings import settings

MARK = '"medlake":"pacs-answers"'

_PLAIN = {
    "study_instance_uid": "0020000D",
    "series_instance_uid": "0020000E",
    "accession_no": "00080050",
    "patient_local_id": "00100020",
    "issuer_of_patient_id": "00100021",
    "sex_code": "00100040",
    "birth_date": "00100030",
    "study_id": "00200010",
    "study_description": "00081030",
    "institution_name": "00080080",
    "modality_code": "00080060",
    "series_no": "00200011",
    "series_description": "0008103E",
    "protocol_name": "00181030",
    "body_part": "00180015",
    "manufacturer": "00080070",
    "manufacturer_model": "00081090",
    "station_name": "00081010",
    "series_count": "00201206",
}
_PERSONS = {"name": "00100010", "referring_physician": "00080090"}
_INSTANTS = {"study_at": ("00080020", "00080030"), "series_at": ("00080021", "00080031")}
_COUNTS = {"imaging_study": "00201208", "imaging_series": "00201209"}
_TABLES = {"study": "imaging_study", "series": "imaging_series"}
_OFFSET, _MODALITIES = "00080201", "00080061"


def is_answer(head: bytes) -> bool:
    """Whether a file's first bytes are those of ``ingestion.pull.pacs``."""
    return MARK.encode() in head.split(b"\n", 1)[0]


def _value(tag: str) -> str:
    return f"""nullif(json_extract_string(answer, '$."{tag}".Value[0]'), '')"""


def _person(tag: str) -> str:
    """A PN as one text, groups between equals signs as in the header."""
    group = [
        f"""json_extract_string(answer, '$."{tag}".Value[0].{g}')""" for g in ("Alphabetic", "Ideographic")
    ]
    return f"CASE WHEN {group[1]} IS NULL THEN {group[0]} ELSE concat({group[0]}, '=', {group[1]}) END"


def _query(table: str) -> str:
    """The columns of one table. An instant has the offset that the answer gives, local time without one."""
    columns = {n: _value(t) for n, t in _PLAIN.items()} | {n: _person(t) for n, t in _PERSONS.items()}
    for name, (day, clock) in _INSTANTS.items():
        offset = f"CASE WHEN {_value(clock)} IS NULL THEN '' ELSE coalesce({_value(_OFFSET)}, '') END"
        columns[name] = f"{_value(day)} || replace(coalesce({_value(clock)}, ''), ':', '') || {offset}"
    modalities = f"""json_extract_string(answer, '$."{_MODALITIES}".Value[*]')"""
    columns["modalities"] = columns["modality_codes"] = f"nullif(array_to_string({modalities}, '\\'), '')"
    columns["instance_count"] = _value(_COUNTS[table])
    columns["source_updated_at"] = "$asked_at"
    names = [f.name for f in table_contract(table).fields if f.name in columns]
    picked = ", ".join(f"{columns[n]} AS {quoted(n)}" for n in names)
    level = next(k for k, v in _TABLES.items() if v == table)
    return f"""SELECT {picked}, source_line, op AS _op FROM parsed WHERE level = '{level}'"""


def _repaired(column: pa.ChunkedArray, is_person: bool) -> pa.Array:
    """Texts whose archive took GB18030 for Latin-1, and names without their carets. The loop is over distinct
    values of one column of one delivery."""
    encoded = column.combine_chunks().dictionary_encode()
    words = []
    for word in encoded.dictionary.to_pylist():
        try:
            word = recovered(word.encode("latin-1")) or word
        except UnicodeEncodeError:
            pass
        words.append(person_name(word) if is_person else word)
    return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(words, pa.string())).cast(pa.string())


def _head(data: bytes) -> dict[str, Any]:
    """The first line; empty where it is not what a pull writes."""
    try:
        node = json.loads(data.split(b"\n", 1)[0])
    except ValueError:
        return {}
    return node if isinstance(node, dict) and isinstance(node.get("asked_at"), str) else {}


def read(file: LandedFile, sink: Sink) -> None:
    """One file of answers."""
    head: dict[str, Any] = {}
    base = 0
    with duck.connect(threads=1) as con:
        con.execute("SET preserve_insertion_order = true")
        for piece in windows(file.path):
            data, bad = utf8_lines(piece)
            for i, raw in bad.items():
                context = {"encoding": "utf-8"}
                sink.reject(Reject(file, "imaging_study", "E206", shown(raw), base + i + 1, context=context))
            if not head:
                head = _head(data)
                if not head:
                    return reject_file(sink, file, "E219", detail="pacs-answers")
            text = lines_of(data)
            number = pa.array(range(base + 1, base + 1 + len(text)), pa.int64())
            base += len(text)
            con.register("lines", pa.table({"text": text, "source_line": number}))
            _window(con, file, sink, str(head["asked_at"]))
    announced = {level: int(head.get("studies" if level == "study" else "series", 0)) for level in _TABLES}
    for level, count in announced.items():
        sink.announce(file, _TABLES[level], count, f"{level} answers")


def _window(con: duckdb.DuckDBPyConnection, file: LandedFile, sink: Sink, asked_at: str) -> None:
    con.execute("""
        CREATE OR REPLACE TEMP TABLE parsed AS
        SELECT source_line, json_extract_string(text, '$.level') AS level, json_extract_string(text, '$.op') AS op,
               json_extract(text, '$.answer') AS answer
        FROM lines WHERE json_valid(text) AND source_line > 1""")
    for bad in con.execute(
        "SELECT source_line, text FROM lines WHERE NOT json_valid(text) AND trim(text, chr(10)) <> '' ORDER BY source_line"
    ).fetchall():
        sink.reject(Reject(file, "imaging_study", "E216", bad[1].rstrip("\n"), bad[0]))
    for table in _TABLES.values():
        found = con.execute(_query(table), {"asked_at": asked_at}).to_arrow_table()
        for name in (
            "name",
            "referring_physician",
            "study_description",
            "series_description",
            "institution_name",
        ):
            if name in found.column_names and found.num_rows:
                at = found.schema.get_field_index(name)
                fixed = _repaired(found[name], name in _PERSONS)
                found = found.set_column(at, name, fixed)
        if found.num_rows:
            sink.rows(file, table, found)
    _objects_of_deleted(con, file, sink)


def _objects_of_deleted(con: duckdb.DuckDBPyConnection, file: LandedFile, sink: Sink) -> None:
    """Objects that came as files go with the study that the archive no longer has."""
    silver = "silver/imaging_instance"
    gone = con.execute("SELECT count(*) FROM parsed WHERE level = 'study' AND op = 'D'").fetchone()
    if not gone or not gone[0] or not tables.exists(silver):
        return
    contract = table_contract("imaging_instance")
    columns = ", ".join(f"CAST(i.{quoted(f.name)} AS VARCHAR) AS {quoted(f.name)}" for f in contract.fields)
    here = "NOT coalesce(i.is_deleted, false)" if "is_deleted" in tables.columns(silver) else "true"
    found = con.execute(
        f"""SELECT {columns}, d.source_line, 'D' AS _op FROM {tables.scan_sql(silver)} i
            JOIN (SELECT {_value(_PLAIN["study_instance_uid"])} AS uid, min(source_line) AS source_line FROM parsed
                  WHERE level = 'study' AND op = 'D' GROUP BY ALL) d ON d.uid = i.study_instance_uid
            WHERE i.org_code = $org AND {here}""",
        {"org": file.org_code or settings().default_org_code},
    ).to_arrow_table()
    if found.num_rows:
        sink.rows(file, "imaging_instance", found)
