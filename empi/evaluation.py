"""How right the registry is, by the simulated city's truth. The one module of this room that opens the truth."""

from __future__ import annotations

from typing import Any

import duckdb

from lake import duck, ledger, tables
from lake.errors import MedlakeError
from lake.log import logger
from lake.truth import truth_dir

_log = logger("empi")

#: Pairs that have at least one record in a group: all pairs less those wholly outside it.
_PAIRS = "n * (n - 1) / 2 - (n - g) * (n - g - 1) / 2"

_JUDGED = """
CREATE OR REPLACE TABLE judged AS
SELECT i.empi_id, i.source_system,
       -- an unlinkable registration (nobody knows who it was) is a resident of its own
       coalesce(t.resident_id::VARCHAR, concat_ws('|', 'nobody', t.source_system, t.org_code, t.local_id)) AS resident,
       CASE WHEN p.birth_date IS NULL THEN 'unknown'
            ELSE ['0-6', '7-17', '18-44', '45-64', '65+'][1 + (a >= 7)::INT + (a >= 18)::INT + (a >= 45)::INT
                                                         + (a >= 65)::INT] END AS age_group
FROM identifier i JOIN person p USING (empi_id)
JOIN truth t ON (t.source_system, t.org_code, t.local_id) = (i.source_system, i.org_code, i.identifier_value)
CROSS JOIN LATERAL (SELECT date_diff('year', p.birth_date, (SELECT max(valid_from) FROM identifier)) AS a)
"""


def pair_counts(connection: duckdb.DuckDBPyConnection, group: str = "true") -> dict[str, int]:
    """Pairs in persons, in residents, and in both, with at least one record for which ``group`` holds."""

    def pairs(keys: str) -> int:
        sql = f"SELECT coalesce(sum({_PAIRS}), 0)::BIGINT FROM (SELECT count(*) AS n, count(*) FILTER ({group}) AS g"
        return int(connection.execute(f"{sql} FROM judged GROUP BY {keys})").fetchall()[0][0])

    return {"found": pairs("empi_id"), "true": pairs("resident"), "both": pairs("empi_id, resident")}


def rates(counts: dict[str, int]) -> dict[str, Any]:
    """Precision, recall and F1 of pair counts; a rate over nothing is 1."""
    precision = counts["both"] / counts["found"] if counts["found"] else 1.0
    recall = counts["both"] / counts["true"] if counts["true"] else 1.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {
        "precision": round(precision, 6),
        "recall": round(recall, 6),
        "f1": round(f1, 6),
        "false_pairs": counts["found"] - counts["both"],
        "missed_pairs": counts["true"] - counts["both"],
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


def judge(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """All measures, from tables ``identifier`` (open ``MR`` rows), ``person`` and ``truth``."""
    connection.execute(_JUDGED)
    records, persons = connection.execute("SELECT count(*), count(DISTINCT empi_id) FROM judged").fetchall()[
        0
    ]
    result: dict[str, Any] = {
        "records": int(records),
        "persons": int(persons),
        **rates(pair_counts(connection)),
    }
    result["exact_clusters"] = exact_clusters(connection)
    for name, column in (("by_source", "source_system"), ("by_age", "age_group")):
        groups = [
            r[0] for r in connection.execute(f"SELECT DISTINCT {column} FROM judged ORDER BY 1").fetchall()
        ]
        result[name] = {g: rates(pair_counts(connection, f"{column} = '{g}'")) for g in groups}
    return result


def evaluate() -> dict[str, Any]:
    """See :func:`empi.evaluate`."""
    truth = truth_dir() / "registration.parquet"
    if not truth.exists():
        raise MedlakeError("E305", place=str(truth))
    visible = ledger.visible("silver/")
    connection = duck.connect()
    try:
        connection.execute(f"CREATE VIEW truth AS SELECT * FROM read_parquet('{truth}')")
        for view, name, where in (
            ("identifier", "silver/person_identifier", "identifier_type = 'MR' AND valid_to IS NULL"),
            ("person", "silver/person", "true"),
        ):
            if name not in visible:
                raise MedlakeError("E103", table=name)
            scan = tables.scan_sql(name, visible[name])
            connection.execute(f"CREATE VIEW {view} AS SELECT * FROM {scan} WHERE {where}")
        result = judge(connection)
    finally:
        connection.close()
    kept = ("records", "persons", "precision", "recall", "f1")
    _log.info("evaluated", **{k: result[k] for k in kept})
    return result
