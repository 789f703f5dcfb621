"""The county platform's exports: bulk history as CSV, workbooks for daily deliveries and two centres' history."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import xlsxwriter

from simulator.writers.base import Drop, aggregated, load, recoded, systems, text_of
from simulator.writers.his_csv import with_damage

CSV_CENTRES = ("C216", "C217", "C218")  # their daily exports are CSV
WORKBOOK_HISTORY = ("C201", "C210")  # even their history comes as workbooks
SERIAL_DATES = ("C210",)  # dates as bare Excel day numbers
LARGE_BOOK = 5000  # rows
ORDER = {
    "ph_archive": "t.archive_id, t.source_updated_at", "htn_card": "t.card_id, t.source_updated_at",
    "dm_card": "t.card_id, t.source_updated_at", "htn_visit": "t.visited_on, t.visit_id, t.recorded_at",
    "dm_visit": "t.visited_on, t.visit_id, t.recorded_at", "ph_exam": "t.exam_on, t.exam_id, t.recorded_at",
    "death_registry": "t.died_on, t.death_id", "birth_record": "t.born_at, t.birth_record_id",
    "newborn_visit": "t.visited_on, t.visit_id", "child_card": "t.card_id, t.source_updated_at",
    "child_visit": "t.visited_on, t.visit_id", "vaccination_record": "t.given_at, t.vaccination_id",
    "preg_card": "t.card_id, t.source_updated_at", "prenatal_visit": "t.visited_on, t.visit_id",
    "delivery": "t.delivered_at, t.delivery_id", "postpartum_visit": "t.visited_on, t.visit_id",
    "tcm_child": "t.visited_on, t.visit_id", "tcm_elder": "t.assessed_on, t.record_id",
    "fd_contract": "t.contract_id, t.source_updated_at", "fd_service": "t.contract_id, t.service_id",
    "smi_card": "t.card_id, t.source_updated_at", "smi_visit": "t.visited_on, t.visit_id",
    "tb_notice": "t.notice_id, t.source_updated_at", "tb_first_visit": "t.visited_at, t.visit_id",
    "tb_visit": "t.visited_on, t.visit_id", "tb_close": "t.stopped_on, t.close_id",
    "idr_card": "t.card_id, t.source_updated_at", "copd_screen": "t.screened_on, t.screen_id",
    "copd_card": "t.card_id, t.source_updated_at", "copd_visit": "t.visited_on, t.visit_id",
    "chronic_one_table": "t.visited_on, t.visit_id",
    "ph_archive_disease": "t.archive_id, t.history_kind_code, t.seq, t.recorded_at",
}  # fmt: skip
SHEET_DATE = {"htn_visit": "visited_on", "dm_visit": "visited_on"}


def _is_workbook(org: str, is_history: bool) -> bool:
    return org in WORKBOOK_HISTORY if is_history else org not in CSV_CENTRES


def write(con: duckdb.DuckDBPyConnection, drop: Drop, table: str, rows: pa.Table, history_end: date) -> None:
    """All files of one public-health table."""
    layout = load("public_health.yaml")[table]
    columns = {name: spec.get("codes") for name, spec in layout["columns"].items()}
    booleans = [f.name for f in rows.schema if pa.types.is_boolean(f.type)]
    kinds = {
        f.name: pa.string() if columns.get(f.name) or f.name in booleans else f.type for f in rows.schema
    }
    con.register("rows", rows)
    source, expressions = recoded("rows", "public_health", columns, booleans)
    slashed = (
        "t.org_code IN ("
        + ", ".join(
            f"'{org}'" for (feed, org), s in systems().items() if feed == "public_health" and s == "ph_code"
        )
        + ")"
    )
    cells = []
    for name, expression in zip(columns, expressions, strict=True):
        text = text_of(expression, kinds[name])
        if pa.types.is_date(kinds[name]) or pa.types.is_timestamp(kinds[name]):
            other = text_of(expression, kinds[name], "%Y/%-m/%-d", "%Y/%-m/%-d %-H:%M:%S")
            text = f"CASE WHEN {slashed} THEN {other} ELSE {text} END"
        cells.append(text)
    head = [spec["header"] for spec in layout["columns"].values()]
    bulk = ", ".join(f"DATE '{day}'" for day in sorted({history_end, *drop.bulk}))
    csv_orgs = (
        f"(CASE WHEN t.deliver_on IN ({bulk}) THEN t.org_code NOT IN {WORKBOOK_HISTORY} "
        f"ELSE t.org_code IN {CSV_CENTRES} END)"
    )
    line = "concat_ws(',', " + ", ".join(f"csv_cell({c})" for c in cells) + ")"
    for org, data_date, _, text in aggregated(con, f"{source} WHERE {csv_orgs}", line, ORDER[table], "\n"):
        if drop.wants(data_date, "public_health"):
            extra = drop.damage.get((data_date, org, table), [])
            body = with_damage(text, extra) if extra else text
            content = b"\xef\xbb\xbf" + (",".join(head) + "\n" + body + "\n").encode()
            drop.write(data_date, "public_health", org, f"{table}_{data_date:%Y%m%d}.csv", content)
    _workbooks(con, drop, table, layout, head, source, cells, kinds, csv_orgs)
    con.unregister("rows")


def _workbooks(
    con: duckdb.DuckDBPyConnection, drop: Drop, table: str, layout: dict[str, Any], head: list[str], source: str,
    cells: list[str], kinds: dict[str, pa.DataType], csv_orgs: str,
) -> None:  # fmt: skip
    month = f"strftime(t.{SHEET_DATE[table]}, '%Y年%m月')" if table in SHEET_DATE else f"'{layout['title']}'"
    found = con.execute(
        f"SELECT t.org_code, t.deliver_on, {month} AS sheet, [{', '.join(cells)}] AS cells FROM {source} WHERE NOT {csv_orgs} "
        f"ORDER BY t.org_code, t.deliver_on, {ORDER[table]}"
    ).fetchall()
    books: dict[tuple[str, date], list[tuple[str, list[str | None]]]] = {}
    for org, data_date, sheet, values in found:
        books.setdefault((org, data_date), []).append((sheet, values))
    dates = [i for i, name in enumerate(layout["columns"]) if pa.types.is_date(kinds[name])]
    for (org, data_date), lines in books.items():
        if not drop.wants(data_date, "public_health"):
            continue
        extra = drop.damage.get((data_date, org, table), [])
        lines += [(lines[-1][0], list(record.split(","))) for record in extra]
        path = drop.path(data_date, "public_health", org, f"{table}_{data_date:%Y%m%d}.xlsx")
        _book(path, str(layout["title"]), org, data_date, head, lines, dates if org in SERIAL_DATES else [])
        drop.files += 1


def _book(
    path: Path,
    title: str,
    org: str,
    data_date: date,
    head: list[str],
    lines: list[tuple[str, list[str | None]]],
    serial: list[int],
) -> None:
    """A workbook as people see it: merged title, a note (or nothing), the header, then everything as text.

    `serial`: columns whose dates are written as bare Excel day numbers.
    """
    # A small book is put together in memory; a large one goes through temporary files, row by row.
    how = {"constant_memory": True} if len(lines) > LARGE_BOOK else {"in_memory": True}
    book = xlsxwriter.Workbook(path, how)
    book.set_properties({"title": title, "created": datetime(data_date.year, data_date.month, data_date.day)})
    bold = book.add_format({"bold": True, "align": "center"})
    sheets: dict[str, list[list[str | None]]] = {}
    for name, values in lines:
        sheets.setdefault(name, []).append(values)
    for name, records in sheets.items():
        sheet = book.add_worksheet(name)
        sheet.merge_range(0, 0, 0, len(head) - 1, f"{org} {title}导出表", bold)
        if org < "C209":
            sheet.write_string(1, 0, f"导出日期:{data_date.isoformat()}  共{len(records)}条")
        sheet.write_row(2, 0, head, bold)
        for r, values in enumerate(records, start=3):
            for c, value in enumerate(values):
                if value is None:
                    continue
                if c in serial and "/" in value:
                    year, month, day = (int(x) for x in value.split("/"))
                    sheet.write_number(r, c, (date(year, month, day) - date(1899, 12, 30)).days)
                else:
                    sheet.write_string(r, c, value)
    book.close()
