"""The workbook that an institution mends: a sheet a table, its failing rows, the wrong cells coloured.

Every cell is text and marked as such (``quotePrefix``), so Excel turns no identifier into a number and no value into a
formula. The loop over rows writes cells one by one, which is what the format's library offers; rows are streamed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from lake import audit, duck, runs, tables
from lake import correction_book as book
from lake.contracts import TableContract, table_contract
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings
from quality.compile import name as quoted
from quality.compile import text

_log = logger("quality")
#: Rows of a worksheet that Excel opens.
SHEET_ROWS = 1_048_576
_BATCH = 5_000
#: Which of a table's fields a person may see and mend.
Visible = Callable[[str, list[str]], Collection[str]]
_COLOURS = {"error": "#FFC7CE", "warn": "#FFEB9C", "info": "#DDEBF7"}
_RANK = "CASE severity WHEN 'error' THEN 0 WHEN 'warn' THEN 1 ELSE 2 END"
_FRONT = (
    "本工作簿列出本机构未通过质控规则的记录，每行一条，有颜色的单元格是需要核对的字段（红：错误，黄：警告，蓝：提示）。",
    "请直接把有颜色的单元格改成正确的值；鼠标停在单元格上可看到整改说明。其他单元格确有错误也可以修改，主键不能修改。",
    "日期写成 2026-11-18，时间写成 2026-11-18 08:30:00（北京时间），代码写标准代码或名称；清空单元格表示该值应为空。",
    "不要增加行，不要删除隐藏的行和列；可以排序、筛选，不需更正的行原样保留即可。",
    "改好后将本文件放入投递目录 <日期>/correction/<机构编码>/，由平台接入。更正在源系统改好之前以“待源系统更正”生效，"
    "源系统交付同样的值后自动确认；请同时在源系统中更正。",
)


@dataclass(frozen=True)
class _Sheets:
    """What a workbook is made of: formats by name, the rows written so far."""

    book: Any
    formats: dict[str, Any]


def _shown(column: str, kind: str) -> str:
    """A silver value as text for a person: local time, 是/否, whole numbers without a point."""
    if kind == "TIMESTAMPTZ":
        return f"strftime(timezone('Asia/Shanghai', {column}), '%Y-%m-%d %H:%M:%S')"
    if kind == "BOOLEAN":
        return f"CASE WHEN {column} THEN '是' WHEN NOT {column} THEN '否' END"
    if kind == "DOUBLE":
        return f"regexp_replace(CAST({column} AS VARCHAR), '\\.0$', '')"
    return f"CAST({column} AS VARCHAR)"


def _states(with_waived: bool, with_observing: bool) -> str:
    return ", ".join(
        text(s)
        for s in ["open"] + (["waived"] if with_waived else []) + (["observing"] if with_observing else [])
    )


def _gather(
    connection: duckdb.DuckDBPyConnection, run: runs.Run, org_code: str, states: str, visible: Visible | None
) -> tuple[list[TableContract], int]:
    """Make ``wanted`` (a row a failing record): table_name, record_key, problems, cells (JSON {field: severity, note}).

    What a rule says of a field that is not ``visible`` is left out: its message may quote the value.
    Returns the tables, and how many findings are on records of no delivered table (a whole programme, a batch).
    """
    finding = tables.scan_sql("quality/finding", run.versions["quality/finding"])
    connection.execute(f"""
        CREATE TEMP TABLE mine AS SELECT rule_id, table_name, record_key, severity, field_list, message_zh, remedy_zh
        FROM {finding} WHERE org_code = {text(org_code)} AND state IN ({states})""")
    names = [r[0] for r in connection.execute("SELECT DISTINCT table_name FROM mine ORDER BY 1").fetchall()]
    found = []
    for n in names:
        try:
            contract = table_contract(n)
        except KeyError:
            continue
        if f"silver/{n}" in run.versions:
            found.append(contract)
    listed = ", ".join(text(t.name) for t in found) or "''"
    closed = [(t.name, f) for t in found for f in _closed(t, visible)]
    connection.register(
        "closed",
        pa.table(
            [[t for t, _ in closed], [f for _, f in closed]],
            pa.schema([("table_name", pa.string()), ("field", pa.string())]),
        ),
    )
    connection.execute("""
        UPDATE mine SET message_zh = NULL FROM closed c
        WHERE c.table_name = mine.table_name AND list_contains(string_split(replace(mine.field_list, ' ', ''), ','), c.field)""")
    connection.execute(f"""
        CREATE TEMP TABLE wanted AS
        WITH cell AS (
            SELECT table_name, record_key, trim(unnest(string_split(field_list, ','))) AS field, {_RANK} AS rank,
                   rule_id || ' ' || coalesce(remedy_zh, '') AS note
            FROM mine WHERE table_name IN ({listed})
        ), cells AS (
            SELECT table_name, record_key, field, min(rank) AS rank, string_agg(note, chr(10) ORDER BY rank, note) AS note
            FROM cell GROUP BY ALL
        ), coloured AS (
            SELECT table_name, record_key, CAST(json_group_object(field, {{'rank': rank, 'note': note}}) AS VARCHAR) AS cells
            FROM cells GROUP BY ALL
        )
        SELECT table_name, record_key, any_value(cells) AS cells,
               string_agg(rule_id || ' ' || coalesce(message_zh, ''), chr(10) ORDER BY {_RANK}, rule_id) AS problems
        FROM mine JOIN coloured USING (table_name, record_key) GROUP BY ALL""")
    (left,) = connection.execute(
        f"SELECT count(*) FROM mine WHERE table_name NOT IN ({listed})"
    ).fetchone() or (0,)
    return found, int(left)


def _closed(contract: TableContract, visible: Visible | None) -> list[str]:
    """Fields of a table that the workbook leaves out; never a part of the key."""
    names = [f.name for f in contract.fields if not f.is_key]
    shown = set(names if visible is None else visible(contract.name, names))
    return [n for n in names if n not in shown]


def _records(
    connection: duckdb.DuckDBPyConnection,
    contract: TableContract,
    run: runs.Run,
    org_code: str,
    visible: Visible | None,
) -> tuple[list[str], str]:
    """Fields of the sheet, and the query of its rows: texts as shown, then key, hash, problems, cells."""
    silver = f"silver/{contract.name}"
    at = run.versions[silver]
    held = set(tables.columns(silver, at))
    closed = _closed(contract, visible)
    fields = [f for f in contract.fields if f.name in held and f.name not in closed]
    shown = ", ".join(f"{_shown('t.' + quoted(f.name), f.duck_type)} AS {quoted(f.name)}" for f in fields)
    key = book.record_key_sql(contract.key)
    return (
        [f.name for f in fields],
        f"""
        SELECT {shown}, w.record_key AS "#k", t.raw_hash AS "#h", w.problems AS "#p", w.cells AS "#c"
        FROM {tables.scan_sql(silver, at)} t
        JOIN wanted w ON w.table_name = {text(contract.name)} AND w.record_key = {key}
        WHERE t.org_code = {text(org_code)} AND NOT coalesce(t.is_deleted, false) ORDER BY w.record_key""",
    )


def _title(label: str, number: int) -> str:
    plain = "".join(c for c in label if c not in "[]:*?/\\'")[:26]
    return plain if number == 1 else f"{plain}_{number}"


def _head(made: _Sheets, title: str, contract: TableContract, fields: list[str]) -> Any:
    sheet = made.book.add_worksheet(title)
    names = [*fields, book.PROBLEMS, *book.HIDDEN]
    labels = [contract.field(f).label_zh for f in fields] + ["规则与问题"] + [""] * len(book.HIDDEN)
    first = len(fields) + 1
    # widths first: a streamed sheet keeps no rows to measure
    sheet.set_column(0, len(fields) - 1, 16)
    sheet.set_column(len(fields), len(fields), 60)
    sheet.set_column(first, first + len(book.HIDDEN) - 1, 8, None, {"hidden": True})
    sheet.set_row(0, None, None, {"hidden": True})
    for c, value in enumerate(names):
        sheet.write_string(0, c, value, made.formats["text"])
    for c, value in enumerate(labels):
        sheet.write_string(1, c, value, made.formats["head"])
    sheet.freeze_panes(book.HEAD_ROWS, 0)
    return sheet


def _batches(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[tuple[Any, ...]]:
    found = connection.execute(query)
    while rows := found.fetchmany(_BATCH):
        yield from rows


def _write_row(
    made: _Sheets, sheet: Any, line: int, contract: TableContract, fields: list[str], row: tuple[Any, ...],
    org_code: str, data_date: date,
) -> None:  # fmt: skip
    key, digest, problems, cells = row[len(fields) :]
    coloured = json.loads(cells)
    given: dict[str, str] = {}
    for c, field in enumerate(fields):
        value = row[c] or ""
        if len(value) <= book.LONGEST:
            given[field] = value
        else:
            value = value[: book.LONGEST] + "…"
        wrong = coloured.get(field)
        sheet.write_string(line, c, value, made.formats[str(wrong["rank"]) if wrong else "text"])
        if wrong:
            sheet.write_comment(line, c, wrong["note"][:1000])
    hidden = [
        contract.name,
        org_code,
        key,
        digest,
        data_date.isoformat(),
        json.dumps(given, ensure_ascii=False),
    ]
    for c, value in enumerate([problems[:30_000], *hidden], len(fields)):
        sheet.write_string(line, c, value, made.formats["text"])


def out(
    org_code: str,
    data_date: date | None = None,
    *,
    folder: Path | None = None,
    with_waived: bool = False,
    with_observing: bool = False,
    sheet_rows: int = SHEET_ROWS,
    visible: Visible | None = None,
    actor: str = "system",
) -> dict[str, Any]:
    """Write ``<folder>/<date>/<org>/correction_<org>_<date>.xlsx`` (0600).

    Args:
        data_date: of the check; the newest by default.
        folder: below the platform's home by default.
        with_waived, with_observing: also findings that stand waived, or whose rule only observes yet.
        sheet_rows: a sheet is split at so many rows.
        visible: what of a table's fields whoever asks may see and mend; the others are left out (all are in by default).

    Returns:
        data_date, org_code, path, planned (failing records), written, sheets, elsewhere (findings on no record of a
        delivered table).

    Raises:
        MedlakeError: E430, no check of that date.
    """
    import xlsxwriter

    run = runs.get_run(data_date) if data_date else runs.latest_run()
    if run is None or "quality/finding" not in run.versions:
        raise MedlakeError("E430", data_date=data_date or "—", org_code=org_code)
    on = run.data_date
    target = (folder or settings().folder("corrections")) / on.isoformat() / org_code
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = target / f"correction_{org_code}_{on:%Y%m%d}.xlsx"
    draft = path.with_name(f".{path.name}.part")
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    counts: dict[str, tuple[int, int]] = {}
    with duck.connect() as connection:
        found, left = _gather(connection, run, org_code, _states(with_waived, with_observing), visible)
        made_book = xlsxwriter.Workbook(str(draft), {"constant_memory": True, "tmpdir": str(target)})
        made_book.set_properties({"created": datetime(on.year, on.month, on.day)})
        plain = {"num_format": "@", "quote_prefix": True}
        formats = {"text": made_book.add_format(plain), "head": made_book.add_format({"bold": True} | plain)}
        formats |= {
            str(i): made_book.add_format(plain | {"bg_color": c}) for i, c in enumerate(_COLOURS.values())
        }
        made = _Sheets(made_book, formats)
        front = made_book.add_worksheet("说明")
        for contract in found:
            planned = connection.execute(
                "SELECT count(*) FROM wanted WHERE table_name = ?", [contract.name]
            ).fetchone()
            fields, query = _records(connection, contract, run, org_code, visible)
            written, sheet, line, number = 0, None, sheet_rows, 0
            for row in _batches(connection, query):
                if line >= sheet_rows:
                    number += 1
                    sheet = _head(made, _title(contract.label_zh, number), contract, fields)
                    line = book.HEAD_ROWS
                _write_row(made, sheet, line, contract, fields, row, org_code, on)
                line, written = line + 1, written + 1
            counts[contract.label_zh] = (int(planned[0]) if planned else 0, written)
        hidden = sum(len(_closed(contract, visible)) for contract in found)
        _front(front, made, org_code, on, counts, left, hidden)
        sheets = len(made_book.worksheets()) - 1
        made_book.close()
    draft.chmod(0o600)
    draft.rename(path)
    total = [sum(c[i] for c in counts.values()) for i in (0, 1)]
    audit.record(
        "correction.out",
        actor=actor,
        purpose="correction",
        tables=[f"silver/{t.name}" for t in found],
        fields=["*"],
        rows=total[1],
        result="written",
        org_code=org_code,
        data_date=on.isoformat(),
    )
    _log.info("corrections_out", org_code=org_code, data_date=on, planned=total[0], written=total[1])
    return {
        "data_date": on.isoformat(),
        "org_code": org_code,
        "path": str(path),
        "planned": total[0],
        "written": total[1],
        "sheets": sheets,
        "elsewhere": left,
    }


def _front(
    sheet: Any,
    made: _Sheets,
    org_code: str,
    on: date,
    counts: dict[str, tuple[int, int]],
    left: int,
    hidden: int,
) -> None:
    sheet.set_column(0, 0, 100)
    lines = [f"{org_code} 数据更正工作簿（质控日期 {on.isoformat()}）", *_FRONT]
    for label, (planned, written) in counts.items():
        missing = "" if planned == written else f"，其余 {planned - written} 条已不在湖中"
        lines.append(f"{label}：应列 {planned} 条，实列 {written} 条{missing}")
    lines.append(
        f"合计：应列 {sum(c[0] for c in counts.values())} 条，实列 {sum(c[1] for c in counts.values())} 条"
    )
    if left:
        lines.append(f"另有 {left} 个问题不属于单条记录，需在源系统处理，不在本工作簿中")
    if hidden:
        lines.append(f"另有 {hidden} 列按下载人的权限不在本工作簿中，请由机构在源系统更正")
    for r, line in enumerate(lines):
        sheet.write_string(r, 0, line, made.formats["head" if r == 0 else "text"])
