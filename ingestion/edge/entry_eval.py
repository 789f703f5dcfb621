"""Evaluating entry rules on one record, offline. SQL's three values: a NULL passes through, so "not known" is no fault.

DuckDB is the oracle: a property test holds every shipped rule against it on random records.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from lake.local_time import SHANGHAI

Row = Mapping[str, Any]
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_BRACES = re.compile(r"\{([a-z][a-z0-9_]*)(?:\|([a-z][a-z0-9_]*))?\}")


@lru_cache(maxsize=256)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.ASCII)


def _age_on(birth: date, on: date) -> int:
    return on.year - birth.year - (on.month * 100 + on.day < birth.month * 100 + birth.day)


def _check_char(text: str) -> str | None:
    """GB 11643: the 18th character that the first 17 digits ask for."""
    if not re.fullmatch(r"[0-9]{17}", text[:17]):
        return None
    return "10X98765432"[sum(int(d) * w for d, w in zip(text[:17], _WEIGHTS, strict=True)) % 11]


def _id_birth(text: str) -> date | None:
    try:
        return datetime.strptime(text.strip()[6:14], "%Y%m%d").date()
    except ValueError:
        return None


def _id_sex(text: str) -> str | None:
    digit = text.strip()[16:17]
    return ("2", "1")[int(digit) % 2] if digit.isascii() and digit.isdigit() else None


def _local_date(at: datetime) -> date:
    return at.astimezone(SHANGHAI).date()


#: Functions of rules, by name. NULL in, NULL out; those in ``_LOOSE`` look past it.
_STRICT: dict[str, Callable[..., Any]] = {
    "regexp_full_match": lambda text, pattern: _pattern(pattern).fullmatch(text) is not None,
    "regexp_matches": lambda text, pattern: _pattern(pattern).search(text) is not None,
    "upper": lambda text: text.upper(),
    "lower": lambda text: text.lower(),
    "trim": lambda text: text.strip(" "),
    "length": len,
    "substring": lambda text, start, count: text[int(start) - 1 : int(start) - 1 + int(count)],
    "round": lambda number, digits: math.copysign(
        math.floor(abs(number) * 10**digits + 0.5) / 10**digits, number
    ),
    "floor": lambda number: float(math.floor(number)),
    "ceil": lambda number: math.copysign(math.ceil(number), number),
    "year": lambda day: day.year,
    "left": lambda text, n: text[: int(n)],
    "right": lambda text, n: text[-int(n) :] if n else "",
    "abs": abs,
    "age_on": _age_on,
    "id_check_char": _check_char,
    "id_birth_date": _id_birth,
    "id_sex_code": _id_sex,
    "local_date": _local_date,
    "is_face_to_face": lambda way: way in ("1", "2"),
}
_LOOSE: dict[str, Callable[[list[Any]], Any]] = {
    "coalesce": lambda values: next((v for v in values if v is not None), None),
    "greatest": lambda values: max((v for v in values if v is not None), default=None),
    "least": lambda values: min((v for v in values if v is not None), default=None),
    "concat_ws": lambda values: (
        None if values[0] is None else str(values[0]).join(str(v) for v in values[1:] if v is not None)
    ),
}
FUNCTIONS = frozenset(_STRICT) | frozenset(_LOOSE)

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "*": operator.mul,
    "**": operator.pow,
}


class Scope:
    """What an expression sees: the record, its parameters on the day that counts, and the day itself."""

    def __init__(
        self, row: Row, params: Mapping[str, Sequence[Sequence[Any]]], as_of: date, dated: date | None
    ) -> None:
        self._row, self._as_of = row, as_of
        day = (dated or as_of).isoformat()
        self.params = {
            n: next((v for since, v in reversed(steps) if since <= day), None) for n, steps in params.items()
        }

    def value(self, e: Sequence[Any]) -> Any:
        """The value of an expression; None is NULL."""
        kind = e[0]
        if kind == "lit":
            return e[1]
        if kind == "col":
            return self._row.get(e[1])
        if kind == "param":
            return self.params[e[1]]
        if kind == "as_of":
            return self._as_of
        if kind in ("and", "or"):
            return self._logic(kind, e[1], e[2])
        if kind == "not":
            found = self.value(e[1])
            return None if found is None else not found
        if kind == "is_null":
            return self.value(e[1]) is None
        if kind == "case":
            return next((self.value(then) for when, then in e[1] if self.value(when)), self.value(e[2]))
        if kind == "in":
            return self._in(self.value(e[1]), [self.value(x) for x in e[2:]])
        if kind == "fn":
            return self._call(e[1], [self.value(x) for x in e[2:]])
        return self._binary(kind, self.value(e[1]), self.value(e[2]))

    def _logic(self, kind: str, left: Sequence[Any], right: Sequence[Any]) -> bool | None:
        decisive = kind == "or"
        found = [self.value(left), self.value(right)]
        if any(v is not None and bool(v) is decisive for v in found):
            return decisive
        return None if None in found else not decisive

    @staticmethod
    def _in(value: Any, listed: list[Any]) -> bool | None:
        if value is None:
            return None
        return True if value in listed else (None if None in listed else False)

    @staticmethod
    def _call(name: str, values: list[Any]) -> Any:
        if name in _LOOSE:
            return _LOOSE[name](values)
        return None if None in values else _STRICT[name](*values)

    @staticmethod
    def _binary(kind: str, left: Any, right: Any) -> Any:
        if left is None or right is None:
            return None
        if kind == "-":
            return (left - right).days if isinstance(left, date) and isinstance(right, date) else left - right
        if kind == "+":
            return left + right
        if kind == "/":
            return left / right if right else None
        return _COMPARE[kind](left, right)


def ordered(rules: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rules of one table, each after those it needs, else by id."""
    waiting = sorted(rules, key=lambda r: str(r["id"]))
    here, done = {r["id"] for r in rules}, list[Mapping[str, Any]]()
    while waiting:
        past = {r["id"] for r in done}
        ready = [r for r in waiting if all(n in past or n not in here for n in r["needs"])]
        done += ready
        waiting = [r for r in waiting if r not in ready]
    return done


