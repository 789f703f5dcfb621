"""Does the data still look like the data the model learned from? Counts of scored pairs by rule, weight and guard, a run.

One line a run in ``<home>/empi/drift.ndjson``: counts only, nothing of a person. A run whose pairs spread otherwise than
those of the runs before (total variation distance between the shares) is worth a look at its sources.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from empi import model, state
from empi.review.records import attached, bench
from lake.settings import settings

#: What is counted: name -> SQL over the kept pairs.
_COUNTED = {
    "match_key": "match_key",
    "weight": "CASE WHEN match_weight >= 20 THEN '20+' ELSE (floor(match_weight / 2)::INTEGER * 2)::VARCHAR END",
    "guard": "coalesce(guard, '-')",
}


def path() -> Path:
    return settings().home / "empi" / "drift.ndjson"


def kept() -> list[dict[str, Any]]:
    """All noted runs, oldest first."""
    if not path().exists():
        return []
    return [json.loads(line) for line in path().read_text("utf-8").splitlines() if line]


def note() -> bool:
    """Note the last run's pairs, once; False if that was done, or if no state can be read now."""
    with bench() as on, attached(on.connection) as is_there:
        if not is_there:
            return False
        about = state.read_about(on.connection)
        if about is None:
            return False
        line: dict[str, Any] = {
            "run_id": about.run_id,
            "data_date": str(about.data_date),
            "crosswalk_version": about.crosswalk_version,
            "calibration_id": about.calibration_id,
        }
        if any(k["crosswalk_version"] == line["crosswalk_version"] for k in kept()):
            return False
        for name, sql in _COUNTED.items():
            rows = on.connection.execute(
                f"SELECT {sql} AS value, count(*) FROM {state.KEPT}.pair GROUP BY 1 ORDER BY 1"
            ).fetchall()
            line[name] = {str(value): int(n) for value, n in rows}
    settings().folder("empi")
    with path().open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return True


def distance(one: dict[str, int], other: dict[str, int]) -> float:
    """Total variation distance of two spreads, 0 (the same) to 1 (nothing in common)."""
    a, b = sum(one.values()), sum(other.values())
    if not a or not b:
        return 0.0 if a == b else 1.0
    return round(sum(abs(one.get(k, 0) / a - other.get(k, 0) / b) for k in {*one, *other}) / 2, 5)


def report(last: int = 12) -> list[dict[str, Any]]:
    """One row a run, newest last: pairs, and how far each spread moved from the run before."""
    runs = kept()
    rows = []
    for place, run in enumerate(runs):
        before = runs[place - 1] if place else run
        moved = {f"{name}_moved": distance(before[name], run[name]) for name in _COUNTED}
        rows.append({"data_date": run["data_date"], "pairs": sum(run["match_key"].values()), **moved})
    return rows[-last:]


def rules() -> list[dict[str, Any]]:
    """One row a blocking rule: how many pairs it brought first, in the last run and the one before."""
    runs = kept()[-2:]
    names = [" + ".join(rule) for rule in model.BLOCKING]
    return (
        [
            {
                "rule": name,
                "before": runs[0]["match_key"].get(str(n), 0) if len(runs) > 1 else None,
                "now": runs[-1]["match_key"].get(str(n), 0),
            }
            for n, name in enumerate(names)
        ]
        if runs
        else []
    )
