"""What people's answers teach: how often each band of weights and each guard is right, and what might be loosened.

Prints only; nothing here changes the model. The answers are of the pairs that were worth asking, not a random sample:
they speak for the bands and guards they come from and for nothing above the threshold, where nobody is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from math import floor, sqrt
from typing import Any

from empi import model
from empi.review import history, queue, ranking, records
from lake.local_time import local_today

#: Normal deviate of a two-sided 95 % interval.
_Z = 1.959964


@dataclass(frozen=True)
class Answered:
    """One pair that people settled: what it scored when they were asked, and whether it is one person."""

    weight: float
    guard: str | None
    is_same: bool


def wilson(hits: int, of: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); of nothing, anything is possible."""
    if not of:
        return 0.0, 1.0
    share, square = hits / of, _Z**2 / of
    middle = (share + square / 2) / (1 + square)
    half = _Z * sqrt(share * (1 - share) / of + square / (4 * of)) / (1 + square)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def _told(members: Iterable[Answered]) -> dict[str, Any]:
    given = list(members)
    same = sum(a.is_same for a in given)
    low, high = wilson(same, len(given))
    return {
        "decided": len(given),
        "same": same,
        "share": round(same / len(given), 4) if given else None,
        "low": round(low, 4),
        "high": round(high, 4),
    }


def answered(found: Iterable[history.Asked]) -> list[Answered]:
    """The settled pairs among requests that a run asked for."""
    return [
        Answered(float(a.payload["match_weight"]), a.payload.get("guard"), a.state in ranking.SAME)
        for a in found
        if a.state in ranking.SAME | ranking.APART and a.payload.get("match_weight") is not None
    ]


def bands(given: Iterable[Answered]) -> list[dict[str, Any]]:
    """One row a bit of weight, of pairs that no guard held."""
    free = [a for a in given if a.guard is None]
    floors = sorted({floor(a.weight) for a in free})
    return [{"from": f, "to": f + 1, **_told(a for a in free if floor(a.weight) == f)} for f in floors]


def guards(given: Iterable[Answered]) -> list[dict[str, Any]]:
    """One row a guard."""
    held = [a for a in given if a.guard is not None]
    names = sorted({str(a.guard) for a in held})
    return [{"guard": n, **_told(a for a in held if a.guard == n)} for n in names]


def proposals(
    given: Sequence[Answered],
    waiting: Sequence[tuple[float, str | None]],
    wanted_share: float,
    wanted_pairs: int,
) -> list[dict[str, Any]]:
    """What the answers would bear: a lower threshold, a looser guard, each with its expected effect.

    Args:
        given: the settled pairs.
        waiting: (weight, guard) of the pairs that are uncertain now.

    Returns:
        rows ``change, rests_on, share, low, joins, wrong_expected, wrong_at_most``; ``joins`` counts the waiting pairs
        that would be joined, ``wrong_at_most`` goes by the interval's lower end.
    """
    made = []
    accept = accept_weight()
    lower = [a.weight for a in given if a.guard is None and a.weight < accept]
    for at in sorted({float(floor(w)) for w in lower}):  # the lowest that holds
        row = _effect(
            f"accept_weight {accept:g} -> {at:g}",
            [a for a in given if a.guard is None and at <= a.weight < accept],
            sum(g is None and at <= w < accept for w, g in waiting),
        )
        if row["low"] >= wanted_share and row["rests_on"] >= wanted_pairs:
            made.append(row)
            break
    for name in sorted({a.guard for a in given if a.guard}):
        row = _effect(
            f"guard {name}: let pass at weight >= {accept:g}",
            [a for a in given if a.guard == name and a.weight >= accept],
            sum(g == name and w >= accept for w, g in waiting),
        )
        if row["low"] >= wanted_share and row["rests_on"] >= wanted_pairs:
            made.append(row)
    return made


def accept_weight() -> float:
    """The threshold in force."""
    return float(model.thresholds()["accept"])


def _effect(change: str, given: list[Answered], joins: int) -> dict[str, Any]:
    told = _told(given)
    share = told["share"] or 0.0
    return {
        "change": change,
        "rests_on": told["decided"],
        "share": told["share"],
        "low": told["low"],
        "joins": joins,
        "wrong_expected": round(joins * (1 - share), 1),
        "wrong_at_most": round(joins * (1 - told["low"]), 1),
    }


def learn(data_date: date | None = None) -> dict[str, Any]:
    """Shares by band and by guard with 95 % intervals, and what they would bear.

    Returns:
        ``decided, unsure, accept_weight, bands, guards, proposals``.

    Raises:
        MedlakeError: E350, nothing was linked yet.
    """
    found = history.asked()
    given = answered(found)
    most = queue.limits(data_date or local_today())
    waiting: list[tuple[float, str | None]] = []
    with records.bench() as on:
        if queue.CANDIDATES in on.run.versions:
            rows = on.connection.execute("SELECT match_weight, guard FROM silver.match_candidate").fetchall()
            waiting = [(float(w), g) for w, g in rows]
    return {
        "decided": len(given),
        "unsure": sum(a.state == "unsure" for a in found),
        "accept_weight": accept_weight(),
        "bands": bands(given),
        "guards": guards(given),
        "proposals": proposals(given, waiting, float(most["wanted_share"]), int(most["wanted_pairs"])),
    }
