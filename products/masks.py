"""Masks of the identifiers that exports may show: the masks of ``lake.access``, by an export template's modes."""

from __future__ import annotations

from typing import Literal

from lake.access_masks import mask_sql

Mode = Literal["full", "masked", "none"]

#: Identifying field of silver/person -> its mask.
_KINDS: dict[str, str] = {
    "name": "name",
    "id_no": "id_no",
    "phone": "phone",
    "addr_detail": "address",
    "birth_date": "birth",
}

IDENTIFYING = frozenset(_KINDS)


def masked(field: str, column: str, mode: Mode) -> str:
    """SQL of an identifying column under a mode; ``none`` columns are left out before this is asked.

    Raises:
        KeyError: the field is not an identifying one that exports may show.
    """
    kind = _KINDS[field]
    return column if mode == "full" else mask_sql(kind, column)
