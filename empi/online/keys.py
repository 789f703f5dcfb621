"""Keys of the index: every way of proposing a pair, and every number that a person may show, as one 63-bit hash.

Two texts that fall on one hash cost a comparison and nothing else: whatever a key finds is looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from empi.model import BLOCKING

#: Numbers that stand for a person in the lookup, by the column of ``record`` that holds them.
NUMBERS = ("idno", "card", "insurance", "identifier_value")


def _columns(expression: str) -> tuple[str, int | None]:
    """``left(dob, 4)`` -> (``dob``, 4); ``dob`` -> (``dob``, None)."""
    if expression.startswith("left("):
        column, length = expression[5:-1].split(",")
        return column.strip(), int(length)
    return expression, None


def key_hash(text: str) -> int:
    """The same number as :func:`sql` gives."""
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[8:], "little") >> 1


def sql(text: str) -> str:
    """The hash of an SQL text, for DuckDB."""
    return f"(md5_number_lower({text}) >> 1)::BIGINT"


def rule_sql(number: int) -> tuple[str, str]:
    """Text of a blocking rule's key over ``record``, and the condition that the record has it."""
    columns = [_columns(e) for e in BLOCKING[number]]
    parts = [f"left({c}, {n})" if n else c for c, n in columns]
    return f"concat_ws('|', '{number}', {', '.join(parts)})", " AND ".join(
        f"{c} IS NOT NULL" for c, _ in columns
    )


def rule_hashes(record: Mapping[str, Any]) -> list[int]:
    """Hashes of every blocking rule that a standardised record has a key for."""
    found = []
    for number, rule in enumerate(BLOCKING):
        values = []
        for expression in rule:
            column, length = _columns(expression)
            value = record[column]
            if value is None:
                break
            values.append(str(value)[:length] if length else str(value))
        else:
            found.append(key_hash("|".join([str(number), *values])))
    return found


def number_sql(column: str) -> str:
    """Text of the lookup's key of a number."""
    return f"concat('n|', {column})"


def number_hash(number: str) -> int:
    """Hash of a number as somebody gives it, cleaned."""
    return key_hash(f"n|{number}")


def record_hash(source_system: str, org_code: str, identifier_value: str) -> int:
    """Hash of a record's key."""
    return key_hash(f"r|{source_system}|{org_code}|{identifier_value}")


RECORD_SQL = "concat_ws('|', 'r', source_system, org_code, identifier_value)"
