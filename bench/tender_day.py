"""The files of one tender day, as source systems would drop them: what ``make bench-ingest`` measures.

50,000 EMR documents (NDJSON), 400,000 laboratory results (HL7 batch files, 5 a message), 20,000 DICOM headers,
2,000,000 device readings (NDJSON), 300,000 public-health records (CSV, and one centre in seven as workbooks),
1,000,000 fee items (CSV). Made by DuckDB in a process of its own, spread over institutions; every ten-thousandth
record is broken, since broken ones cost more than good ones. Columns are named as the contracts name them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

DAY = date(2026, 11, 18)
CENTRES = [f"C{n}" for n in range(201, 219)]
HOSPITALS = ["H001", *(f"H{n}" for n in range(101, 106))]
WORKBOOK_CENTRES = CENTRES[:3]
BROKEN_EVERY = 10_000


@dataclass(frozen=True)
class Size:
    """How many of each; :meth:`scaled` makes a smaller or larger day of the same shape."""

    documents: int = 50_000
    lab_results: int = 400_000
    images: int = 20_000
    readings: int = 2_000_000
    public_health: int = 300_000
    fee_items: int = 1_000_000

    def scaled(self, share: float) -> Size:
        return Size(*(max(100, int(n * share)) for n in self.__dict__.values()))


def _folder(root: Path, feed: str, org: str, day: date) -> Path:
    made = root / day.isoformat() / feed / org
    made.mkdir(parents=True, exist_ok=True)
    return made


def _lines(con: Any, sql: str, target: Path) -> None:
    """Write the column ``line`` of a query, one text a line and nothing else."""
    con.execute(
        f"COPY ({sql}) TO '{target}' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01')"
    )


def _json_lines(con: Any, record: str, rows: int, target: Path) -> None:
    text = f"CASE WHEN i % {BROKEN_EVERY} = 7 THEN line[1:40] ELSE line END AS line"
    good = (
        f"SELECT CAST(to_json(q) AS VARCHAR) AS line, i FROM (SELECT r.i, {record} q FROM range({rows}) r(i))"
    )
    _lines(con, f"SELECT {text} FROM ({good}) ORDER BY i", target)


def _struct(table: str, values: dict[str, str]) -> str:
    """A DuckDB struct with the physical names of a contract's table."""
    from lake.contracts import table_contract

    fields = table_contract(table)
    return "{" + ", ".join(f"'{fields.field(n).physical_name}': {v}" for n, v in values.items()) + "}"


def _columns(table: str, values: dict[str, str]) -> str:
    from lake.contracts import table_contract

    fields = table_contract(table)
    return ", ".join(f'{v} AS "{fields.field(n).physical_name}"' for n, v in values.items())


def _instant(day: date, seconds: str, layout: str = "%Y-%m-%dT%H:%M:%S+08:00") -> str:
    return f"strftime(TIMESTAMP '{day}' + to_milliseconds(CAST(({seconds}) * 1000 AS BIGINT)), '{layout}')"


def readings(con: Any, root: Path, size: Size, day: date) -> None:
    each = size.readings // len(CENTRES)
    step = 86_000 / max(each, 1)
    record = _struct(
        "vital_reading",
        {
            "device_id": "'{org}D' || (i % 2000)",
            "seq": "i",
            "metric_code": "['8867-4', '8480-6', '59408-5'][i % 3 + 1]",
            "value": "60 + i % 80",
            "unit": "['/min', 'mm[Hg]', '%'][i % 3 + 1]",
            "device_at": _instant(day, f"i * {step}", "%Y-%m-%dT%H:%M:%S.%g+08:00"),
            "gateway_at": _instant(day, f"i * {step} + 0.9", "%Y-%m-%dT%H:%M:%S.%g+08:00"),
            "quality_code": "'0'",
            "battery_pct": "80",
        },
    )
    for org in CENTRES:
        target = _folder(root, "iot", org, day) / f"telemetry_{day:%Y%m%d}.ndjson"
        _json_lines(con, record.replace("{org}", org), each, target)


def fee_items(con: Any, root: Path, size: Size, day: date) -> None:
    orgs = HOSPITALS + CENTRES
    each = size.fee_items // len(orgs)
    for org in orgs:
        columns = _columns(
            "fee_item",
            {
                "fee_id": f"'{org}F{day:%m%d}' || i",
                "encounter_id": f"'{org}E' || (i // 25)",
                "fee_at": _instant(day, "28800 + i % 30000", "%Y-%m-%d %H:%M:%S"),
                "item_code_local": "'L' || (i % 3000)",
                "item_name": "['血常规', '静脉采血', '阿莫西林胶囊', '床位费', 'CT平扫'][i % 5 + 1]",
                "qty": f"CASE WHEN i % {BROKEN_EVERY} = 7 THEN '一盒半' ELSE CAST(1 + i % 4 AS VARCHAR) END",
                "unit_price": "5 + i % 90",
                "amount": "(5 + i % 90) * (1 + i % 4)",
            },
        )
        target = _folder(root, "his", org, day) / f"fee_item_{day:%Y%m%d}.csv"
        con.execute(f"COPY (SELECT {columns} FROM range({each}) r(i)) TO '{target}' (HEADER)")


