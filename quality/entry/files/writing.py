"""Every failing cell of a checked file: rule, line, field, what is there, what was expected, message and remedy."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa

from lake.contracts import TableContract
from lake.errors import MedlakeError
from quality.compile import name, text
from quality.entry.files import typing_sql
from quality.rule import RuleBook

SUFFIXES = (".csv", ".xlsx", ".parquet")
#: The rule of a cell that is no value of its field's type.
TYPE_RULE = "TYPE"
_BATCH = 50_000
#: A worksheet holds 1,048,576 rows.
_SHEET_ROWS = 1_048_575
_LABELS = {
    "line": "行号", "record_key": "记录", "org_code": "机构", "rule_id": "规则", "rule_version": "版本", "severity": "级别",
    "field": "字段", "label_zh": "字段名", "value": "单元格", "observed": "实际", "expected": "应为", "message_zh": "问题",
    "remedy_zh": "处理",
}  # fmt: skip
_WANTED = {"integer": "整数", "number": "数值", "boolean": "是/否", "date": "日期", "timestamp": "日期时间"}


def check_suffix(out: Path) -> None:
    """Refuse an output that cannot be written, before the work.

    Raises:
        MedlakeError: E445.
    """
    if out.suffix.lower() not in SUFFIXES or not out.absolute().parent.is_dir():
        raise MedlakeError("E445", place=str(out), detail="--out")


def unread(connection: duckdb.DuckDBPyConnection, table: TableContract, has: set[str]) -> int:
    """Make ``unread`` (line, field): cells that hold something which is no value of their type. Returns their number."""
    fields = [f for f in table.fields if f.name in has and f.type != "string"]
    listed = ", ".join(f"CASE WHEN {typing_sql.unreadable(f)} THEN {text(f.name)} END" for f in fields)
    bad = " OR ".join(typing_sql.unreadable(f) for f in fields) or "false"
    connection.execute(f"""
        CREATE TEMP TABLE unread AS SELECT line, field FROM (
            SELECT g.line, unnest([{listed or "NULL"}]) AS field
            FROM given AS g INNER JOIN silver.{name(table.name)} AS r ON r.source_line = g.line WHERE {bad}
        ) WHERE field IS NOT NULL
    """)
    found = connection.execute("SELECT count(*) FROM unread").fetchone()
    return int(found[0]) if found else 0


def _cells(table: TableContract, book: RuleBook, has: set[str]) -> str:
    """One row per failing cell, as SQL."""
    fields = [f for f in table.fields if f.name in has]
    value = "CASE c.field " + " ".join(f"WHEN {text(f.name)} THEN g.{name(f.name)}" for f in fields) + " END"
    labels = ", ".join(
        f"({text(f.name)}, {text(f.label_zh)}, {text(_WANTED.get(f.type, '文本'))})" for f in table.fields
    )
    rules = ", ".join(f"({text(r.id)}, {r.version}, {text(r.remedy_zh)})" for r in book.of_table(table.name))
    key = " || '|' || ".join(f"coalesce(CAST(r.{name(k)} AS VARCHAR), '')" for k in table.key)
    return f"""
        WITH label AS (SELECT * FROM (VALUES {labels}) AS t(field, label_zh, wanted)),
        rule AS (SELECT * FROM (VALUES {rules}) AS t(rule_id, rule_version, remedy_zh)),
        cell AS (
            SELECT f.source_line AS line, f.record_key, f.org_code, f.rule_id, u.rule_version, f.severity,
                unnest(string_split(f.field_list, ',')) AS field, f.observed, f.expected, f.message_zh, u.remedy_zh
            FROM finding_now AS f INNER JOIN rule AS u ON u.rule_id = f.rule_id
            UNION ALL BY NAME
            SELECT n.line, {key} AS record_key, r.org_code, {text(TYPE_RULE)} AS rule_id, 1 AS rule_version, 'error' AS severity,
                n.field, '{{}}' AS observed, to_json({{type: l.wanted}})::VARCHAR AS expected,
                l.label_zh || '不是' || l.wanted AS message_zh, '改为' || l.wanted AS remedy_zh
            FROM unread AS n INNER JOIN silver.{name(table.name)} AS r ON r.source_line = n.line
            INNER JOIN label AS l ON l.field = n.field
        )
        SELECT c.line, c.record_key, c.org_code, c.rule_id, c.rule_version, c.severity, c.field, l.label_zh,
            {value} AS value, c.observed, c.expected, c.message_zh, c.remedy_zh
        FROM cell AS c LEFT JOIN given AS g ON g.line = c.line LEFT JOIN label AS l ON l.field = c.field
        ORDER BY c.line, c.rule_id, c.field
    """


def write(
    connection: duckdb.DuckDBPyConnection, table: TableContract, book: RuleBook, has: set[str], out: Path
) -> int:
    """Write the failing cells beside ``out`` and put them in its place. Returns their number."""
    reader = connection.execute(_cells(table, book, has)).to_arrow_reader(_BATCH)
    draft = out.with_name(f".{out.name}.part")
    suffix = out.suffix.lower()
    try:
        count = {".csv": _csv, ".parquet": _parquet, ".xlsx": _xlsx}[suffix](reader, draft)
        draft.replace(out)
    except OSError as error:
        raise MedlakeError("E445", place=str(out), detail=error.strerror or "--out") from error
    finally:
        draft.unlink(missing_ok=True)
    return count


def _csv(reader: pa.RecordBatchReader, target: Path) -> int:
    from pyarrow import csv

    count = 0
    with target.open("wb") as file:
        file.write(b"\xef\xbb\xbf")  # without the mark a spreadsheet reads Chinese as something else
        with csv.CSVWriter(file, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
                count += batch.num_rows
    return count


def _parquet(reader: pa.RecordBatchReader, target: Path) -> int:
    import pyarrow.parquet as pq

    count = 0
    with pq.ParquetWriter(target, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def _xlsx(reader: pa.RecordBatchReader, target: Path) -> int:
    import xlsxwriter

    count = 0
    plain = {
        "constant_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }
    with xlsxwriter.Workbook(str(target), plain) as book:
        bold, sheet = book.add_format({"bold": True}), None
        for batch in reader:
            # a workbook is written cell by cell: there is no set form of that
            for row in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                if count % _SHEET_ROWS == 0:
                    sheet = book.add_worksheet(f"问题{count // _SHEET_ROWS + 1}")
                    sheet.write_row(0, 0, [_LABELS[c] for c in reader.schema.names], bold)
                    sheet.freeze_panes(1, 0)
                assert sheet is not None
                sheet.write_row(1 + count % _SHEET_ROWS, 0, row)
                count += 1
        if sheet is None:
            book.add_worksheet("问题1").write_row(0, 0, [_LABELS[c] for c in reader.schema.names], bold)
    return count
