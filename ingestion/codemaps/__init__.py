"""Source codes to standard codes: what institutions write, one CSV per code system, reviewed like code.

Which text means which code, in this order: the map of the institution in this feed, of the institution, of the
feed; the standard code itself; the map for everybody; the standard's Chinese and English names. So a source whose
1 and 2 are reversed gets a map of its own and nobody else's changes. A row holds within its dates, by the day of
delivery. Case does not matter. Where all codes of a system are two digits, one digit stands for the code with a
leading zero (spreadsheets drop it). ``ingestion.reviewed`` adds what people accepted while it runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from ingestion import reviewed
from ingestion.reviewed import Row, read
from lake.settings import settings

_HERE = Path(__file__).parent
_FIRST, _LAST = date(1900, 1, 1), date(9999, 12, 31)

#: (feed, org_code) of a map for everybody.
GENERAL = ("", "")


def standard_codes(code_system: str) -> list[Row]:
    """The standard list: rows with code, name_zh, name_en; empty when the system has none here (ICD-10, LOINC)."""
    return [r for r in read(settings().seeds_dir / "codes" / f"{code_system}.csv") if r["code"]]


def _rows(path: Path) -> list[Row]:
    return read(path)


def mapping_rows(code_system: str) -> list[Row]:
    """All reviewed rows of a system, those of git first, then what was accepted, oldest first."""
    accepted = [r for r in reviewed.overlay("code_map") if r["code_system"] == code_system]
    return _rows(_HERE / f"{code_system}.csv") + accepted


def _day(text: str, default: date) -> date:
    return date.fromisoformat(text) if text else default


@lru_cache(maxsize=256)
def _intervals(
    code_system: str, _stamp: tuple[str, int, int]
) -> dict[tuple[str, str], dict[str, list[tuple[date, date, str]]]]:
    """Scope -> folded source text -> (first day, last day, code), the days disjoint; the later row wins."""
    found: dict[tuple[str, str], dict[str, list[tuple[date, date, str]]]] = {}
    for row in mapping_rows(code_system):
        scope = found.setdefault((row["feed"], row["org_code"]), {})
        first, last = _day(row["valid_from"], _FIRST), _day(row["valid_to"], _LAST)
        kept: list[tuple[date, date, str]] = []
        for begins, ends, code in scope.get(row["source_code"].lower(), []):  # what the new row leaves of it
            if begins < first:
                kept.append((begins, min(ends, first - timedelta(days=1)), code))
            if ends > last:
                kept.append((max(begins, last + timedelta(days=1)), ends, code))
        scope[row["source_code"].lower()] = [k for k in kept if k[0] <= k[1]] + [(first, last, row["code"])]
    return found


@lru_cache(maxsize=256)
def _entries(code_system: str, at: tuple[str, int, int]) -> tuple[tuple[str, str, str, date, date, str], ...]:
    """(feed, org_code, folded source text, first day, last day, code); empty when the system has no list."""
    standard = standard_codes(code_system)
    if not standard:
        return ()
    scopes = _intervals(code_system, at)
    found = [
        (feed, org, key, begins, ends, code)
        for (feed, org), keys in scopes.items()
        for key, spans in keys.items()
        for begins, ends, code in spans
        if (feed, org) != GENERAL
    ]
    general = {r["code"].lower(): [(_FIRST, _LAST, r["code"])] for r in standard}
    for key, spans in scopes.get(GENERAL, {}).items():
        general.setdefault(key, spans)
    for name in ("name_zh", "name_en"):
        for row in standard:
            if text := (row.get(name) or "").lower():
                general.setdefault(text, [(_FIRST, _LAST, row["code"])])
    if all(len(r["code"]) == 2 and r["code"].isdigit() for r in standard):
        for row in standard:
            general.setdefault(str(int(row["code"])), [(_FIRST, _LAST, row["code"])])
    found += [("", "", key, b, e, code) for key, spans in general.items() for b, e, code in spans]
    return tuple(found)


def entries(code_system: str) -> tuple[tuple[str, str, str, date, date, str], ...]:
    """Everything known of a system, by scope and validity."""
    return _entries(code_system, reviewed.stamp("code_map"))


def code_map(
    code_system: str, *, feed: str = "", org_code: str = "", on: date | None = None
) -> dict[str, str]:
    """Lower-case source text -> standard code as one institution's delivery of a day is read.

    Without a day, what holds today and ever after counts. Empty when the system has no list here.
    """
    day = on or _LAST
    found: dict[str, str] = {}
    for scope in (GENERAL, (feed, ""), ("", org_code), (feed, org_code)):
        for f, o, key, begins, ends, code in entries(code_system):
            if (f, o) == scope and begins <= day <= ends:
                found[key] = code
    return found


def scope_map(code_system: str, feed: str, on: date | None = None) -> dict[str, str]:
    """Lower-case source text -> code of one scope for everybody, standard codes first."""
    day = on or _LAST
    return {
        key: code
        for f, o, key, begins, ends, code in entries(code_system)
        if (f, o) == (feed, "") and begins <= day <= ends
    }


def scopes(code_system: str, feed: str) -> list[tuple[str, bool]]:
    """Scopes that have maps for a feed, narrowest first: (feed or "", whether it is an institution's own)."""
    present = {(f, bool(o)) for f, o, *_ in entries(code_system)}
    return [s for s in ((feed, True), ("", True), (feed, False), ("", False)) if s in present]


def mapped_systems(code_systems: Iterable[str]) -> list[str]:
    """Those of the code systems that have a list of codes here."""
    return sorted(s for s in set(code_systems) if s and entries(s))


def as_table(code_systems: list[str], on: date | None = None, *, every: bool = False) -> pa.Table:
    """The maps as one table: code_system, feed, org_code, source_key (lower case), valid_from, valid_to, code.

    Args:
        on: the day of delivery; without one, what holds today and ever after counts.
        every: all rows whenever they hold; who joins them must compare the days.
    """
    return _as_table(tuple(code_systems), on or _LAST, every, reviewed.stamp("code_map"))


@lru_cache(maxsize=8)
def _as_table(
    code_systems: tuple[str, ...], day: date, every: bool, _stamp: tuple[str, int, int]
) -> pa.Table:
    rows = [
        (system, *entry)
        for system in code_systems
        for entry in entries(system)
        if every or entry[3] <= day <= entry[4]
    ]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    names = ("code_system", "feed", "org_code", "source_key", "valid_from", "valid_to", "code")
    kinds = (pa.string(), pa.string(), pa.string(), pa.string(), pa.date32(), pa.date32(), pa.string())
    return pa.table({n: pa.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)})
