"""``silver/match_candidate``: every pair that a run is unsure of, by the keys of its records, for the review queue."""

from __future__ import annotations

import duckdb

from empi import model, review_band, state
from empi.decisions import RecordKey

TABLE = "silver/match_candidate"
KEY = RecordKey._fields
SIDES = tuple(f"{c}_{s}" for s in ("l", "r") for c in KEY)


def create_candidate(connection: duckdb.DuckDBPyConnection, run_id: str, before: str | None) -> int:
    """Make ``match_candidate``. Returns how many pairs it holds.

    ``before``: FROM text of the visible table, for an incremental run, which looks again at pairs whose two records it
    drew in (every pair that may have changed is one) and keeps the others, but for records that went away.
    """
    review_band.find(connection)
    sides = ", ".join(f"{s}.{c} AS {c}_{s}" for s in ("l", "r") for c in KEY)
    gammas = ", ".join(f"u.gamma_{name}" for name in model.LEVELS)
    connection.execute(
        f"""CREATE OR REPLACE TABLE match_candidate AS
        SELECT {sides}, a.empi_id AS empi_id_l, b.empi_id AS empi_id_r, u.match_weight, u.guard, {gammas}, u.value,
               '{model.version()}' AS model_version, '{run_id}' AS run_id
        FROM uncertain u JOIN source_record l ON l.rec_no = u.rec_l JOIN source_record r ON r.rec_no = u.rec_r
        JOIN now a ON a.rec_no = u.rec_l JOIN now b ON b.rec_no = u.rec_r"""
    )
    if before:
        key = ", ".join(KEY)
        left, right = (f"({', '.join(f'p.{c}_{s}' for c in KEY)})" for s in ("l", "r"))
        drawn = f"(SELECT ({key}) FROM source_record)"
        gone = f"(SELECT ({key}) FROM {state.KEPT}.record SEMI JOIN day_gone USING (rec_id))"
        connection.execute(
            f"""INSERT INTO match_candidate BY NAME SELECT p.* FROM {before} p
            WHERE NOT ({left} IN {drawn} AND {right} IN {drawn}) AND {left} NOT IN {gone} AND {right} NOT IN {gone}"""
        )
    return int(connection.execute("SELECT count(*) FROM match_candidate").fetchall()[0][0])
