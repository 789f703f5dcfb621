"""A realistic blank county workbook: two sheets, merged titles, borders, formulas, and its bindings."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from openpyxl import Workbook
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side

_LINE = Side(style="thin")
CHRONIC = [("高血压患者在管人数", "PH12N"), ("高血压新建管理卡数", "M102"), ("高血压随访人次", "M103")]


def blank() -> bytes:
    """The workbook as the county hands it out."""
    book = Workbook()
    sheet = book.active
    sheet.title = "表1 慢病"
    sheet.merge_cells("A1:D1")
    sheet["A1"] = "基本公共卫生服务项目慢性病管理月报表"
    sheet["A1"].font = Font(name="宋体", size=16, bold=True)
    sheet["A1"].alignment = Alignment(horizontal="center")
    for at, text in enumerate(("项目", "行次", "本月", "本年累计"), start=1):
        cell = sheet.cell(3, at, text)
        cell.fill = PatternFill("solid", fgColor="D9E1F2")
        cell.border = Border(_LINE, _LINE, _LINE, _LINE)
    for row, (label, _) in enumerate(CHRONIC, start=4):
        sheet.cell(row, 1, label)
        sheet.cell(row, 2, row - 3)
        for column in (3, 4):
            sheet.cell(row, column).border = Border(_LINE, _LINE, _LINE, _LINE)
    sheet["A7"] = "随访与建卡合计"
    sheet["C7"] = "=SUM(C5:C6)"
    sheet.column_dimensions["A"].width = 28
    other = book.create_sheet("表2 汇总")
    other["A1"], other["A2"] = "高血压随访人次", "糖尿病随访人次"
    out = BytesIO()
    book.save(out)
    return out.getvalue()


def bindings() -> dict[str, Any]:
    """What an officer clicks together, once."""
    return {
        "title_zh": "慢性病管理月报",
        "cells": [
            {"cell": "表1 慢病!C4", "indicator": "PH12N"},
            {"cell": "表1 慢病!C5", "indicator": "M102"},
            {"cell": "表1 慢病!C6", "indicator": "M103"},
            {"cell": "表1 慢病!D6", "indicator": "M103", "span": "year", "plus": "表1 慢病!C6"},
            {"cell": "表2 汇总!B1", "indicator": "M103"},
            {"cell": "表2 汇总!B2", "indicator": "M106"},
        ],
        "checks": [
            "'表1 慢病'!C6 = '表2 汇总'!B1",
            "'表1 慢病'!C7 = '表1 慢病'!C5 + '表1 慢病'!C6",
            "'表1 慢病'!C6 <= '表1 慢病'!D6",
        ],
    }
