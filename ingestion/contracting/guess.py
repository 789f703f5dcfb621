"""What the columns of a sample are: the dictionary's own fields where they have their names, else guesses from all values.

Types are tried with the very expressions that ingestion reads values with, so a field gets a type only if every value
of the sample has it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import duckdb

from ingestion import codemaps, typing_sql
from ingestion.contracting import wording
from ingestion.contracting.sample import Sample
from ingestion.contracting.value_sets import value_sets
from ingestion.contracting.wording import Heading

#: An identity number of 18 digits, a mobile telephone.
_PERSONAL_VALUE = "([1-9][0-9]{16}[0-9Xx]|1[3-9][0-9]{9})"

#: A time of day that is not midnight.
_CLOCK = "[0-9]{1,2}[:时点][0-9]{2}"
_MIDNIGHT = "[ T]0{1,2}:00(:00(\\.0+)?)?"

#: Above this many different values a column is no code.
_MOST_CODES = 60

#: A key of more columns than this is none that anybody means.
_MOST_KEYS = 3


@dataclass(frozen=True)
class Guess:
    """One column of the future table. ``known`` names the dictionary's field that it was taken from."""

    name: str
    source_name: str
    label_zh: str
    type: str
    unit: str = ""
    code_system: str = ""
    level: int = 3
    is_key: bool = False
    fhir_path: str = ""
    data_element: str = ""
    known: str = ""


class Column:
    """All values of one column, each once, as relation ``v`` with the text ``x``."""

    def __init__(self, con: duckdb.DuckDBPyConnection, name: str) -> None:
        self._con = con
        clean = typing_sql.cleaned(name)
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE v AS SELECT DISTINCT {clean} AS x FROM sample WHERE {clean} IS NOT NULL"
        )
        self.count = self._number("true")

    def _number(self, condition: str) -> int:
        row = self._con.execute(f"SELECT count(*) FROM v WHERE {condition}").fetchone()
        assert row is not None
        return int(row[0])

    def any(self, condition: str) -> bool:
        return self._number(condition) > 0

    def all(self, condition: str) -> bool:
        return self.count > 0 and not self.any(f"NOT coalesce({condition}, false)")

    def fits(self, kind: str) -> bool:
        """Whether every value is of a type, as ingestion reads it."""
        fast = typing_sql.fast(kind, "x", typing_sql.SHANGHAI)
        if self.all(f"({fast}) IS NOT NULL"):
            return True
        slow = typing_sql.slow(kind, "x", typing_sql.SHANGHAI)
        return slow is not None and self.all(f"coalesce({fast}, {slow}) IS NOT NULL")

    def values(self, limit: int) -> list[str]:
        return [r[0] for r in self._con.execute(f"SELECT x FROM v LIMIT {limit}").fetchall()]


def _type(column: Column, head: Heading) -> str:
    """The narrowest type of all values; numbers that only name something stay text."""
    digits = column.all("regexp_full_match(x, '[0-9]+')")
    if digits and (head.names_something or column.any("x LIKE '0_%' OR length(x) > 12")):
        return "string"
    if (not digits or head.is_flag) and column.fits("boolean"):
        return "boolean"
    if not column.all("regexp_matches(x, '[0-9０-９]')"):
        return "string"
    if not digits or head.is_time:
        if column.fits("date") and not column.any(
            f"regexp_matches(x, '{_CLOCK}') AND NOT regexp_matches(x, '{_MIDNIGHT}')"
        ):
            if head.is_time or not column.fits("number"):
                return "date"
        elif column.fits("timestamp"):
            return "timestamp"
    return next((k for k in ("integer", "number") if column.fits(k)), "string")


def _code_system(column: Column, head: Heading) -> str:
    """A list that knows all values: by their words, or by their digits if it is called like the column."""
    values = column.values(_MOST_CODES + 1)
    if not 1 < len(values) <= _MOST_CODES:
        return ""
    worded = sum(1 for v in values if not v.isdigit())
    found: list[tuple[bool, int, str]] = []
    for system, told in value_sets().items():
        known = codemaps.code_map(system)
        if known and all(v.lower() in known for v in values):
            named = head.label in told["label_zh"] or told["label_zh"] in head.label
            if named or worded == len(values):
                found.append((not named, len(known), system))
    return min(found)[2] if found else ""


def _guess(con: duckdb.DuckDBPyConnection, name: str, header: str, is_grid: bool) -> Guess:
    head, column = wording.heading(header), Column(con, name)
    # the readers of sheets match a header without its unit, and convert from that unit
    source = head.label if is_grid and head.unit else header
    same = wording.meant(head)
    usable = (
        same is not None and (is_grid or not head.unit) and (same.type == "string" or column.fits(same.type))
    )
    if same is not None and usable:
        label = same.label_zh if head.label.isascii() else head.label
        return Guess(
            same.name, source, label, same.type, same.unit, same.code_system, same.level,
            fhir_path=same.fhir_path, data_element=same.data_element, known=same.name,
        )  # fmt: skip
    kind = _type(column, head)
    personal = head.personal or column.any(f"regexp_full_match(x, '{_PERSONAL_VALUE}')")
    return Guess(
        wording.free_name(head.name, kind), source, head.label, kind,
        head.unit if kind in ("integer", "number") else "",
        _code_system(column, head) if kind == "string" else "", 4 if personal else 3,
    )  # fmt: skip


def _key(con: duckdb.DuckDBPyConnection, guesses: list[Guess]) -> set[int]:
    """The fewest columns that are never empty and together unique; those that look like a key first."""

    def number(sql: str) -> int:
        row = con.execute(sql).fetchone()
        assert row is not None
        return int(row[0])

    full = [n for n in range(len(guesses)) if not number(f"SELECT count(*) FROM sample WHERE c{n} IS NULL")]
    looks = [wording.heading(g.source_name).may_be_key or g.name.endswith("_id") for g in guesses]
    full.sort(key=lambda n: (not looks[n], guesses[n].type in ("number", "boolean"), n))
    rows = number("SELECT count(*) FROM sample")
    for size in range(1, _MOST_KEYS + 1):
        for chosen in itertools.combinations(full[:12], size):
            listed = ", ".join(f"c{n}" for n in chosen)
            if number(f"SELECT count(*) FROM (SELECT DISTINCT {listed} FROM sample)") == rows:
                return set(chosen)
    return set(full) or {0}


def guesses(sample: Sample) -> list[Guess]:
    """All columns of a sample, each name and label once, the key marked."""
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("sample", sample.data)
        found = [_guess(con, f"c{n}", h, sample.is_grid) for n, h in enumerate(sample.headers)]
        key = _key(con, found)
    made: list[Guess] = []
    for n, g in enumerate(found):
        name = _once(g.name, {m.name for m in made}, "_")
        label = _once(g.label_zh, {m.label_zh for m in made}, "")
        made.append(replace(g, name=name, label_zh=label, is_key=n in key))
    return made


def _once(text: str, taken: set[str], between: str) -> str:
    return next(
        t
        for t in itertools.chain([text], (f"{text}{between}{n}" for n in itertools.count(2)))
        if t not in taken
    )
