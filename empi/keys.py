"""What two records must agree on to meet, as one small number each: a day's few records are looked up by these.

A key is a set of columns: those of a blocking rule (``empi.model``) and those of a home (``empi.families``). Its number is
the lower half of a hash; null where a column is null. Nine million texts compared take a tenth of a day's run for each
rule, nine million numbers a hundredth. Equal numbers only propose: whoever reads them compares the columns afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

from empi.families import HOMES, MOTHERS
from empi.model import BLOCKING


def _columns(rule: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(rule))


#: The keys, each once; a key's place here is its number in the column's name.
KEYS: tuple[tuple[str, ...], ...] = tuple(dict.fromkeys(_columns(r) for r in (*BLOCKING, *HOMES, MOTHERS)))


def column(rule: tuple[str, ...]) -> str:
    """The column that holds the number of a rule's key."""
    return f"k{KEYS.index(_columns(rule))}"


def number(rule: tuple[str, ...], written: Callable[[str], str] = str) -> str:
    """SQL expression of the number; ``written``: what the columns of ``record`` are called there."""
    columns = [written(c) for c in _columns(rule)]
    known = " AND ".join(f"{c} IS NOT NULL" for c in columns)
    return f"CASE WHEN {known} THEN (hash({', '.join(columns)}) & {2**32 - 1})::UINTEGER END"


def select(records: str) -> str:
    """SELECT text of ``rec_id`` and all numbers; ``records``: FROM text of rows with the columns of ``record``."""
    return f"SELECT rec_id, {', '.join(f'{number(k)} AS {column(k)}' for k in KEYS)} FROM {records}"
