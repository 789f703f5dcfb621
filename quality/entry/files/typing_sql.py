"""Text of a file as the contract's types, in SQL: what cannot be read so is NULL, and told apart as a failing cell."""

from __future__ import annotations

from lake.contracts import Field
from quality.compile import name, text

_DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%Y.%m.%d", "%Y年%m月%d日")
_TIMES = ("", " %H:%M:%S", " %H:%M", "T%H:%M:%S", "T%H:%M", " %H:%M:%S.%f", "T%H:%M:%S.%f")
_TRUE, _FALSE = ("1", "true", "t", "yes", "y", "是", "有"), ("0", "false", "f", "no", "n", "否", "无")
_ZONE = r"[T ]\d{2}:\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"


def _list(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(text(v) for v in values) + "]"


def cleaned(column: str) -> str:
    """Text without blanks around it; nothing for an empty cell."""
    return f"nullif(trim(g.{name(column)}, ' \t\r\n　'), '')"


def typed(field: Field) -> str:
    """A field's value of its type; an instant without a zone is Shanghai's."""
    given = cleaned(field.name)
    if field.type == "string":
        return given
    if field.type == "boolean":
        word = f"lower({given})"
        yes, no = (f"WHEN list_contains({_list(words)}, {word})" for words in (_TRUE, _FALSE))
        return f"CASE {yes} THEN true {no} THEN false END"
    if field.type == "integer":
        whole = f"regexp_replace({given}, '\\.0+$', '')"
        return f"TRY_CAST(CASE WHEN regexp_full_match({whole}, '[+-]?[0-9]+') THEN {whole} END AS BIGINT)"
    if field.type == "number":
        number = f"TRY_CAST({given} AS DOUBLE)"
        return f"CASE WHEN isfinite({number}) THEN {number} END"
    days = _list(tuple(d + t for d in _DAYS for t in _TIMES))
    if field.type == "date":
        return f"CAST(try_strptime({given}, {days}) AS DATE)"
    local = f"try_strptime({given}, {days}) AT TIME ZONE 'Asia/Shanghai'"
    return f"CASE WHEN regexp_matches({given}, {text(_ZONE)}) THEN TRY_CAST({given} AS TIMESTAMPTZ) ELSE {local} END"


def unreadable(field: Field) -> str:
    """Whether a cell holds something that is no value of its field's type."""
    return f"({cleaned(field.name)} IS NOT NULL AND r.{name(field.name)} IS NULL)"
