"""The model's levels and guards in SQLite: the same SQL text as the batch run, one statement a request.

Whatever DuckDB calls otherwise is given to SQLite as a function; its edit distances count bytes, and so do ours.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from rapidfuzz.distance import DamerauLevenshtein, Levenshtein

from empi import model
from empi.guards import GUARD_SQL, PROMOTE

#: Columns of ``record`` that guards read by themselves.
_BIRTH = ("birth_mark", "mother_nm", "kin_nm", "is_multiple_birth")
_SIDE = re.compile(r"\b([a-z_0-9]+)_([lr])\b")
_LEVEL_TEXTS = [sql for rungs in model.LEVELS.values() for _, sql in rungs] + list(model.NULLS.values())


@lru_cache(maxsize=1)
def columns() -> tuple[str, ...]:
    """The columns of ``record`` that comparing reads, in a fixed order."""
    read = {found.group(1) for text in _LEVEL_TEXTS for found in _SIDE.finditer(text)}
    return tuple(sorted(read | set(_BIRTH) | set(model.FREQUENCY.values()) | set(model.RETAINED)))


def _portable(text: str) -> str:
    """LEFT and RIGHT are SQLite's words for joins; ``l.column`` and ``r.column`` become plain columns."""
    text = re.sub(r"\b(left|right)\(", r"\1_part(", text)
    return re.sub(r"\b([lr])\.(\w+)", r"\2_\1", text)


@lru_cache(maxsize=1)
def statement() -> str:
    """Compare one record (parameters ``:idno`` ...) with the records that share one of the keys ``:k0`` ... ``:kn``.

    One row a record: ``rec_no, person_no, gamma_*, guard, is_promoted, tf_*`` and the values the frequencies are of.
    """
    read = columns()
    given = ", ".join(f":{c} AS {c}_l" for c in read)
    stored = ", ".join(f"r.{c} AS {c}_r" for c in read)
    gammas = ", ".join(model.gamma_sql(name, _portable) for name in model.LEVELS)
    counted = ", ".join(f"{c}_r, tf_{c}" for c in model.FREQUENCY.values())
    kept = ", ".join(f"gamma_{name}" for name in model.LEVELS)
    frequencies = ", ".join(f"r.tf_{c}" for c in model.FREQUENCY.values())
    marks = ", ".join(f":k{n}" for n in range(len(model.BLOCKING)))
    return f"""
        SELECT rec_no, person_no, {_portable(GUARD_SQL)} AS guard, {_portable(PROMOTE)} AS is_promoted, {kept}, {counted}
        FROM (SELECT *, {gammas} FROM (
            SELECT r.rec_no, r.person_no, {given}, {stored}, {frequencies} FROM rec r
            WHERE r.rec_no IN (SELECT rec_no FROM key WHERE h IN ({marks}))))"""


def _greatest(*values: object) -> object:
    known = [v for v in values if v is not None]
    return max(known, default=None)  # type: ignore[type-var]


def _least(*values: object) -> object:
    known = [v for v in values if v is not None]
    return min(known, default=None)  # type: ignore[type-var]


def _right(text: str | None, length: int) -> str | None:
    return None if text is None else text[-length:] if length else ""


def prepare(connection: sqlite3.Connection) -> None:
    """Teach a connection the functions of the model's SQL."""

    def levenshtein(a: str | None, b: str | None) -> int | None:
        return None if a is None or b is None else Levenshtein.distance(a.encode(), b.encode())

    def damerau(a: str | None, b: str | None) -> int | None:
        return None if a is None or b is None else DamerauLevenshtein.distance(a.encode(), b.encode())

    functions: tuple[tuple[str, int, Callable[..., Any]], ...] = (
        ("left_part", 2, lambda s, n: None if s is None else s[:n]),
        ("right_part", 2, _right),
        ("reverse", 1, lambda s: None if s is None else s[::-1]),
        ("contains", 2, lambda s, part: None if s is None or part is None else part in s),
        ("greatest", -1, _greatest),
        ("least", -1, _least),
        ("levenshtein", 2, levenshtein),
        ("damerau_levenshtein", 2, damerau),
    )
    for name, arguments, function in functions:
        connection.create_function(name, arguments, function, deterministic=True)
    connection.execute("PRAGMA case_sensitive_like = ON")
