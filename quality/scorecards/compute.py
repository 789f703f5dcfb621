"""Scores of institutions: 100 - sum(weight x rate) / rules, with every part of the sum in a table of its own.

**Score.** Rate is findings per hundred evaluated records of a rule on a table, weight is the severity's. The sum is
divided by the number of evaluated (rule, table) pairs and the result cut to 0..100. An institution without evaluated
records has no row (NA is not 0). Source: public-health-qc.md, 2.8; that the sum is divided is our reading
(docs/SPEC_CLARIFICATIONS.md).

**Shrinkage** (empirical Bayes). A rate from few records is drawn towards the rate of all institutions under the same
rule: ``(findings + k x group) / (evaluated + k)``. ``k`` comes from the spread between institutions by Kleinman's
moments of the beta-binomial (J. Am. Stat. Assoc. 68, 1973), bounded by ``parameters.yaml``.

**Interval.** The posterior of a rate is Beta(findings + k x group, evaluated - findings + k x (1 - group)); the
variances of the parts add (rules taken as independent, which the page says), and the ranking follows the shrunk score:
an institution's rank lies between those surely before it and those surely behind it.
"""

from __future__ import annotations

from datetime import date

import duckdb

from quality.compile import day, text
from quality.scorecards.parameters import Parameters, parameters

#: ``domain`` of the row that covers all domains.
ALL_DOMAINS = "ALL"


def scorecards(connection: duckdb.DuckDBPyConnection, as_of: date) -> None:
    """Make ``scorecard_part`` and ``scorecard`` of a date from ``rule_count``, ``rule_register`` and ``finding``.

    ``scorecard_part``: one row per institution, rule and table. ``scorecard``: one row per institution and domain,
    and for all domains together; ``eligible`` counts evaluations (a record that three rules judged counts three
    times), ``findings`` the open ones. Rules in observation do not move a score, nor waived findings, nor the
    rules that are only leads (``parameters.yaml``).
    """
    p = parameters(as_of)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE scorecard_part AS {_parts(p, as_of)}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE scorecard AS {_scores(p)}")


def _parts(p: Parameters, as_of: date) -> str:
    """``prior_n`` is k, ``group_pct`` the rate of all institutions, ``shrunk_pct`` the rate after shrinking and
    ``variance`` that of ``shrunk_pct`` (per cent squared); half a finding is added to a group, so none is at 0."""
    leads = ", ".join(text(r) for r in p.leads) or "''"
    weight = " ".join(f"WHEN '{s}' THEN {w}" for s, w in p.weights.items())
    return f"""
        WITH found AS (
            SELECT rule_id, table_name, org_code, count(*) AS findings
            FROM finding WHERE state = 'open' GROUP BY ALL
        ),
        judged AS (
            SELECT
                c.org_code, r.domain, c.rule_id, c.table_name, r.severity,
                (CASE r.severity {weight} END)::DOUBLE AS weight,
                c.evaluated, coalesce(f.findings, 0) AS findings,
                -- an open finding outlives its record's judgement when a prerequisite now fails: a rate ends at 1
                least(coalesce(f.findings, 0), c.evaluated) AS failed
            FROM rule_count AS c
            INNER JOIN rule_register AS r ON r.rule_id = c.rule_id AND r.table_name = c.table_name
            LEFT JOIN found AS f
                ON f.rule_id = c.rule_id AND f.table_name = c.table_name AND f.org_code = c.org_code
            WHERE c.evaluated > 0 AND r.status = 'active' AND c.rule_id NOT IN ({leads})
        ),
        pooled AS (
            SELECT
                rule_id, table_name, count(*) AS orgs, sum(evaluated) AS n,
                (sum(failed) + 0.5) / (sum(evaluated) + 1) AS m
            FROM judged GROUP BY ALL
        ),
        spread AS (
            SELECT
                j.rule_id, j.table_name, any_value(g.orgs) AS orgs, any_value(g.m) AS m,
                sum(j.evaluated * (j.failed / j.evaluated - g.m) ** 2) AS s,
                sum(1 - j.evaluated / g.n) AS one, sum(j.evaluated * (1 - j.evaluated / g.n)) AS many
            FROM judged AS j INNER JOIN pooled AS g USING (rule_id, table_name)
            GROUP BY j.rule_id, j.table_name
        ),
        likeness AS (
            SELECT
                rule_id, table_name, m, orgs,
                (s - m * (1 - m) * one) / nullif(m * (1 - m) * (many - one), 0) AS rho
            FROM spread
        ),
        prior AS (
            SELECT
                rule_id, table_name, m,
                CASE
                    WHEN orgs < {p.orgs_needed} OR rho IS NULL THEN {p.prior_default}
                    WHEN rho <= 0 THEN {p.prior_most}
                    ELSE greatest({p.prior_least}, least({p.prior_most}, round((1 - rho) / rho, 2)))
                END::DOUBLE AS k
            FROM likeness
        ),
        posterior AS (
            SELECT j.*, q.m, q.k, j.failed + q.k * q.m AS a, j.evaluated - j.failed + q.k * (1 - q.m) AS b
            FROM judged AS j INNER JOIN prior AS q USING (rule_id, table_name)
        )
        SELECT
            {day(as_of)} AS data_date, org_code, domain, rule_id, table_name, severity, weight,
            evaluated::BIGINT AS evaluated, findings::BIGINT AS findings,
            (100 * findings / evaluated)::DOUBLE AS rate_pct,
            (100 * m)::DOUBLE AS group_pct,
            k AS prior_n,
            (100 * a / (a + b))::DOUBLE AS shrunk_pct,
            (10000 * a * b / ((a + b) ** 2 * (a + b + 1)))::DOUBLE AS variance
        FROM posterior
    """


