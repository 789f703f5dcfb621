"""What the ingestion tests share: a sink that keeps what readers give, drops on disk, table contents to compare."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from ingestion.readers.base import LandedFile, Reject
from lake import duck, tables
from lake.settings import settings

DAY = date(2026, 11, 18)
NEXT = date(2026, 11, 19)


class Collected:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.rejects: list[Reject] = []
        self.notices: list[tuple[str, dict[str, Any]]] = []
        self.own_places: dict[int, Mapping[str, str]] = {}
        self.announced: list[tuple[str | None, int, str]] = []

    def rows(self, file: LandedFile, table: str, data: pa.Table) -> None:
        self.tables.setdefault(table, []).extend(data.to_pylist())

    def reject(self, reject: Reject) -> None:
        self.rejects.append(reject)

    def notice(self, file: LandedFile, code: str, *, sheet: str | None = None, **context: Any) -> None:
        self.notices.append((code, context | {"sheet": sheet}))

    def announce(self, file: LandedFile, table: str | None, count: int, what: str) -> None:
        self.announced.append((table, count, what))

    def places(self, file: LandedFile, names: Mapping[str, str]) -> None:
        self.own_places[file.number] = names

    def codes(self) -> list[str]:
        return [r.code for r in self.rejects]


def landed(path: Path, content: bytes | None = None, *, org: str = "H101", number: int = 0) -> LandedFile:
    """A file as landing would describe it; written first when ``content`` is given."""
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    data = path.read_bytes()
    sha = hashlib.sha256(data).hexdigest()
    return LandedFile(number, path, path.name, path.name, sha, len(data), org, str(path))


def drop(feed: str, org: str, name: str, content: bytes, day: date = DAY) -> Path:
    """Put a file into the drop folder of the settings."""
    target = settings().sources_dir / day.isoformat() / feed / org / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def content(name: str, columns: str = "* EXCLUDE (batch_id, received_at)") -> list[tuple[Any, ...]]:
    """All rows of a Delta table in a fixed order; by default without what differs between two runs."""
    if not tables.exists(name):
        return []
    with duck.connect() as con:
        return con.execute(f"SELECT {columns} FROM {tables.scan_sql(name)} ORDER BY ALL").fetchall()


def lake_content() -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the lake, by table, without batch ids and receipt times."""
    found = {}
    for name in tables.names():
        without = "* EXCLUDE (batch_id)" if name.startswith("ops/") else "* EXCLUDE (batch_id, received_at)"
        found[name] = content(name, without)
    return found


def patient_csv(
    *rows: str, header: str = "PATIENT_LOCAL_ID,NAME,SEX_CODE,BIRTH_DATE,SOURCE_UPDATED_AT"
) -> bytes:
    return ("\n".join([header, *rows]) + "\n").encode()


def adt(control_id: str, patient_id: str, name: str = "王小东", *, updated: str = "20261118081500") -> str:
    """One ADT^A04 message as the lead hospital sends it, CR at the segments' ends."""
    return (
        f"MSH|^~\\&|HIS|H001|MEDLAKE|MEDLAKE|{updated}||ADT^A04^ADT_A01|{control_id}|P|2.5.1||||||UNICODE UTF-8\r"
        f"EVN||{updated}\r"
        f"PID|1||{patient_id}^^^H001^MR~42970119580312001X^^^CN^NI~HC77^^^HC^HC||{name}||19580312|M|||"
        f"湖东区解放路3号^^^^^CHN||13912345678|||20|||42970119580312001X||M900|01\r"
        f"NK1|1|李四|||13800001111\r"
    )


def oru(control_id: str, report_id: str, results: str, *, patient: str = "P1") -> str:
    """One ORU^R01 message with the given OBX segments."""
    return (
        f"MSH|^~\\&|LIS|H101|HIS|C201|20261118093000||ORU^R01^ORU_R01|{control_id}|P|2.5.1||||||UNICODE UTF-8\r"
        f"PID|1||{patient}^^^C201^MR||王小东||19580312|M|||||13912345678||||||42970119580312001X\r"
        "PV1|1|O|||||||||||||||||E77\r"
        f"OBR|1|O9^HIS|{report_id}^LIS|BIO^生化^L|||20261118080000|||||||20261118081000||||||||20261118090000|||F\r"
        f"{results}"
    )
