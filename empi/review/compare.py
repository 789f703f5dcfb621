"""What the model and the guards say of pairs of records: the same SQL text as a run's, on a handful of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from empi import model, scoring, weights
from empi.guards import GUARD_SQL, PROMOTE, accept_sql
from empi.review.pairs import RecordKey
from empi.review.records import Bench
from empi.weights import Step


@dataclass(frozen=True)
class Verdict:
    """How a pair scores now. ``steps`` are the bars of the waterfall; ``weight`` their sum, in bits."""

    gammas: dict[str, int]
    steps: tuple[Step, ...]
    weight: float
    guard: str | None
    is_accepted: bool

    @property
    def probability(self) -> float:
        return weights.probability(self.weight)


def compare(on: Bench, pairs: Sequence[tuple[RecordKey, RecordKey]]) -> dict[int, Verdict]:
    """Score pairs whose records are in ``record`` (``records.load``): place in ``pairs`` -> verdict; others are left out."""
    numbered = [
        (place, on.number[one], on.number[other])
        for place, (one, other) in enumerate(pairs)
        if one in on.number and other in on.number
    ]
    if not numbered:
        return {}
    connection = on.connection
    scoring.create_birth(connection)
    connection.execute("CREATE OR REPLACE TABLE compared (place INTEGER, rec_no_l INTEGER, rec_no_r INTEGER)")
    connection.executemany("INSERT INTO compared VALUES (?, ?, ?)", numbered)
    columns = [str(r[0]) for r in connection.execute("DESCRIBE record").fetchall() if r[0] != "rec_no"]
    sides = ", ".join(f"{side}.{c} AS {c}_{side}" for side in ("l", "r") for c in columns)
    gammas = ", ".join(model.gamma_sql(name) for name in model.LEVELS)
    shared = ", ".join(f"CASE WHEN {c}_l = {c}_r THEN {c}_l END AS shared_{c}" for c in _counted())
    found = connection.execute(
        f"""WITH sided AS (SELECT c.*, {sides} FROM compared c
                       JOIN record l ON l.rec_no = c.rec_no_l JOIN record r ON r.rec_no = c.rec_no_r),
        p AS (SELECT *, {gammas}, {shared} FROM sided)
        SELECT p.*, {GUARD_SQL} AS guard, {PROMOTE} AS is_promoted FROM p
        LEFT JOIN birth l ON l.rec_no = p.rec_no_l LEFT JOIN birth r ON r.rec_no = p.rec_no_r"""
    ).to_arrow_table()
    known = weights.load(on.records, on.frequency)
    steps = {int(row["place"]): _steps(row, known) for row in found.to_pylist()}
    weighed = pa.table(
        {"place": list(steps), "match_weight": [sum(s.weight for s in x) for x in steps.values()]}
    )
    connection.register("found_arrow", found)
    connection.register("weighed_arrow", weighed)
    rows = connection.execute(
        f"SELECT *, {accept_sql()} AS is_accepted FROM found_arrow JOIN weighed_arrow USING (place)"
    ).to_arrow_table()
    connection.unregister("found_arrow")
    connection.unregister("weighed_arrow")
    return {
        int(r["place"]): Verdict(
            _gammas(r), steps[int(r["place"])], float(r["match_weight"]), r["guard"], bool(r["is_accepted"])
        )
        for r in rows.to_pylist()
    }


def _counted() -> list[str]:
    return sorted(set(model.FREQUENCY.values()))


def _gammas(row: dict[str, Any]) -> dict[str, int]:
    return {name: int(row[f"gamma_{name}"]) for name in model.LEVELS}


def _steps(row: dict[str, Any], known: weights.Weights) -> tuple[Step, ...]:
    return tuple(known.explain(_gammas(row), {c: row[f"shared_{c}"] for c in _counted()}))


def speaks_against(verdict: Verdict, decision: str, was: Mapping[str, Any], bits: float) -> bool:
    """Whether a pair that people decided scores so differently now that they should look again.

    Another guard holds it, or its weight moved by ``bits`` away from what they decided (``was``: ``match_weight`` and
    ``guard`` when they were asked).
    """
    if verdict.guard != was.get("guard"):
        return True
    moved = verdict.weight - float(was.get("match_weight") or 0.0)
    return {"must_link": -moved, "cannot_link": moved}.get(decision, abs(moved)) >= bits
