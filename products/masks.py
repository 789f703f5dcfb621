"""Masks of identifiers, as SQL: applied where the data are read, so an unmasked value never reaches the caller."""

from __future__ import annotations

from typing import Literal

Mode = Literal["full", "masked", "none"]

#: Identifying field of silver/person -> SQL over ``{c}``, the column. What stays lets an officer recognise a person
#: they know, and does not let a stranger find one.
_MASKS: dict[str, str] = {
    "name": "CASE WHEN length({c}) > 1 THEN left({c}, 1) || repeat('*', length({c}) - 1) ELSE {c} END",
    "id_no": "CASE WHEN length({c}) >= 15 THEN left({c}, 3) || repeat('*', length({c}) - 7) || right({c}, 4) "
    "ELSE repeat('*', length({c})) END",
    "phone": "CASE WHEN length({c}) >= 7 THEN left({c}, 3) || repeat('*', length({c}) - 7) || right({c}, 4) "
    "ELSE repeat('*', length({c})) END",
    "addr_detail": r"CASE WHEN {c} IS NOT NULL THEN regexp_extract({c}, '^.*?(街道|镇|乡)') || '***' END",
    "birth_date": "CASE WHEN {c} IS NOT NULL THEN year({c})::VARCHAR || '年' END",
}

IDENTIFYING = frozenset(_MASKS)


def masked(field: str, column: str, mode: Mode) -> str:
    """SQL of an identifying column under a mode; ``none`` columns are left out before this is asked.

    Raises:
        KeyError: the field is not an identifying one that exports may show.
    """
    sql = _MASKS[field]
    return column if mode == "full" else sql.format(c=column)