def documents(con: Any, root: Path, size: Size, day: date) -> None:
    each = size.documents // len(HOSPITALS)
    text = "repeat('患者三天前受凉后出现咳嗽、咳痰，伴发热，体温最高38.5℃，无胸痛、咯血。', 40)"
    record = _struct(
        "emr_document",
        {
            "doc_id": "'{org}M' || i",
            "encounter_id": "'{org}E' || (i // 3)",
            "patient_local_id": "'{org}P' || (i % 20000)",
            "doc_type_code": "['500.2', '500.7', '500.53'][i % 3 + 1]",
            "title": "['门急诊病历', '检验报告', '出院小结'][i % 3 + 1]",
            "author_id": "'D' || (i % 300)",
            "created_at": _instant(day, "28800 + i % 30000"),
            "signed_at": _instant(day, "29800 + i % 30000"),
            "version": "1",
            "status_code": "'签署'",
            "content_text": text,
        },
    )
    for org in HOSPITALS:
        target = _folder(root, "emr", org, day) / f"emr_document_{day:%Y%m%d}.ndjson"
        _json_lines(con, record.replace("{org}", org), each, target)


def lab_results(con: Any, root: Path, size: Size, day: date) -> None:
    each = size.lab_results // 5 // len(HOSPITALS)
    at = f"{day:%Y%m%d}"
    clock = _instant(day, "25200 + i % 36000", "%Y%m%d%H%M%S")
    for org in HOSPITALS:
        obx = " || ".join(
            f"""'OBX|{n}|NM|{code}^{name}^LN||' || {value} || '|{unit}|{low}-{high}|N|||F|||' || {clock} || chr(13)"""
            for n, (code, name, value, unit, low, high) in enumerate(
                [
                    ("14749-6", "葡萄糖", "(39 + i % 40) / 10.0", "mmol/L", 3.9, 6.1),
                    ("14647-2", "总胆固醇", "(30 + i % 40) / 10.0", "mmol/L", 2.8, 5.2),
                    ("14682-9", "肌酐", "40 + i % 70", "umol/L", 41, 111),
                    ("6690-2", "白细胞计数", "(35 + i % 60) / 10.0", "10*9/L", 3.5, 9.5),
                    ("718-7", "血红蛋白", "110 + i % 60", "g/L", 115, 175),
                ],
                1,
            )
        )
        message = f"""'MSH|^~\\&|LIS|{org}|HIS|{org}|' || {clock} || '||ORU^R01^ORU_R01|{org}{at}' || i
            || '|P|2.5.1||||||UNICODE UTF-8' || chr(13)
            || CASE WHEN i % {BROKEN_EVERY} = 7 THEN 'PID|1'
               ELSE 'PID|1||{org}P' || (i % 20000) || '^^^{org}^MR||王小东||19580312|M' END
            || chr(13) || 'OBR|1|O' || i || '^HIS|{org}R{at}' || i || '^LIS|BIO^生化^L|||' || {clock} || '|||||||' || {clock}
            || '||||||||' || {clock} || '|||F' || chr(13) || {obx}"""
        target = _folder(root, "lis", org, day) / f"oru_{at}.hl7"
        _lines(con, f"SELECT {message} AS line FROM range({each}) r(i) ORDER BY i", target)


