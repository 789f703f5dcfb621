"""Scorecards, leads and gates for pages, within the institutions in reach: aggregates, no record of a resident.

What a check left is kept by its occasion: it is computed once and never stale. Charts are points for SVG.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from typing import Any

from lake import access, duck, tables
from lake.errors import MedlakeError
from lake.settings import settings
from portal import work as my_work
from portal.accounts import Person
from quality import forensics, scorecards
from quality.gates_explained import Explained, explain
from quality.tickets import counting

DAYS = (30, 90, 365)
#: Where an interval's axis begins at the latest, and the widths of the drawings.
_BAR, _WIDTH, _HEIGHT, _LEFT, _TOP = 200, 760, 220, 44, 12


def scope(person: Person) -> frozenset[str] | None:
    """Institutions in reach; None: all."""
    return access.scope(my_work.caller(person))


def _occasion() -> str:
    at = counting.newest()
    return f"{settings().home}|{at.occasion if at else ''}"


@lru_cache(maxsize=64)
def _ranking(_occasion: str, domain: str) -> tuple[dict[str, Any], ...]:
    return tuple(scorecards.ranking(domain))


@lru_cache(maxsize=4)
def _domains(_occasion: str) -> dict[str, str]:
    return scorecards.domains()


@lru_cache(maxsize=512)
def _explained(_occasion: str, org: str, domain: str) -> dict[str, Any]:
    return scorecards.explain(org, domain)


@lru_cache(maxsize=256)
def _card(_occasion: str, org: str) -> dict[str, Any]:
    return scorecards.card(org)


@lru_cache(maxsize=512)
def _trend(_occasion: str, org: str, domain: str, days: int) -> tuple[dict[str, Any], ...]:
    return tuple(scorecards.trend(org or None, domain, days))


@lru_cache(maxsize=4)
def _gates(_occasion: str) -> tuple[Explained, ...]:
    return tuple(explain())


def with_bars(rows: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], float]:
    """Rows with ``bar`` = (left, middle, right) of the interval on an axis of 200 (None without one), and the score at
    the axis's left end; its right end is 100."""
    made = list(rows)
    lows = [r["score_low"] for r in made if r["score_low"] is not None]
    low = max(0.0, min(95.0, 5 * (min(lows, default=95.0) // 5)))

    def place(value: float) -> float:
        return round(6 + (value - low) / (100 - low) * (_BAR - 12), 1)

    def bar(row: dict[str, Any]) -> tuple[float, ...] | None:
        at = (row["score_low"], row["shrunk_score"], row["score_high"])
        return None if None in at else tuple(place(v) for v in at)

    return [r | {"bar": bar(r)} for r in made], low


def chart(rows: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """A trend as SVG: ``points`` of the line, ``dots`` (x, y, day, score), ``ticks`` (y, label); None without a score."""
    kept = [(r["data_date"], float(r["score"])) for r in rows if r["score"] is not None]
    if not kept:
        return None
    first, last = kept[0][0], kept[-1][0]
    span = max(1, (last - first).days)
    low, high = min(v for _, v in kept), max(v for _, v in kept)
    bottom = max(0.0, low - max(1.0, (high - low) * 0.2))
    top = min(100.0, high + max(1.0, (high - low) * 0.2))

    def x(day: date) -> float:
        middle = _LEFT + (_WIDTH - _LEFT - 16) / 2
        return round(_LEFT + (day - first).days / span * (_WIDTH - _LEFT - 16), 1) if last > first else middle

    def y(value: float) -> float:
        return round(_TOP + (top - value) / ((top - bottom) or 1) * (_HEIGHT - _TOP - 34), 1)

    ticks = [bottom, (bottom + top) / 2, top]
    return {
        "width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "first": first, "last": last, "single": last == first,
        "points": " ".join(f"{x(d)},{y(v)}" for d, v in kept),
        "dots": [(x(d), y(v), d, v) for d, v in kept],
        "ticks": [(y(t), round(t, 1)) for t in ticks],
    }  # fmt: skip


def ranking(person: Person, domain: str, days: int) -> dict[str, Any]:
    """The institutions in reach with their places among all, the city's (or own) trend, the formula.

    Raises:
        MedlakeError: E450 nothing was checked; E452 there is no such domain.
    """
    at, seen = _occasion(), scope(person)
    known = _domains(at)
    every = _ranking(at, domain)
    rows = [r for r in every if seen is None or r["org_code"] in seen]
    shown, low = with_bars([r for r in rows if r["score"] is not None])
    own = "" if seen is None else person.org_code
    return {
        "domains": known,
        "rows": shown,
        "low": low,
        "without": [r for r in rows if r["score"] is None],
        "is_part": seen is not None,
        "formula_zh": _card(at, person.org_code or every[0]["org_code"])["formula_zh"],
        "chart": chart(_trend(at, own, domain, days)),
        "data_date": _card(at, every[0]["org_code"])["data_date"],
    }


def card(person: Person, org: str, domain: str, days: int) -> dict[str, Any] | None:
    """An institution's card, one domain taken apart, its trend; None for an institution out of reach.

    Raises:
        MedlakeError: E450 nothing was checked; E451, E452 no such institution or domain.
    """
    seen = scope(person)
    if seen is not None and org not in seen:
        return None
    at = _occasion()
    whole = _card(at, org)
    known = {r["domain"]: r for r in whole["domains"]}
    if domain not in known:
        raise MedlakeError("E452", domain=domain[:20], known="、".join(known))
    rows, low = with_bars(whole["domains"])
    try:
        told = _explained(at, org, domain)
    except MedlakeError as error:
        if error.code != "E453":  # an older version's check kept no parts: the card is there all the same
            raise
        told = {"card": known[domain], "parts": []}
    return {
        "whole": whole,
        "rows": rows,
        "low": low,
        "told": told,
        "taken": sum(p["points"] for p in told["parts"]),
        "chart": chart(_trend(at, org, domain, days)),
    }


def quarters() -> list[str]:
    """Quarters that were screened, the newest first."""
    if not tables.exists(forensics.TABLE):
        return []
    with duck.connect() as connection:
        sql = f"SELECT DISTINCT quarter FROM {tables.scan_sql(forensics.TABLE)} ORDER BY quarter DESC"
        return [str(q) for (q,) in connection.execute(sql).fetchall()]


def leads(person: Person, quarter: str) -> list[dict[str, Any]]:
    """Leads of a quarter at the institutions in reach, surest first.

    Raises:
        MedlakeError: E454, not a quarter.
    """
    seen = scope(person)
    return [r for r in forensics.leads(quarter) if seen is None or r["org_code"] in seen]


def gates(person: Person) -> tuple[list[dict[str, Any]], bool]:
    """Data products, closed ones first; and whether only steps of the institutions in reach are told.

    Raises:
        MedlakeError: E423, nothing was checked.
    """
    seen = scope(person)
    made = [e.as_dict() for e in _gates(_occasion())]
    if seen is None:
        return made, False
    return [
        g | {"advice_zh": "", "steps": [s for s in g["steps"] if s["org_code"] in seen]} for g in made
    ], True
