"""Which of a run's uncertain pairs to ask about: what people have said of whom, and the best of the rest within limits."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pyarrow as pa

from empi.review import history, ranking, records
from empi.review.pairs import COLUMNS, RecordKey, ordered
from empi.review.records import Bench

_SIDES = ", ".join(f"{c}_{s}" for s in ("l", "r") for c in COLUMNS)


def _pair_table(rows: Iterable[tuple[tuple[RecordKey, RecordKey], dict[str, Any]]]) -> pa.Table:
    """Pairs with the smaller key left, and what is said of each."""
    made = []
    for (one, other), more in rows:
        low, high = ordered(one, other)
        sides = {f"{c}_{s}": key[i] for s, key in (("l", low), ("r", high)) for i, c in enumerate(COLUMNS)}
        made.append(sides | more)
    texts = [f"{c}_{s}" for s in ("l", "r") for c in COLUMNS] + ["state", "origin", "key"]
    return pa.Table.from_pylist(made, schema=pa.schema([(n, pa.string()) for n in texts]))


def prepare(on: Bench, found: list[history.Asked], answers: list[history.Decided]) -> None:
    """Make ``candidate`` (smaller key left), ``known`` (record -> person) and ``said`` (pairs asked or decided)."""
    connection = on.connection
    flipped = ", ".join(
        f"CASE WHEN ({_side('l')}) <= ({_side('r')}) THEN {c}_{a} ELSE {c}_{b} END AS {c}_{a}"
        for a, b in (("l", "r"), ("r", "l"))
        for c in (*COLUMNS, "empi_id")
    )
    connection.execute(
        f"CREATE OR REPLACE TABLE candidate AS SELECT * REPLACE ({flipped}) FROM silver.match_candidate"
    )
    asked_for = _pair_table(
        (a.records, {"state": a.state, "origin": a.origin, "key": a.request_key}) for a in found if a.records
    )
    decided = _pair_table((d.records, {"state": "decided", "origin": None, "key": None}) for d in answers)
    connection.register("said_arrow", pa.concat_tables([asked_for, decided]))
    either = " UNION ".join(f"SELECT {_side(s)} FROM said_arrow" for s in ("l", "r"))
    connection.execute(
        f"""CREATE OR REPLACE TABLE known AS SELECT {records.KEYS}, empi_id FROM silver.person_identifier
        SEMI JOIN (SELECT * FROM ({either}) e({records.KEYS})) USING ({records.KEYS})
        WHERE identifier_type = 'MR' AND valid_to IS NULL"""
    )
    persons = " ".join(
        f"LEFT JOIN known k{s} ON ({', '.join(f'k{s}.{c}' for c in COLUMNS)}) = ({_side(s, 'a.')})"
        for s in ("l", "r")
    )
    connection.execute(
        f"""CREATE OR REPLACE TABLE said AS
        SELECT a.*, kl.empi_id AS empi_id_l, kr.empi_id AS empi_id_r FROM said_arrow a {persons}"""
    )
    connection.unregister("said_arrow")


def two() -> str:
    """The two persons of a pair, in one order."""
    return "least(empi_id_l, empi_id_r) AS one, greatest(empi_id_l, empi_id_r) AS other"


def _side(side: str, alias: str = "") -> str:
    return ", ".join(f"{alias}{c}_{side}" for c in COLUMNS)


def choose(
    on: Bench, found: list[history.Asked], at: datetime, most: dict[str, Any], limit: int | None
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The candidates to ask today, best first, within the limits; and the counts of all.

    A row has the candidate's columns, ``org_code`` (who should act), ``rank_value``, and of a pair that was asked before
    ``key`` and ``state``.
    """
    connection = on.connection
    today, waiting = history.on_day(found, at), history.waiting(found)
    spent = pa.table(
        {
            "org_code": pa.array(sorted({*today, *waiting}), pa.string()),
            "today": pa.array([today[o] for o in sorted({*today, *waiting})], pa.int64()),
            "waiting": pa.array([waiting[o] for o in sorted({*today, *waiting})], pa.int64()),
        }
    )
    connection.register("spent", spent)
    ranking.create_openness(connection, found)
    rank = "CASE c.source_system_{0} WHEN 'public_health' THEN 1 WHEN 'his' THEN 2 ELSE 3 END"
    # one pair speaks for its two persons; the record that should act is an archive before a hospital's
    connection.execute(
        f"""CREATE OR REPLACE TABLE ranked AS
        WITH people AS (
            SELECT {two()},
                   bool_or(state IN ('decided', 'applied', 'not_same', 'unsure', 'unmerged')) AS is_decided,
                   bool_or(state NOT IN ('decided', 'applied', 'not_same', 'unsure', 'unmerged', 'settled')) AS is_waiting
            FROM said WHERE empi_id_l IS NOT NULL AND empi_id_r IS NOT NULL GROUP BY ALL)
        SELECT c.*, CASE WHEN {rank.format("l")} <= {rank.format("r")} THEN c.org_code_l ELSE c.org_code_r END AS org_code,
               coalesce(p.is_decided, false) AS is_decided,
               coalesce(p.is_waiting, false) AS is_waiting, s.key, s.state
        FROM candidate c
        LEFT JOIN people p ON p.one = least(c.empi_id_l, c.empi_id_r) AND p.other = greatest(c.empi_id_l, c.empi_id_r)
        LEFT JOIN (SELECT {_SIDES}, any_value(key ORDER BY key) AS key, max(state) AS state FROM said
                   WHERE key IS NOT NULL GROUP BY ALL) s
               ON ({_side("l", "s.")}, {_side("r", "s.")}) = ({_side("l", "c.")}, {_side("r", "c.")})"""
    )
    order = f"rank_value DESC, {_SIDES}"
    room = int(most["max_per_day"]) - sum(today.values()) if limit is None else limit
    rows = connection.execute(
        f"""WITH free AS (SELECT * FROM ranked WHERE NOT is_decided AND NOT is_waiting AND empi_id_l <> empi_id_r
                      QUALIFY row_number() OVER (PARTITION BY least(empi_id_l, empi_id_r),
                                                 greatest(empi_id_l, empi_id_r) ORDER BY value DESC, {_SIDES}) = 1),
        grouped AS (SELECT f.* EXCLUDE (pair_group), value * coalesce(o.openness, 1)
                           / sqrt(row_number() OVER (PARTITION BY pair_group ORDER BY value DESC, {_SIDES})) AS rank_value
                    FROM (SELECT *, {ranking.GROUP_SQL} AS pair_group FROM free) f
                    LEFT JOIN openness o USING (pair_group)),
        own AS (SELECT f.*, row_number() OVER (PARTITION BY f.org_code ORDER BY {order}) AS nth,
                       coalesce(s.today, 0) AS today, coalesce(s.waiting, 0) AS waiting
                FROM grouped f LEFT JOIN spent s USING (org_code))
        SELECT * FROM own WHERE nth + today <= {int(most["max_per_institution"])}
                            AND nth + waiting <= {int(most["max_waiting"])}
        ORDER BY {order} LIMIT {max(room, 0)}"""
    ).to_arrow_table()
    connection.unregister("spent")
    chosen: list[dict[str, Any]] = rows.to_pylist()
    everything, decided, waits, free = connection.execute(
        """SELECT count(*), count(*) FILTER (is_decided AND NOT is_waiting), count(*) FILTER (is_waiting),
                  count(DISTINCT (least(empi_id_l, empi_id_r), greatest(empi_id_l, empi_id_r)))
                  FILTER (NOT is_decided AND NOT is_waiting AND empi_id_l <> empi_id_r) FROM ranked"""
    ).fetchall()[0]
    told = {"candidates": int(everything), "decided": int(decided), "waiting": int(waits)}
    return chosen, told | {"held_back": int(free) - len(chosen)}