def images(_con: Any, root: Path, size: Size, day: date) -> None:
    """Twenty objects a study; one real object is written by pydicom, the others differ from it in their ids."""
    from io import BytesIO

    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    uid = "1.2.826.0.1.3680043.10.{kind}.1{number:011d}"
    one = Dataset()
    one.SpecificCharacterSet = "GB18030"
    one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    one.SOPInstanceUID, one.SeriesInstanceUID = uid.format(kind=1, number=0), uid.format(kind=2, number=0)
    one.StudyInstanceUID, one.AccessionNumber = uid.format(kind=3, number=0), "A00000000000"
    one.PatientID, one.PatientName, one.PatientSex = "P00000000000", "王^小东", "M"
    one.PatientBirthDate, one.StudyDate, one.StudyTime = "19580312", f"{day:%Y%m%d}", "093000"
    one.Modality, one.BodyPartExamined, one.StudyDescription = "CT", "CHEST", "胸部CT平扫"
    one.InstitutionName, one.Manufacturer, one.StationName = "市中心医院", "UIH", "CT01"
    one.SeriesNumber, one.InstanceNumber, one.KVP, one.CTDIvol = 1, 1, 120, 8.1
    one.Rows = one.Columns = 16
    one.BitsAllocated = one.BitsStored = 8
    one.HighBit, one.SamplesPerPixel, one.PixelRepresentation = 7, 1, 0
    one.PhotometricInterpretation, one.PixelData = "MONOCHROME2", b"\0" * 256
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    buffer = BytesIO()
    one.save_as(buffer, enforce_file_format=True)
    template = buffer.getvalue()
    for n in range(size.images):
        study = n // 20
        org = HOSPITALS[study % len(HOSPITALS)]
        folder = _folder(root, "pacs", org, day) / f"study{study:06d}"
        folder.mkdir(exist_ok=True)
        content = template
        for kind, number in ((1, n), (2, n // 10), (3, study)):
            content = content.replace(
                uid.format(kind=kind, number=0).encode(), uid.format(kind=kind, number=number).encode()
            )
        content = content.replace(b"A00000000000", b"A%011d" % study).replace(
            b"P00000000000", b"P%011d" % study
        )
        if n % BROKEN_EVERY == 7:
            content = content[:200]
        (folder / f"{n:06d}.dcm").write_bytes(content)


def _visit(org: str, day: date) -> dict[str, str]:
    visited = f"strftime(DATE '{day}' - CAST(i % 28 AS INTEGER), '%Y-%m-%d')"
    return {
        "visit_id": f"'{org}V{day:%m%d}' || i",
        "archive_id": f"'{org}A' || (i % 9000)",
        "visited_on": visited,
        "visit_way_code": "['门诊', '家庭', '电话'][i % 3 + 1]",
        "symptoms": "'1'",
        "sbp_mmhg": f"CASE WHEN i % {BROKEN_EVERY} = 7 THEN '高' ELSE CAST(110 + i % 60 AS VARCHAR) END",
        "dbp_mmhg": "70 + i % 30",
        "heart_rate_bpm": "60 + i % 40",
        "height_cm": "150 + i % 35",
        "weight_kg": "48.5 + i % 40",
        "bmi": "22.1 + i % 5",
        "smoke_per_day": "i % 20",
        "drink_liang_per_day": "i % 3",
        "exercise_times_week": "i % 7",
        "exercise_min": "30",
        "salt_level_code": "['轻', '中', '重'][i % 3 + 1]",
        "med_compliance_code": "['规律', '间断', '不服药'][i % 3 + 1]",
        "drugs": "'氨氯地平片 5mg qd；缬沙坦胶囊 80mg qd'",
        "is_adverse": "'否'",
        "visit_class_code": "CAST(1 + i % 2 AS VARCHAR)",
        "is_referred": "'否'",
        "next_visit_on": f"strftime(DATE '{day + timedelta(days=90)}', '%Y-%m-%d')",
        "visit_effect_code": "'1'",
        "doctor_id": "'D' || (i % 60)",
        "recorded_at": f"'{day} 17:00:00'",
    }


def public_health(con: Any, root: Path, size: Size, day: date) -> None:
    import xlsxwriter

    each = size.public_health // len(CENTRES)
    for org in CENTRES:
        folder = _folder(root, "public_health", org, day)
        query = f"SELECT {_columns('htn_visit', _visit(org, day))} FROM range({each}) r(i)"
        if org not in WORKBOOK_CENTRES:
            con.execute(f"COPY ({query}) TO '{folder / f'htn_visit_{day:%Y%m%d}.csv'}' (HEADER)")
            continue
        found = con.execute(query)
        book = xlsxwriter.Workbook(str(folder / f"htn_visit_{day:%Y%m%d}.xlsx"), {"constant_memory": True})
        sheet = book.add_worksheet("11月")
        sheet.write_row(0, 0, [d[0] for d in found.description])
        for r, row in enumerate(found.fetchall(), 1):
            sheet.write_row(r, 0, [str(v) for v in row])
        book.close()


PARTS = {
    "iot": readings,
    "his": fee_items,
    "emr": documents,
    "lis": lab_results,
    "pacs": images,
    "public_health": public_health,
}


def write(root: str, share: float, day: date = DAY) -> None:
    """Write the files of one day below ``root`` (the layout of the drop folder)."""
    import duckdb

    con = duckdb.connect(config={"threads": 2})
    size = Size().scaled(share) if share != 1 else Size()
    for part in PARTS.values():
        part(con, Path(root), size, day)
