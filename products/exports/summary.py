"""The PDF of an export: one to three printed pages that say how many, by institution, month and coded column.

For the file that a superior office keeps on paper. It holds counts of the rows and no row; the counts add up to the rows
that were planned. Chinese is set in STSong-Light by name (Adobe's Asian font, ISO 32000 9.7.5.2), which every reader
has or replaces, so that no font is shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from products.exports.query import Header

#: A column of more different values than this is no classification, and gets no table.
CLASSES = 12
_FONT = "STSong-Light"
#: Columns whose values are persons, numbers or free text: never a classification, however few there are.
_LEVEL = 3


def _quoted(column: str) -> str:
    return f"coalesce({column}::VARCHAR, '（未填）')"


def counts(
    con: duckdb.DuckDBPyConnection, headers: Sequence[Header], period: str | None
) -> list[tuple[str, list[tuple[str, int]]]]:
    """(heading, [(value, rows)]) of the table ``job``: institution, month of the period, then each coded column.

    Each list adds up to all rows; values go by rows, months by date.
    """
    made: list[tuple[str, list[tuple[str, int]]]] = []
    fields = {h.field: f"c{n}" for n, h in enumerate(headers)}
    for field in ("org.org_short_name", "org.org_name", "org_code"):
        if field in fields:
            made.append(("机构", _grouped(con, _quoted(fields[field]))))
            break
    if period in fields and headers[int(fields[period][1:])].kind in ("date", "instant"):
        month = f"coalesce(strftime({fields[period]}, '%Y-%m'), '（未填）')"
        made.append(("月份", _grouped(con, month, order="1")))
    for number, header in enumerate(headers):  # tens of columns
        if (
            header.kind != "text"
            or header.level > _LEVEL
            or header.field.startswith("org")
            or header.act == "mask"
        ):
            continue
        different = con.execute(f"SELECT approx_count_distinct(c{number}) FROM job").fetchall()[0][0]
        if different > 4 * CLASSES:
            continue
        found = _grouped(con, _quoted(f"c{number}"))
        if 1 < len(found) <= CLASSES:
            made.append((header.label_zh, found))
    return made


def _grouped(
    con: duckdb.DuckDBPyConnection, expression: str, order: str = "2 DESC, 1"
) -> list[tuple[str, int]]:
    rows = con.execute(f"SELECT {expression}, count(*) FROM job GROUP BY 1 ORDER BY {order}").fetchall()
    return [(str(value), int(count)) for value, count in rows]


def write_pdf(
    con: duckdb.DuckDBPyConnection,
    path: Path,
    headers: Sequence[Header],
    title_zh: str,
    mark: str,
    facts: Any,
    *,
    period: str | None,
) -> tuple[int, int]:
    """Write the summary of the table ``job``; returns (rows that it counts, 1).

    ``facts(written, sheets)`` gives the lines (label, value) that stand in front; ``mark`` stands on every page.
    """
    from reportlab.lib import colors
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.units import mm
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table

    pdfmetrics.registerFont(UnicodeCIDFont(_FONT))
    title, heading, text, right, numbers = _styles()
    written = int(con.execute("SELECT count(*) FROM job").fetchall()[0][0])
    rows = [[Paragraph(_safe(n), text), Paragraph(_safe(v), text)] for n, v in facts(written, 1)]
    lines = [
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, colors.HexColor("#d5dde5")),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ]
    story: list[Any] = [
        Paragraph(f"{_safe(title_zh)}　汇总", title),
        Table(rows, colWidths=[38 * mm, 132 * mm], style=lines),
    ]
    for label, found in counts(con, headers, period):
        told = [[Paragraph(_safe(label), heading), Paragraph("行数", numbers), Paragraph("占比", numbers)]]
        told += [
            [
                Paragraph(_safe(v), text),
                Paragraph(f"{n:,}", right),
                Paragraph(f"{100 * n / max(written, 1):.1f}%", right),
            ]
            for v, n in found
        ]
        told.append(
            [Paragraph("合计", text), Paragraph(f"{sum(n for _, n in found):,}", right), Paragraph("", text)]
        )
        story += [
            Spacer(1, 6 * mm),
            Table(told, colWidths=[110 * mm, 30 * mm, 30 * mm], style=lines, repeatRows=1),
        ]

    def page(canvas: Any, document: Any) -> None:
        canvas.setFont(_FONT, 8)
        canvas.setFillColor(colors.HexColor("#5b6b7a"))
        canvas.drawString(20 * mm, 12 * mm, f"{mark}　仅含计数，不含个人信息")
        canvas.drawRightString(190 * mm, 12 * mm, f"第 {document.page} 页")

    document = SimpleDocTemplate(
        str(path), pagesize=A4, leftMargin=20 * mm, rightMargin=20 * mm, topMargin=18 * mm, bottomMargin=20 * mm,
        title=f"{title_zh}汇总", author="Medlake", invariant=True,
    )  # fmt: skip
    document.build(story, onFirstPage=page, onLaterPages=page)
    return written, 1


def _styles() -> tuple[Any, Any, Any, Any, Any]:
    """Styles of title, heads of tables, text, numbers, and heads above numbers."""
    from reportlab.lib import colors
    from reportlab.lib.enums import TA_RIGHT
    from reportlab.lib.styles import ParagraphStyle

    text = ParagraphStyle("text", fontName=_FONT, fontSize=9.5, leading=13, wordWrap="CJK")
    title = ParagraphStyle("title", parent=text, fontSize=17, leading=24, spaceAfter=8)
    heading = ParagraphStyle(
        "heading", parent=text, fontSize=11, leading=15, textColor=colors.HexColor("#0b5c6b")
    )
    right, numbers = (
        ParagraphStyle(f"{style.name}_right", parent=style, alignment=TA_RIGHT) for style in (text, heading)
    )
    return title, heading, text, right, numbers


def _safe(value: str) -> str:
    """Text for a paragraph, which reads markup."""
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