def _scores(p: Parameters) -> str:
    return f"""
        WITH summed AS (
            SELECT
                data_date, org_code, coalesce(domain, '{ALL_DOMAINS}') AS domain,
                sum(evaluated)::BIGINT AS eligible, sum(findings)::BIGINT AS findings,
                100 - sum(weight * rate_pct) / count(*) AS score,
                count(*)::BIGINT AS rules,
                100 - sum(weight * shrunk_pct) / count(*) AS shrunk,
                100 - sum(weight * group_pct) / count(*) AS grouped,
                {p.interval_z} * sqrt(sum(weight ** 2 * variance)) / count(*) AS half
            FROM scorecard_part
            GROUP BY GROUPING SETS ((data_date, org_code, domain), (data_date, org_code))
        ),
        cut AS (
            SELECT
                data_date, org_code, domain, eligible, findings,
                round(greatest(0, least(100, score)), 2)::DOUBLE AS score,
                rules,
                round(greatest(0, least(100, shrunk)), 2)::DOUBLE AS shrunk_score,
                round(greatest(0, least(100, grouped)), 2)::DOUBLE AS group_score,
                round(greatest(0, least(100, shrunk - half)), 2)::DOUBLE AS score_low,
                round(greatest(0, least(100, shrunk + half)), 2)::DOUBLE AS score_high,
                eligible < {p.small_below} AS is_small
            FROM summed
        ),
        pairs AS (
            SELECT
                a.data_date, a.org_code, a.domain,
                count(*)::BIGINT AS ranked,
                1 + count(*) FILTER (b.shrunk_score > a.shrunk_score) AS rank,
                1 + count(*) FILTER (b.score_low > a.score_high) AS rank_best,
                count(*) - count(*) FILTER (b.score_high < a.score_low) AS rank_worst
            FROM cut AS a INNER JOIN cut AS b ON b.data_date = a.data_date AND b.domain = a.domain
            GROUP BY ALL
        )
        SELECT
            c.*, q.rank::BIGINT AS rank, q.rank_best::BIGINT AS rank_best, q.rank_worst::BIGINT AS rank_worst, q.ranked
        FROM cut AS c INNER JOIN pairs AS q USING (data_date, org_code, domain)
    """
