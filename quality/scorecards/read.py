"""Scorecards as plain dicts, from the Delta tables ``quality/scorecard`` (all days) and ``quality/scorecard_part``.

Everything here is aggregate; no record of a person is read. A domain that nothing was evaluated in has ``score`` None
(NA), never 0.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import duckdb

from lake import duck, registry, runs, tables
from lake.errors import MedlakeError
from quality.compile import day
from quality.scorecards.compute import ALL_DOMAINS
from quality.scorecards.parameters import Parameters, parameters

CARD, PART, RULE = "quality/scorecard", "quality/scorecard_part", "quality/rule"

#: Columns that a check of an older version did not write.
_LATER = {
    "rules": "BIGINT", "shrunk_score": "DOUBLE", "group_score": "DOUBLE", "score_low": "DOUBLE",
    "score_high": "DOUBLE", "is_small": "BOOLEAN", "rank": "BIGINT", "rank_best": "BIGINT", "rank_worst": "BIGINT",
    "ranked": "BIGINT",
}  # fmt: skip


def formula_zh(p: Parameters) -> str:
    """The formula with the weights in force, as a sentence for a page."""
    w = p.weights
    return (
        "得分 = 100 − Σ(权重 × 违规率%) ÷ 判定的规则数，"
        f"权重：错误 {w['error']:g}、警告 {w['warn']:g}、提示 {w['info']:g}；限于 0–100；没有可判定记录记 NA，不计 0 分"
    )


def _run(data_date: date | None) -> runs.Run:
    """The run of a date, or the newest checked one.

    Raises:
        MedlakeError: E450 nothing was checked (on that date).
    """
    run = runs.get_run(data_date) if data_date else runs.latest_run()
    while data_date is None and run is not None and CARD not in run.versions:
        run = runs.previous_run(run.data_date)
    if run is None or CARD not in run.versions:
        raise MedlakeError("E450", data_date=data_date or "—")
    return run


def _rows(
    connection: duckdb.DuckDBPyConnection, sql: str, values: list[Any] | None = None
) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = connection.execute(sql, values or []).to_arrow_table().to_pylist()
    return made


def cards_sql(run: runs.Run) -> str:
    """SQL of the scorecards; what an older check did not write is NULL."""
    version = run.versions[CARD]
    has = set(tables.columns(CARD, version))
    later = "".join(f", NULL::{t} AS {c}" for c, t in _LATER.items() if c not in has)
    return f"(SELECT *{later} FROM {tables.scan_sql(CARD, version)})"


def _names() -> dict[str, str]:
    orgs = registry.orgs()
    return dict(zip(orgs["org_code"].to_pylist(), orgs["org_short_name"].to_pylist(), strict=True))


def domains(data_date: date | None = None) -> dict[str, str]:
    """Domains of the rule book at a check, code -> Chinese name; ``ALL`` first."""
    run = _run(data_date)
    with duck.connect() as connection:
        rows = _rows(
            connection,
            f"SELECT domain, any_value(domain_zh) AS zh, min(rule_id) AS first "
            f"FROM {tables.scan_sql(RULE, run.versions[RULE])} GROUP BY domain ORDER BY domain",
        )
    return {ALL_DOMAINS: "全部领域"} | {r["domain"]: r["zh"] for r in rows}


def _asked(domain: str, known: dict[str, str]) -> None:
    if domain not in known:
        raise MedlakeError("E452", domain=domain, known="、".join(known))


def _known_org(org: str, names: dict[str, str]) -> None:
    if org not in names:
        raise MedlakeError("E451", org_code=org)


def card(org: str, data_date: date | None = None) -> dict[str, Any]:
    """An institution's scorecard: ``data_date``, ``org_code``, ``org_name``, ``formula_zh``, ``weights`` and
    ``domains`` (ALL first), each with ``domain``, ``domain_zh``, ``score`` (None: NA), ``shrunk_score``,
    ``score_low``, ``score_high``, ``rank_best``, ``rank_worst``, ``ranked``, ``eligible``, ``findings``, ``rules``
    and ``is_small``.

    Raises:
        MedlakeError: E450 nothing was checked; E451 there is no such institution.
    """
    run, names = _run(data_date), _names()
    _known_org(org, names)
    with duck.connect() as connection:
        rows = _rows(
            connection,
            f"SELECT * FROM {cards_sql(run)} WHERE data_date = {day(run.data_date)} AND org_code = ?",
            [org],
        )
    of = {r["domain"]: r for r in rows}
    p = parameters(run.data_date)
    none = dict.fromkeys(("score", *_LATER)) | {"eligible": 0, "findings": 0, "rules": 0, "is_small": False}
    return {
        "data_date": run.data_date,
        "org_code": org,
        "org_name": names[org],
        "formula_zh": formula_zh(p),
        "weights": dict(p.weights),
        "domains": [
            {"domain": code, "domain_zh": zh}
            | {k: v for k, v in of.get(code, none).items() if k not in ("data_date", "org_code", "domain")}
            for code, zh in domains(run.data_date).items()
        ],
    }


def ranking(domain: str = ALL_DOMAINS, data_date: date | None = None) -> list[dict[str, Any]]:
    """The institutions evaluated in a domain, best first, then those that were not (``score`` None).

    Ordered by ``shrunk_score``; ``rank_best``..``rank_worst`` are the places that the intervals leave open, and
    ``is_tied`` says that they are more than one. Columns as in ``card``, with ``org_code`` and ``org_name``.

    Raises:
        MedlakeError: E450 nothing was checked; E452 there is no such domain.
    """
    run, names = _run(data_date), _names()
    _asked(domain, domains(run.data_date))
    with duck.connect() as connection:
        rows = _rows(
            connection,
            f"SELECT * EXCLUDE (data_date, domain) FROM {cards_sql(run)} "
            f"WHERE data_date = {day(run.data_date)} AND domain = ? "
            "ORDER BY coalesce(shrunk_score, score) DESC NULLS LAST, org_code",
            [domain],
        )
    ranked = {r["org_code"] for r in rows}
    none = dict.fromkeys(("score", *_LATER)) | {"eligible": 0, "findings": 0, "rules": 0, "is_small": False}
    rows += [{"org_code": o} | none for o in sorted(names) if o not in ranked]
    return [
        r
        | {
            "org_name": names.get(r["org_code"], r["org_code"]),
            "is_tied": r["rank_best"] is not None and r["rank_best"] != r["rank_worst"],
        }
        for r in rows
    ]


def trend(
    org: str | None = None, domain: str = ALL_DOMAINS, days: int = 30, data_date: date | None = None
) -> list[dict[str, Any]]:
    """Scores of the ``days`` days up to a check, oldest first; days without a score are absent.

    ``org`` None is the city: the mean of the institutions' scores, each weighing as much as it was evaluated. Rows:
    ``data_date``, ``score``, ``shrunk_score``, ``eligible``, ``findings``.

    Raises:
        MedlakeError: E450 nothing was checked; E451 or E452 there is no such institution or domain.
    """
    run = _run(data_date)
    if org is not None:
        _known_org(org, _names())
    _asked(domain, domains(run.data_date))
    whose = "" if org is None else "AND org_code = ?"
    with duck.connect() as connection:
        return _rows(
            connection,
            f"""
            SELECT
                data_date, round(sum(score * eligible) / sum(eligible), 2) AS score,
                round(sum(shrunk_score * eligible) / sum(eligible), 2) AS shrunk_score,
                sum(eligible)::BIGINT AS eligible, sum(findings)::BIGINT AS findings
            FROM {cards_sql(run)}
            WHERE domain = ? AND data_date <= {day(run.data_date)}
                AND data_date > {day(run.data_date)} - ?::INTEGER {whose}
            GROUP BY data_date ORDER BY data_date
            """,
            [domain, days, *([org] if org is not None else [])],
        )


def explain(org: str, domain: str = ALL_DOMAINS, data_date: date | None = None) -> dict[str, Any]:
    """One score taken apart: ``card`` (the row), ``formula_zh`` and ``parts``, costliest first.

    A part: ``rule_id``, ``title_zh``, ``table_name``, ``severity``, ``weight``, ``evaluated``, ``findings``,
    ``rate_pct``, ``group_pct``, ``prior_n``, ``shrunk_pct`` and ``points`` = weight x rate_pct / rules, what it takes
    off the score: ``score`` is 100 minus the sum of ``points``, cut to 0..100.

    Raises:
        MedlakeError: E450 nothing was checked; E451, E452 no such institution or domain; E453 the check of that date
            kept no parts (an older version made it).
    """
    run = _run(data_date)
    if PART not in run.versions:
        raise MedlakeError("E453", data_date=run.data_date)
    whole = card(org, run.data_date)
    of = {d["domain"]: d for d in whole["domains"]}
    _asked(domain, of)
    only = "" if domain == ALL_DOMAINS else "AND p.domain = ?"
    with duck.connect() as connection:
        parts = _rows(
            connection,
            f"""
            SELECT
                p.rule_id, r.title_zh, p.table_name, p.severity, p.weight, p.evaluated, p.findings, p.rate_pct,
                p.group_pct, p.prior_n, p.shrunk_pct, p.weight * p.rate_pct / count(*) OVER () AS points
            FROM {tables.scan_sql(PART, run.versions[PART])} AS p
            LEFT JOIN {tables.scan_sql(RULE, run.versions[RULE])} AS r
                ON r.rule_id = p.rule_id AND r.table_name = p.table_name
            WHERE p.org_code = ? {only}
            ORDER BY points DESC, p.rule_id, p.table_name
            """,
            [org, *([domain] if only else [])],
        )
    return {
        "data_date": run.data_date,
        "org_code": org,
        "org_name": whole["org_name"],
        "formula_zh": whole["formula_zh"],
        "card": of[domain],
        "parts": parts,
    }
