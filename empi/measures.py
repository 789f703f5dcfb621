"""How right a linkage is, as counts and rates with intervals, from tables that say who is whose. Set queries throughout.

Pairs are not independent (a person of five records has ten), so a 95 % interval is taken over whole persons for
precision and over whole residents for recall: the linearised variance of a ratio of sums (Cochran, Sampling
Techniques, 3rd ed., 6.4), cut to [0, 1].
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from empi.clustering import components

#: Pairs that have at least one record in a group: all pairs less those wholly outside it.
_PAIRS = "n * (n - 1) / 2 - (n - g) * (n - g - 1) / 2"


def pair_counts(connection: duckdb.DuckDBPyConnection, group: str = "true") -> dict[str, int]:
    """Pairs in persons, in residents, and in both, with at least one record for which ``group`` holds."""
    found = _ratio(connection, group, "empi_id", "resident")
    true = _ratio(connection, group, "resident", "empi_id")
    return {"found": found["all"], "true": true["all"], "both": found["both"]}


def _ratio(connection: duckdb.DuckDBPyConnection, group: str, unit: str, other: str) -> dict[str, Any]:
    """Over the units (persons or residents): their pairs, those that agree with the other side, and the variance of
    the ratio."""
    row = connection.execute(
        f"""WITH cell AS (SELECT {unit} AS u, {other} AS o, count(*) AS n, count(*) FILTER ({group}) AS g
                          FROM judged GROUP BY ALL),
        unit AS (SELECT u, sum({_PAIRS}) AS agreed FROM cell GROUP BY u),
        whole AS (SELECT {unit} AS u, count(*) AS n, count(*) FILTER ({group}) AS g FROM judged GROUP BY ALL),
        sums AS (SELECT agreed, {_PAIRS} AS pairs FROM unit JOIN whole USING (u)),
        total AS (SELECT coalesce(sum(agreed), 0) AS b, coalesce(sum(pairs), 0) AS p FROM sums)
        SELECT any_value(b)::BIGINT, any_value(p)::BIGINT,
               coalesce(sum(pow(agreed - b / p * pairs, 2)) / pow(any_value(p), 2), 0)
        FROM total LEFT JOIN sums ON p > 0"""
    ).fetchall()[0]
    return {"both": int(row[0]), "all": int(row[1]), "variance": float(row[2] or 0.0)}


def interval(rate: float, variance: float) -> list[float]:
    """The 95 % interval of a rate."""
    wide = 1.96 * sqrt(variance)
    return [round(max(rate - wide, 0.0), 6), round(min(rate + wide, 1.0), 6)]


def rates(connection: duckdb.DuckDBPyConnection, group: str = "true") -> dict[str, Any]:
    """Precision, recall and F1 over pairs with a record in a group, with intervals; a rate over nothing is 1."""
    found = _ratio(connection, group, "empi_id", "resident")
    true = _ratio(connection, group, "resident", "empi_id")
    precision = found["both"] / found["all"] if found["all"] else 1.0
    recall = true["both"] / true["all"] if true["all"] else 1.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {
        "precision": round(precision, 6),
        "precision_interval": interval(precision, found["variance"]),
        "recall": round(recall, 6),
        "recall_interval": interval(recall, true["variance"]),
        "f1": round(f1, 6),
        "false_pairs": found["all"] - found["both"],
        "missed_pairs": true["all"] - true["both"],
    }


def exact_clusters(connection: duckdb.DuckDBPyConnection) -> float:
    """Share of residents whose records are one person, whole and alone."""
    row = connection.execute(
        """WITH cell AS (SELECT empi_id, resident, count(*) AS n FROM judged GROUP BY ALL),
        whole AS (SELECT resident FROM cell
                  QUALIFY count(*) OVER (PARTITION BY resident) = 1 AND count(*) OVER (PARTITION BY empi_id) = 1)
        SELECT (SELECT count(*) FROM whole), (SELECT count(DISTINCT resident) FROM judged)"""
    ).fetchall()[0]
    return round(row[0] / row[1], 6) if row[1] else 1.0


def right_person(connection: duckdb.DuckDBPyConnection) -> float:
    """Share of records whose person is mostly their own resident's: who opens it sees the right patient."""
    row = connection.execute(
        """WITH cell AS (SELECT empi_id, count(*) AS n FROM judged GROUP BY empi_id, resident)
        SELECT sum(most), sum(records) FROM (SELECT max(n) AS most, sum(n) AS records FROM cell GROUP BY empi_id)"""
    ).fetchall()[0]
    return round(float(row[0] / row[1]), 6) if row[1] else 1.0


def review_bands(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The pairs for review (``candidate``) by guard and weight: how many, and the share that is one resident."""
    rows = connection.execute(
        """SELECT coalesce(guard, '') AS guard, 4 * floor(match_weight / 4)::INTEGER AS weight_from, count(*) AS pairs,
                  round(avg(is_same::INTEGER), 3) AS share_same
        FROM candidate GROUP BY ALL ORDER BY ALL"""
    ).to_arrow_table()
    return list(rows.to_pylist())


def after_review(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Precision and recall once every pair for review is decided truthfully: those of one resident come together.

    Reads ``judged`` and ``candidate(empi_id_l, empi_id_r, is_same)``; replaces ``judged``.
    """
    ids = connection.execute("SELECT DISTINCT empi_id FROM judged ORDER BY empi_id").fetchnumpy()["empi_id"]
    names = pa.array(np.asarray(ids, dtype=object), pa.string())
    connection.register("named", pa.table({"empi_id": names, "place": pa.array(np.arange(len(names)))}))
    merged = connection.execute(
        """SELECT a.place AS l, b.place AS r FROM candidate c JOIN named a ON a.empi_id = c.empi_id_l
        JOIN named b ON b.empi_id = c.empi_id_r WHERE c.is_same"""
    ).fetchnumpy()
    label = components(len(names), np.asarray(merged["l"], np.int64), np.asarray(merged["r"], np.int64))
    connection.register("joined", pa.table({"empi_id": names, "person": names.take(pa.array(label))}))
    connection.execute(
        "CREATE OR REPLACE TABLE judged AS SELECT j.* REPLACE (n.person AS empi_id) FROM judged j JOIN joined n USING (empi_id)"
    )
    for view in ("named", "joined"):
        connection.unregister(view)
    return rates(connection)
