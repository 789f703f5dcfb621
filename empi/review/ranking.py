"""Which question first: what deciding a pair is worth, times how open the question still is after what people answered.

A guard holds true pairs and false ones alike, and how many of each differs from guard to guard and from city to city. Where
people have said forty times over that such a pair is two persons, the forty-first teaches nothing: pairs are grouped by
guard and by how many of the two registrations are archives, and a group counts as open as a share of
``(same + 1) / (answers + 2)`` is (Laplace), 1 at one half. Within a day the n-th pair of a group counts less by the root of
n, so that a day asks of several groups before it knows any of them. Nothing of this changes the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import duckdb
import pyarrow as pa

from empi.review import history

SAME, APART = {"applied"}, {"not_same", "unmerged"}
#: The group of a pair, over columns that ``silver/match_candidate`` and a request's payload have alike. A pair without a
#: guard has its openness from its weight already.
GROUP_SQL = (
    "coalesce(guard, '') || '/' || ((source_system_l = 'public_health')::INTEGER"
    " + (source_system_r = 'public_health')::INTEGER)"
)


def group(guard: str | None, *systems: str) -> str:
    """The same as :data:`GROUP_SQL`, of one pair."""
    return f"{guard or ''}/{sum(s == 'public_health' for s in systems)}"


def openness(same: int, answers: int) -> float:
    """How open a question of a group is, 0 to 1."""
    share = (same + 1) / (answers + 2)
    return 4 * share * (1 - share)


def create_openness(connection: duckdb.DuckDBPyConnection, found: Iterable[history.Asked]) -> None:
    """Make ``openness(pair_group, openness)`` of the groups that people have answered about."""
    same: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    for asked in found:  # people's answers
        if asked.records is None or asked.state not in SAME | APART or not asked.payload.get("guard"):
            continue
        name = group(str(asked.payload["guard"]), *(key.source_system for key in asked.records))
        answers[name] += 1
        same[name] += asked.state in SAME
    names = sorted(answers)
    table = pa.table(
        {
            "pair_group": pa.array(names, pa.string()),
            "openness": pa.array([openness(same[n], answers[n]) for n in names], pa.float64()),
        }
    )
    connection.register("openness_arrow", table)
    connection.execute("CREATE OR REPLACE TABLE openness AS SELECT * FROM openness_arrow")
    connection.unregister("openness_arrow")
