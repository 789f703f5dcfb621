"""HL7 v2 batch files: the lead hospital's ADT and the laboratories' ORU^R01.

Version 2.5.1, UTF-8 (MSH-18), segments end with CR, times are local `YYYYMMDDHHMMSS`. Messages are put together
in SQL, all at once; `hl7_text` escapes the separators.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import duckdb
import pyarrow as pa

from simulator.writers.base import Drop, aggregated
from simulator.writers.his_csv import ADT_ORG

NATIONAL_ID_TYPE = "CASE t.id_type_code WHEN '03' THEN 'PPN' WHEN '05' THEN 'DL' ELSE 'NI' END"


def _time(column: str) -> str:
    return f"strftime({column}, '%Y%m%d%H%M%S')"


def _text(column: str) -> str:
    return f"hl7_text({column})"


def _segment(name: str, fields: Mapping[int, str]) -> str:
    """SQL of one segment with its CR; `fields`: position -> SQL expression, null becomes empty."""
    sql, last = f"'{name}'", 0
    for position, expression in sorted(fields.items()):
        sql += f" || '{'|' * (position - last)}' || coalesce({expression}, '')"
        last = position
    return f"{sql} || chr(13)"


def _header(sender: str, sender_org: str, receiver_org: str, at: str, kind: str, control_id: str) -> str:
    """MSH; its field 1 is the separator itself, so positions count from 2 here."""
    fields = {
        1: "'^~\\&'", 2: f"'{sender}'", 3: sender_org, 4: "'HIS'", 5: receiver_org, 6: _time(at), 8: kind,
        9: control_id, 10: "'P'", 11: "'2.5.1'", 17: "'UNICODE UTF-8'",
    }  # fmt: skip
    return _segment("MSH", fields)


def _coded(code_system: str, column: str, feed: str) -> tuple[str, str]:
    """(expression, join) of a column in the source system's codes."""
    alias = f"m_{code_system}"
    join = (
        f"LEFT JOIN source_code AS {alias} ON {alias}.feed = '{feed}' AND {alias}.org_code = t.org_code "
        f"AND {alias}.code_system = '{code_system}' AND {alias}.code = {column}"
    )
    return f"coalesce({alias}.source, {column})", join


def _batch(name: str, org: str, data_date: date, messages: str, count: int) -> str:
    """File and batch envelope (FHS/BHS ... BTS/FTS)."""
    common = f"|^~\\&|MEDSIM|{org}|MEDLAKE|{org}|{data_date:%Y%m%d}235900"
    return f"FHS{common}||{name}\rBHS{common}\r{messages}BTS|{count}\rFTS|1\r"


def write_adt(con: duckdb.DuckDBPyConnection, drop: Drop, patients: pa.Table) -> None:
    """ADT^A04 for a new registration, ADT^A08 for one that was changed in the daily window."""
    con.register("rows", patients)
    sex, join = _coded("sex", "t.sex_code", "his")
    identifiers = (
        f"t.patient_local_id || '^^^{ADT_ORG}^MR' || coalesce('~' || {_text('t.id_no')} || '^^^CN^' || {NATIONAL_ID_TYPE}, '') "
        "|| coalesce('~' || t.health_card_no || '^^^HC^HC', '') || coalesce('~' || t.insurance_no || '^^^SI^SN', '')"
    )
    kind = "'ADT^' || CASE WHEN t.is_update THEN 'A08' ELSE 'A04' END || '^ADT_A01'"
    control_id = "'A' || t.patient_local_id || strftime(t.source_updated_at, '%y%m%d%H%M%S')"
    pid = {
        1: "'1'", 3: identifiers, 5: _text("t.name"), 7: "strftime(t.birth_date, '%Y%m%d')", 8: sex,
        11: f"nullif({_text('t.addr_detail')}, '') || '^^^^^CHN'", 13: _text("t.phone"), 16: "t.marital_code",
        19: _text("t.id_no"), 21: "t.mother_patient_id", 22: "t.ethnicity_code",
    }  # fmt: skip
    kin = _segment("NK1", {1: "'1'", 2: _text("t.contact_name"), 5: _text("t.contact_phone")})
    message = " || ".join([
        _header("HIS", f"'{ADT_ORG}'", "'MEDLAKE'", "t.source_updated_at", kind, control_id),
        _segment("EVN", {2: _time("t.source_updated_at")}), _segment("PID", pid),
        f"CASE WHEN t.contact_name IS NULL THEN '' ELSE {kin} END", _segment("PV1", {1: "'1'", 2: "'O'"}),
    ])  # fmt: skip
    source = f"rows AS t {join} WHERE t.org_code = '{ADT_ORG}'"
    order = "t.source_updated_at, t.patient_local_id"
    for org, data_date, _, text in aggregated(con, source, message, order, ""):
        if drop.wants(data_date, "his"):
            name = f"adt_{data_date:%Y%m%d}.hl7"
            content = _batch(name, org, data_date, text, text.count("MSH|^~"))
            drop.write(data_date, "his", org, name, content.encode())
    con.unregister("rows")


