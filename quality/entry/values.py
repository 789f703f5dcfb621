"""Records of a request, held against the contract: plain JSON values in the contract's field names.

What is refused is named by record and field with the type that is wanted; a value never enters a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from lake.contracts import Field, TableContract
from lake.local_time import SHANGHAI

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?\d{2})?", re.ASCII)
_INT64 = 1 << 63

#: Type -> (Chinese, English) of what is wanted.
WANTED = {
    "string": ("文本", "text"),
    "integer": ("整数", "an integer"),
    "number": ("数值", "a number"),
    "boolean": ("true 或 false", "true or false"),
    "date": ("日期 YYYY-MM-DD", "a date YYYY-MM-DD"),
    "timestamp": (
        "时刻 YYYY-MM-DDTHH:MM:SS+08:00（不写时区按北京时间）",
        "an instant in ISO 8601 (Shanghai if no zone)",
    ),
}

Problem = dict[str, Any]


class _Refused(Exception):
    """The value is not of the field's type."""


def _instant(value: Any) -> str:
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        raise _Refused
    at = datetime.fromisoformat(value)
    return (at if at.tzinfo else at.replace(tzinfo=SHANGHAI)).isoformat()


def _day(value: Any) -> str:
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise _Refused
    return date.fromisoformat(value).isoformat()


def _plain(kind: str, value: Any) -> Any:
    """A value of a contract type as JSON takes it; raises where it is another type."""
    if kind == "string":
        if isinstance(value, str) and "\x00" not in value:
            value.encode()  # half a surrogate pair is no text
            return value
    elif kind == "boolean":
        if isinstance(value, bool):
            return value
    elif kind == "integer":
        if isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < _INT64:
            return value
    elif kind == "number":
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and math.isfinite(value) and abs(value) < 1e300:
            return float(value)
    elif kind == "date":
        return _day(value)
    elif kind == "timestamp":
        return _instant(value)
    raise _Refused


def problem(record: int | None, where: str, zh: str, en: str) -> Problem:
    return {"record": record, "field": where, "zh": zh, "en": en}


def _wrong(record: int | None, field: Field, prefix: str) -> Problem:
    zh, en = WANTED[field.type]
    return problem(record, prefix + field.name, f"{field.label_zh}应为{zh}", f"{field.name} must be {en}")


def typed(
    table: TableContract, node: Mapping[str, Any], org_code: str, record: int | None, prefix: str = ""
) -> tuple[dict[str, Any], list[Problem]]:
    """A record's fields as JSON values of their types, and what is wrong with it.

    A key that is not given yet (the record is new) is filled by a mark that no source uses. ``org_code`` may be given
    if it is the token's institution; other names that the contract does not have are refused.

    Args:
        record: its place in the request from 0; None for rows that come along.
    """
    fields = {f.name: f for f in table.fields}
    found: list[Problem] = []
    row: dict[str, Any] = {"org_code": org_code}
    for name, value in node.items():
        if name == "org_code" and name not in fields:
            if value != org_code:
                found.append(
                    problem(record, prefix + name, "与凭证机构不同", "is not the token's institution")
                )
            continue
        field = fields.get(name)
        if field is None:
            shown = name if re.fullmatch(r"\w{1,40}", name) else "?"
            found.append(
                problem(
                    record, prefix + shown, f"{table.label_zh}没有这个字段", f"{table.name} has no such field"
                )
            )
            continue
        if value is None:
            continue
        try:
            row[name] = _plain(field.type, value)
        except (_Refused, ValueError):
            found.append(_wrong(record, field, prefix))
    for field in table.fields:
        if field.is_key and row.get(field.name) is None and field.type == "string":
            row[field.name] = f"新{0 if record is None else record + 1}"
    return row, found
