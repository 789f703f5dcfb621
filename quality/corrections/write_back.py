"""What is waiting for its source, as files with the header that the source itself delivered last.

A row is the source's own last row, as text, with the corrected cells replaced: dates, codes and yes/no are written as
the institution writes them where its own rows show how. Files carry a fingerprint of their content, so writing again
without news leaves all as it is. Deliveries that are no tables (HL7, JSON, DICOM) have no header: told as ``no_layout``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb

from lake import audit, duck, ledger, tables
from lake.contracts import TableContract, table_contract
from lake.log import logger
from lake.settings import settings
from quality.compile import name as quoted
from quality.compile import text
from quality.corrections.state import waiting_sql

_log = logger("quality")
_BOOKS = (".xlsx", ".xlsm", ".xls")
_PLAIN = (".csv", ".txt", ".tsv")
_HEADER_ROWS = 20
_SAMPLE = 2000


@dataclass(frozen=True)
class Layout:
    """A delivered header: rows above it and itself, as text; which kind of file, and how a text file is written."""

    head: list[list[str]]
    is_book: bool
    sheet: str
    encoding: str = "utf-8-sig"
    delimiter: str = ","

    @property
    def labels(self) -> list[str]:
        return self.head[-1]


def _names(contract: TableContract) -> dict[str, str]:
    found: dict[str, str] = {}
    for f in contract.fields:
        for label in (f.label_zh, f.name, f.physical_name):
            found[label.strip().lower()] = f.name
    return found


def _header(rows: list[list[str]], contract: TableContract) -> list[list[str]] | None:
    names = _names(contract)
    hits = [sum(c.strip().lower() in names for c in row) for row in rows]
    best = max(range(len(rows)), key=lambda i: hits[i], default=None)
    return rows[: best + 1] if best is not None and hits[best] >= 2 else None


def layout(path: Path, contract: TableContract) -> Layout | None:
    """The layout of a delivered file; None when it is no table or its header is not known here."""
    kind = path.suffix.lower()
    if kind in _BOOKS:
        from python_calamine import CalamineWorkbook

        with CalamineWorkbook.from_path(str(path)) as opened:
            for sheet in opened.sheet_names:
                read = opened.get_sheet_by_name(sheet).to_python(nrows=_HEADER_ROWS, skip_empty_area=False)
                if head := _header([["" if c is None else str(c) for c in r] for r in read], contract):
                    return Layout(head, True, sheet)
        return None
    if kind not in _PLAIN:
        return None
    with path.open("rb") as opened:
        start = opened.read(64 * 1024)
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            decoded = start[: start.rfind(b"\n") + 1 or None].decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8-sig" and not start.startswith(b"\xef\xbb\xbf"):
            encoding = "utf-8"
        delimiter = max(",\t|;", key=decoded.splitlines()[0].count) if decoded.splitlines() else ","
        rows = list(csv.reader(io.StringIO(decoded), delimiter=delimiter))[:_HEADER_ROWS]
        head = _header(rows, contract)
        return Layout(head, False, "", encoding, delimiter) if head else None
    return None


def _styles(
    connection: duckdb.DuckDBPyConnection, silver: str, bronze: str, org: str, field: str, key: str
) -> dict[str, str]:
    """How the institution writes a field's values: canonical text -> its commonest text in rows that
    are not corrected themselves."""
    rows = connection.execute(
        f"""SELECT v, mode(r) FROM (SELECT CAST(s.{quoted(field)} AS VARCHAR) AS v, b.{quoted(field)} AS r
            FROM {silver} s JOIN {bronze} b USING (org_code, batch_id, raw_hash)
            ANTI JOIN due d ON d.org_code = s.org_code AND d.record_key = {key}
            WHERE s.org_code = {text(org)} AND b.{quoted(field)} <> '' LIMIT {_SAMPLE}) WHERE v IS NOT NULL GROUP BY v"""
    ).fetchall()
    return dict(rows)


def _as_source(contract: TableContract, field: str, value: str | None, styles: dict[str, str]) -> str:
    """A corrected value as the institution would write it; dates with slashes where its own have them."""
    if value is None:
        return ""
    if contract.field(field).type in ("string", "boolean") and value in styles:
        return styles[value]
    kind = contract.field(field).type
    slashed = any("/" in t for t in styles.values())
    if kind == "boolean":
        return {"true": "是", "false": "否"}[value]
    if kind == "number":
        return value.removesuffix(".0")
    if kind == "timestamp":
        from datetime import datetime

        from lake.local_time import SHANGHAI

        value = f"{datetime.fromisoformat(value).astimezone(SHANGHAI):%Y-%m-%d %H:%M:%S}"
    return value.replace("-", "/") if slashed and kind in ("date", "timestamp") else value


def _content(way: Layout, lines: list[list[str]], on: date) -> bytes:
    if not way.is_book:
        told = io.StringIO()
        csv.writer(told, delimiter=way.delimiter, lineterminator="\r\n").writerows([*way.head, *lines])
        return told.getvalue().encode(way.encoding)
    from datetime import datetime

    import xlsxwriter

    made = io.BytesIO()
    opened = xlsxwriter.Workbook(made, {"in_memory": True})
    opened.set_properties({"created": datetime(on.year, on.month, on.day)})
    plain = opened.add_format({"num_format": "@", "quote_prefix": True})
    sheet = opened.add_worksheet(way.sheet[:31])
    for r, row in enumerate([*way.head, *lines]):
        for c, value in enumerate(row):
            if value:
                sheet.write_string(r, c, value, plain)
    opened.close()
    return made.getvalue()


def _save(path: Path, content: bytes) -> bool:
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.part")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    return True


def write(
    data_date: date,
    *,
    folder: Path | None = None,
    org_codes: Collection[str] | None = None,
    actor: str = "system",
) -> dict[str, Any]:
    """Write the records with waiting corrections as of a date (of some institutions only), a file per institution and
    table.

    Returns:
        data_date, waiting (fields), records, files (new), unchanged, no_layout ([org, table]), out.
    """
    shown = ledger.visible("")
    counts: dict[str, Any] = {"data_date": data_date.isoformat(), "waiting": 0, "records": 0, "files": 0}
    counts |= {"unchanged": 0, "no_layout": []}
    root = (folder or settings().folder("write_back")) / data_date.isoformat()
    with duck.connect() as connection:
        connection.execute(f"CREATE TEMP TABLE due AS SELECT * FROM {waiting_sql(data_date)}")
        pairs = connection.execute(
            "SELECT table_name, org_code, count(*) FROM due WHERE $1 IS NULL OR list_contains($1, org_code) "
            "GROUP BY ALL ORDER BY ALL",
            [None if org_codes is None else sorted(org_codes)],
        ).fetchall()
        for table, org, fields in pairs:
            counts["waiting"] += fields
            written = _write_one(connection, table_contract(table), org, shown, root, data_date)
            if written is None:
                counts["no_layout"].append([org, table])
                continue
            records, is_new = written
            counts["records"] += records
            counts["files" if is_new else "unchanged"] += 1
    counts["out"] = str(root)
    if counts["files"]:
        audit.record("correction.write", actor=actor, purpose="correction", tables=["silver/correction"],
                     fields=["*"], rows=counts["records"], result="written", data_date=data_date.isoformat())  # fmt: skip
    _log.info("corrections_written", data_date=data_date, files=counts["files"], records=counts["records"])
    return counts


def _write_one(
    connection: duckdb.DuckDBPyConnection, contract: TableContract, org: str, shown: dict[str, int], root: Path, on: date
) -> tuple[int, bool] | None:  # fmt: skip
    names = f"silver/{contract.name}", f"bronze/{contract.feed}/{contract.name}"
    if any(n not in shown for n in names):
        return None
    silver, bronze = (tables.scan_sql(n, shown[n]) for n in names)
    newest = connection.execute(
        f"SELECT arg_max(source_file, received_at) FROM {bronze} WHERE org_code = {text(org)}"
    ).fetchone()
    path = settings().landing_dir / str(newest[0] if newest else "")
    way = layout(path, contract) if path.is_file() else None
    if way is None:
        return None
    known = _names(contract)
    key = "concat_ws('|', " + ", ".join(f"s.{quoted(k)}" for k in contract.key) + ")"
    due = f"SELECT record_key, field FROM due WHERE table_name = {text(contract.name)} AND org_code = {text(org)}"
    fields = [r[0] for r in connection.execute(f"SELECT DISTINCT field FROM ({due}) ORDER BY 1").fetchall()]
    values = ", ".join(f"CAST(s.{quoted(f)} AS VARCHAR) AS {quoted('now_' + f)}" for f in fields)
    rows = connection.execute(
        f"""SELECT b.*, {values}, d.fields AS "#fields" FROM {silver} s
        JOIN (SELECT record_key, list(field) AS fields FROM ({due}) GROUP BY ALL) d ON d.record_key = {key}
        JOIN {bronze} b USING (org_code, batch_id, raw_hash) WHERE s.org_code = {text(org)}
        QUALIFY row_number() OVER (PARTITION BY d.record_key ORDER BY b.source_line) = 1 ORDER BY d.record_key"""
    ).to_arrow_table().to_pylist()  # fmt: skip
    styles = {f: _styles(connection, silver, bronze, org, f, key) for f in fields}
    lines = []
    for row in rows:  # a file of corrections, hundreds of rows
        extra = json.loads(row["_extra"] or "{}")
        mended = {f: _as_source(contract, f, row["now_" + f], styles[f]) for f in row["#fields"]}
        lines.append(
            [
                mended[f] if (f := known.get(label.strip().lower(), "")) in mended else (row[f] or "") if f
                else str(extra.get(label, ""))
                for label in way.labels
            ]
        )  # fmt: skip
    digest = hashlib.sha256(repr((way, lines)).encode()).hexdigest()[:8]
    suffix = ".xlsx" if way.is_book else PurePosixPath(path.name).suffix
    target = root / contract.feed / org / f"{contract.name}_{on:%Y%m%d}_{digest}{suffix}"
    return len(rows), _save(target, _content(way, lines, on))