def _results(con: duckdb.DuckDBPyConnection) -> None:
    """Temporary table `obx`: the OBX segments of each report, in order."""
    flag, join = _coded("abnormal_flag", "t.abnormal_flag", "lis")
    name = _text("t.item_name")
    obx = _segment("OBX", {
        1: "CAST(t.seq AS VARCHAR)", 2: "CASE WHEN t.value_text LIKE '<%' THEN 'ST' ELSE t.value_type END",
        3: f"t.item_code || '^' || {name} || '^L^' || t.loinc_code || '^' || {name} || '^LN'", 5: _text("t.value_text"),
        6: _text("t.unit"), 7: _text("t.ref_range_text"), 8: flag, 11: "t.status_code", 14: _time("t.observed_at"),
    })  # fmt: skip
    con.execute(
        "CREATE OR REPLACE TEMP TABLE obx AS SELECT org_code, report_id, string_agg(line, '' ORDER BY seq) AS lines "
        f"FROM (SELECT t.org_code, t.report_id, t.seq, {obx} AS line FROM results AS t {join}) GROUP BY ALL"
    )


def write_oru(
    con: duckdb.DuckDBPyConnection, drop: Drop, reports: pa.Table, results: pa.Table, history_end: date
) -> None:
    """ORU^R01, one message per report; the history in a file per month, then a file per day."""
    con.register("reports", reports)
    con.register("results", results)
    _results(con)
    sex, join = _coded("sex", "t.sex_code", "lis")
    pid = {
        1: "'1'", 3: "t.patient_local_id || '^^^' || t.requesting_org_code || '^MR'", 5: _text("t.name"),
        7: "strftime(t.birth_date, '%Y%m%d')", 8: sex, 13: _text("t.phone"), 19: _text("t.id_no"),
    }  # fmt: skip
    obr = {
        1: "'1'", 2: "t.order_id || '^HIS'", 3: "t.report_id || '^LIS'", 
        4: f"t.panel_code || '^' || {_text('t.panel_name')} || '^L'",
        7: _time("t.collected_at"), 14: _time("t.received_at_lab"), 22: _time("t.reported_at"), 25: "t.status_code",
    }  # fmt: skip
    message = " || ".join([
        _header("LIS", "t.org_code", "t.requesting_org_code", "t.reported_at", "'ORU^R01^ORU_R01'", "t.message_control_id"),
        _segment("PID", pid), _segment("PV1", {1: "'1'", 2: "'O'", 19: "t.encounter_id"}), _segment("OBR", obr),
        "coalesce(o.lines, '')",
    ])  # fmt: skip
    source = (
        f"reports AS t {join} LEFT JOIN obx AS o ON o.org_code = t.org_code AND o.report_id = t.report_id"
    )
    stamp_of = (
        f"CASE WHEN t.deliver_on <= DATE '{history_end}' THEN strftime(t.reported_at, '%Y%m') "
        "ELSE strftime(t.deliver_on, '%Y%m%d') END"
    )
    order = "t.reported_at, t.report_id"
    for org, data_date, stamp, text in aggregated(con, source, message, order, "", stamp_of):
        if drop.wants(data_date, "lis"):
            extra = drop.damage.get((data_date, org, "lab_report"), [])
            content, name = "".join(extra) + text, f"oru_{stamp}.hl7"
            if org == ADT_ORG:
                content = _batch(name, org, data_date, content, content.count("MSH|^~"))
            drop.write(data_date, "lis", org, name, content.encode())
    con.unregister("reports")
    con.unregister("results")
