"""How right the registry is, by the simulated city's truth. The one module of this room that opens the truth."""

from __future__ import annotations

from typing import Any

import duckdb

from empi import measures
from lake import duck, ledger, tables
from lake.errors import MedlakeError
from lake.log import logger
from lake.truth import truth_dir

_log = logger("empi")
IDENTIFIER, CANDIDATE = "silver/person_identifier", "silver/match_candidate"

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


def judge(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """All measures, from tables ``identifier`` (open ``MR`` rows), ``person`` and ``truth``."""
    connection.execute(_JUDGED)
    records, persons = connection.execute("SELECT count(*), count(DISTINCT empi_id) FROM judged").fetchall()[
        0
    ]
    result: dict[str, Any] = {
        "records": int(records),
        "persons": int(persons),
        **measures.rates(connection),
        "exact_clusters": measures.exact_clusters(connection),
        "right_person": measures.right_person(connection),
    }
    for name, column in (("by_source", "source_system"), ("by_age", "age_group")):
        groups = [
            r[0] for r in connection.execute(f"SELECT DISTINCT {column} FROM judged ORDER BY 1").fetchall()
        ]
        result[name] = {g: measures.rates(connection, f"{column} = '{g}'") for g in groups}
    return result


_CANDIDATE = """
CREATE OR REPLACE TABLE candidate AS
SELECT c.empi_id_l, c.empi_id_r, c.match_weight, c.guard, l.resident_id IS NOT NULL AND l.resident_id = r.resident_id AS is_same
FROM match_candidate c
JOIN truth l ON (l.source_system, l.org_code, l.local_id) = (c.source_system_l, c.org_code_l, c.identifier_value_l)
JOIN truth r ON (r.source_system, r.org_code, r.local_id) = (c.source_system_r, c.org_code_r, c.identifier_value_r)
"""


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
            ("identifier", IDENTIFIER, "identifier_type = 'MR' AND valid_to IS NULL"),
            ("number", IDENTIFIER, "identifier_type = 'NI' AND valid_to IS NULL"),
            ("person", "silver/person", "true"),
        ):
            if name not in visible:
                raise MedlakeError("E103", table=name)
            scan = tables.scan_sql(name, visible[name])
            connection.execute(f"CREATE VIEW {view} AS SELECT * FROM {scan} WHERE {where}")
        result = judge(connection)
        result["trusted_id_conflicts"] = int(
            connection.execute(
                """SELECT count(*) FROM (SELECT empi_id FROM number GROUP BY empi_id
                   HAVING count(DISTINCT identifier_value) > 1)"""
            ).fetchall()[0][0]
        )
        result |= _review(connection, visible)
    finally:
        connection.close()
    kept = ("records", "persons", "precision", "recall", "f1")
    _log.info("evaluated", **{k: result[k] for k in kept})
    return result


def _review(connection: duckdb.DuckDBPyConnection, visible: dict[str, int]) -> dict[str, Any]:
    """What reviewing would bring: the pairs that wait, how many of them are one resident, and the rates after it."""
    if CANDIDATE not in visible:
        return {"review_pairs": 0}
    scan = tables.scan_sql(CANDIDATE, visible[CANDIDATE])
    connection.execute(f"CREATE VIEW match_candidate AS SELECT * FROM {scan}")
    connection.execute(_CANDIDATE)
    pairs = int(connection.execute("SELECT count(*) FROM candidate").fetchall()[0][0])
    bands = measures.review_bands(connection)
    after = measures.after_review(connection)
    return {
        "review_pairs": pairs,
        "precision_after_review": after["precision"],
        "recall_after_review": after["recall"],
        "review_bands": bands,
    }
