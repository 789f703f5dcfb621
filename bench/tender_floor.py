"""The floor of a tender day: the same bytes to Parquet by the barest means, without checks, places, ledger or merge.

DuckDB reads JSON and CSV, HL7 is split at its delimiters, ``pydicom`` reads the wanted tags, ``calamine`` the
workbooks. As many processes as the measured run.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_TAGS = [
    "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "AccessionNumber", "PatientID", "PatientName",
    "PatientSex", "PatientBirthDate", "StudyDate", "StudyTime", "Modality", "BodyPartExamined", "StudyDescription",
    "SeriesNumber", "InstanceNumber", "InstitutionName", "Manufacturer", "StationName", "SpecificCharacterSet",
]  # fmt: skip


def _duck(scan: str, target: Path) -> None:
    import duckdb

    with duckdb.connect(config={"threads": 1, "memory_limit": "1GB"}) as con:
        con.execute(f"COPY (SELECT * FROM {scan}) TO '{target}' (FORMAT parquet)")


def _json(folder: Path, out: Path) -> None:
    _duck(f"read_json('{folder}/*/*.ndjson', format='newline_delimited', ignore_errors=true)", out)


def _csv(folder: Path, out: Path) -> None:
    _duck(f"read_csv('{folder}/*/*.csv', all_varchar=true, union_by_name=true)", out)


def _hl7(folder: Path, out: Path) -> None:
    reports: list[tuple[str, ...]] = []
    results: list[tuple[str, ...]] = []
    for path in sorted(folder.glob("*/*.hl7")):
        report = ""
        for segment in path.read_text("utf-8").replace("\n", "").split("\r"):
            parts = segment.split("|")
            if parts[0] == "OBR":
                report = parts[3].split("^")[0]
                reports.append((report, parts[4], parts[22]))
            elif parts[0] == "OBX":
                results.append((report, parts[1], *(parts[3].split("^")[:2]), parts[5], parts[6]))
    for name, rows in (("report", reports), ("result", results)):
        columns = {f"c{i}": list(column) for i, column in enumerate(zip(*rows, strict=True))}
        pq.write_table(pa.table(columns), out.with_name(f"{out.stem}-{name}.parquet"))


def _dicom(folder: Path, out: Path) -> None:
    import pydicom

    rows = []
    for path in sorted(folder.rglob("*.dcm")):
        try:
            found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        except Exception:
            continue
        rows.append({tag: str(found.get(tag, "")) for tag in _TAGS})
    pq.write_table(pa.Table.from_pylist(rows), out)


def _workbooks(folder: Path, out: Path) -> None:
    import python_calamine

    for n, path in enumerate(sorted(folder.glob("*/*.xlsx"))):
        rows = python_calamine.load_workbook(str(path)).get_sheet_by_index(0).to_python()
        columns = {str(c[0]): [str(v) for v in c[1:]] for c in zip(*rows, strict=True)}
        pq.write_table(pa.table(columns), out.with_name(f"{out.stem}-{n}.parquet"))


_WORK = {
    "iot": (_json,),
    "his": (_csv,),
    "public_health": (_csv, _workbooks),
    "lis": (_hl7,),
    "pacs": (_dicom,),
    "emr": (_json,),
}


def one(feed: str, day_folder: str, out: str) -> None:
    """The floor of one feed."""
    for n, work in enumerate(_WORK[feed]):
        work(Path(day_folder) / feed, Path(out) / f"{feed}{n}.parquet")


def run(day_folder: Path, out: Path, processes: int) -> None:
    """All feeds, in so many processes."""
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(one, feed, str(day_folder), str(out)) for feed in _WORK]:
            done.result()