def flag(rule: Mapping[str, Any], row: Row, as_of: date, failed: Mapping[str, bool]) -> bool | None:
    """True: violated; False: holds; None: not evaluated. ``failed`` tells of the rules before it."""
    dated = row.get(rule["dated_by"]) if rule["dated_by"] else None
    if rule["dated_by"] and rule["params"] and dated is None:
        return None
    scope = Scope(row, rule["params"], as_of, dated)
    if None in scope.params.values() or any(failed.get(n) for n in rule["needs"]):
        return None
    if not scope.value(rule["eligibility"]):
        return None
    found = scope.value(rule["condition"])
    return None if found is None else bool(found)


def is_soft(rule: Mapping[str, Any], row: Row, as_of: date) -> bool:
    """Whether this violation is only a warning: such a one does not hold back rules that need this one."""
    scope = Scope(row, rule["params"], as_of, row.get(rule["dated_by"]) if rule["dated_by"] else None)
    return bool(scope.value(rule["warn_when"]))


def message(rule: Mapping[str, Any], row: Row, as_of: date, names: Callable[[str, str], str]) -> str:
    """The rule's message with this record's values. ``names(system, code)`` gives a code's Chinese name."""
    scope = Scope(row, rule["params"], as_of, row.get(rule["dated_by"]) if rule["dated_by"] else None)

    def put(match: re.Match[str]) -> str:
        key = match[1]
        named = rule["named"].get(key)
        found = scope.value(named) if named else scope.params.get(key, row.get(key))
        if match[2] and found is not None:
            return names(match[2], str(found))
        return _text(found)

    return _BRACES.sub(put, str(rule["message_zh"]))


def _text(value: Any) -> str:
    if value is None:
        return "空"
    if isinstance(value, bool):
        return "是" if value else "否"
    return re.sub(r"\.0$", "", str(value))
