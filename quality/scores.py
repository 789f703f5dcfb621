"""Scores of institutions: 100 - sum(weight x rate), the formula and the weights in the open.

Rate is findings per hundred evaluated records of a rule, weight is the severity's. A score is cut to 0..100. An
institution without evaluated records has none (NA is not 0). Source: public-health-qc.md, 2.8; that the sum is
divided by the number of evaluated rules is our reading (docs/SPEC_CLARIFICATIONS.md).
"""

from __future__ import annotations

from datetime import date

import duckdb

from quality.compile import day

#: Weight of a finding by severity, published on the quality page.
WEIGHTS: dict[str, float] = {"error": 3.0, "warn": 1.0, "info": 0.2}

#: ``domain`` of the row that covers all domains.
ALL_DOMAINS = "ALL"


def scorecards(connection: duckdb.DuckDBPyConnection, as_of: date) -> None:
    """Make ``scorecard`` (data_date, org_code, domain, eligible, findings, score) from counts and findings.

    ``eligible`` counts evaluations (a record that three rules judged counts three times), ``findings`` the open
    ones; rules in observation do not move a score.
    """
    weight = " ".join(f"WHEN '{s}' THEN {w}" for s, w in WEIGHTS.items())
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE scorecard AS
        WITH weighed AS (
            SELECT
                rule_id, table_name, org_code, count(*) AS findings,
                sum(CASE severity {weight} END) AS burden
            FROM finding
            WHERE state = 'open'
            GROUP BY ALL
        ),
        judged AS (
            SELECT
                c.org_code, r.domain, c.evaluated, coalesce(w.findings, 0) AS findings,
                100 * coalesce(w.burden, 0) / c.evaluated AS cost
            FROM rule_count AS c
            INNER JOIN rule_register AS r ON r.rule_id = c.rule_id AND r.table_name = c.table_name
            LEFT JOIN weighed AS w
                ON w.rule_id = c.rule_id AND w.table_name = c.table_name AND w.org_code = c.org_code
            WHERE c.evaluated > 0 AND r.status = 'active'
        )
        SELECT
            {day(as_of)} AS data_date,
            org_code,
            coalesce(domain, '{ALL_DOMAINS}') AS domain,
            sum(evaluated)::BIGINT AS eligible,
            sum(findings)::BIGINT AS findings,
            round(greatest(0, least(100, 100 - sum(cost) / count(*))), 2)::DOUBLE AS score
        FROM judged
        GROUP BY GROUPING SETS ((org_code, domain), (org_code))
        ORDER BY org_code, domain
    """)
