"""Masks, as SQL for DuckDB: applied where the data are read, so that an unmasked value never reaches the caller.

What stays lets staff recognise a person they know, and does not let a stranger find one: 张*, 4101**********1234,
138****1234, an address to its township, a birth date to its year. Anything else becomes ***.
"""

from __future__ import annotations

#: Kind -> SQL over ``{c}``; every result is VARCHAR, NULL stays NULL.
_MASKS: dict[str, str] = {
    "name": "CASE WHEN length({c}) > 1 THEN left({c}, 1) || repeat('*', length({c}) - 1) "
    "WHEN {c} IS NOT NULL THEN repeat('*', length({c})) END",
    # a short number would be half open: it shows nothing
    "id_no": "CASE WHEN length({c}) >= 15 THEN left({c}, 4) || repeat('*', length({c}) - 8) || right({c}, 4) "
    "WHEN {c} IS NOT NULL THEN repeat('*', length({c})) END",
    "phone": "CASE WHEN length({c}) >= 11 THEN left({c}, 3) || repeat('*', length({c}) - 7) || right({c}, 4) "
    "WHEN {c} IS NOT NULL THEN repeat('*', length({c})) END",
    "address": "CASE WHEN {c} IS NOT NULL THEN regexp_extract({c}, '^[^0-9０-９]*?(街道|镇|乡)') || '***' END",
    "birth": "CASE WHEN {c} IS NOT NULL THEN coalesce(regexp_extract(CAST({c} AS VARCHAR), '^[0-9]{{4}}'), '') || '年' END",
    "text": "CASE WHEN {c} IS NOT NULL THEN '***' END",
}

KINDS = frozenset(_MASKS)


def mask_sql(kind: str, expr: str) -> str:
    """SQL of ``expr`` masked. ``kind``: name, id_no, phone, address, birth, text (everything else).

    Raises:
        KeyError: there is no such mask.
    """
    return _MASKS[kind].format(c=f"({expr})")
