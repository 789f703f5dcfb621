"""The pairs that a person should look at: nearly accepted ones, and those that a guard or a constraint holds back.

At most one pair of two persons, the one that says most; ranked by what deciding it is worth.
"""

from __future__ import annotations

import duckdb

from empi import model

_GAMMAS = ", ".join(f"gamma_{name}" for name in model.LEVELS)


def find(connection: duckdb.DuckDBPyConnection) -> int:
    """Make ``uncertain(rec_l, rec_r, match_weight, guard, gamma_*, value)``; returns its length.

    Reads ``pair``, ``cluster``, ``decision`` and ``source_record``. A pair whose two persons people have decided about
    is not there. ``value``: how open the question is (1 at even odds, from the weight; a guarded pair counts as open
    whatever its weight), times the records that would come together, doubled where both sides have an archive.
    """
    connection.execute(
        """CREATE OR REPLACE TABLE cluster_size AS
        SELECT c.cluster_no, count(*) AS records, bool_or(s.source_system = 'public_health') AS has_archive
        FROM cluster c JOIN source_record s USING (rec_no) GROUP BY c.cluster_no"""
    )
    bits = model.thresholds()
    connection.execute(
        f"""CREATE OR REPLACE TABLE uncertain AS
        WITH open AS (
            SELECT p.*, least(l.cluster_no, r.cluster_no) AS one, greatest(l.cluster_no, r.cluster_no) AS other
            FROM pair p JOIN cluster l ON l.rec_no = p.rec_l JOIN cluster r ON r.rec_no = p.rec_r
            WHERE l.cluster_no <> r.cluster_no
              AND p.match_weight >= CASE WHEN p.guard IS NULL THEN {bits["review"]} ELSE {bits["review_guarded"]} END),
        decided AS (
            SELECT least(l.cluster_no, r.cluster_no) AS one, greatest(l.cluster_no, r.cluster_no) AS other
            FROM decision d JOIN cluster l ON l.rec_no = d.rec_l JOIN cluster r ON r.rec_no = d.rec_r),
        best AS (
            SELECT o.* FROM open o ANTI JOIN decided d ON d.one = o.one AND d.other = o.other
            QUALIFY row_number() OVER (PARTITION BY o.one, o.other ORDER BY o.match_weight DESC, o.rec_l, o.rec_r) = 1)
        SELECT b.rec_l, b.rec_r, b.match_weight, b.guard, {_GAMMAS},
               CASE WHEN b.guard IS NULL THEN 4 * q.p * (1 - q.p) ELSE 1 END
               * log2(1 + x.records * y.records)
               * CASE WHEN x.has_archive AND y.has_archive THEN 2 ELSE 1 END AS value
        FROM best b JOIN cluster_size x ON x.cluster_no = b.one JOIN cluster_size y ON y.cluster_no = b.other
        CROSS JOIN LATERAL (SELECT greatest(1 / (1 + pow(2, -b.match_weight)), 0.05) AS p) q"""
    )
    return int(connection.execute("SELECT count(*) FROM uncertain").fetchall()[0][0])
