"""The rules of ``lab`` over a whole batch at once, in DuckDB: rows in, findings out, no loop over results."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from ingestion.fastlane.found import CRITICAL, INFECTIOUS, Result
from ingestion.fastlane.lab import BY_FLAG
from ingestion.fastlane.rules import Limits, Rules, Words
from ingestion.fastlane.text import NUMBER, quoted, sql_macro

#: Columns that the rows must have, with their types; what a source lacks is NULL.
COLUMNS = {
    "org_code": "VARCHAR",
    "report_id": "VARCHAR",
    "seq": "VARCHAR",
    "item_code": "VARCHAR",
    "item_name": "VARCHAR",
    "loinc_code": "VARCHAR",
    "value_text": "VARCHAR",
    "value_num": "DOUBLE",
    "comparator": "VARCHAR",
    "unit": "VARCHAR",
    "ref_high": "DOUBLE",
    "abnormal_flag": "VARCHAR",
    "is_critical": "BOOLEAN",
    "status_code": "VARCHAR",
    "result_at": "TIMESTAMPTZ",
    "received_at": "TIMESTAMPTZ",
    "encounter_id": "VARCHAR",
    "patient_local_id": "VARCHAR",
    "requesting_org_code": "VARCHAR",
    "dept_code": "VARCHAR",
    "birth_date": "DATE",
    "sex_code": "VARCHAR",
    "panel_name": "VARCHAR",
}


def _any(column: str, words: Any) -> str:
    return "(" + (" OR ".join(f"contains({column}, {quoted(w)})" for w in words) or "false") + ")"


def _in(column: str, words: Any) -> str:
    return f"{column} IN ({', '.join(quoted(w) for w in sorted(words))})" if words else "false"


def _map(column: str, pairs: dict[str, str]) -> str:
    told = " ".join(f"WHEN {quoted(a)} THEN {quoted(b)}" for a, b in sorted(pairs.items()))
    return f"(CASE {column} {told} ELSE {column} END)" if told else column


def _positive(test: Words, known: Rules) -> str:
    r = known.reading
    text = "text"
    for phrase in r.ignored_phrases:
        text = f"replace({text}, {quoted(phrase)}, '')"
    beyond = f"({_in('flag', r.positive_flags)} OR coalesce(num >= ref_high AND sign <> '<', false))"
    return f"""CASE WHEN {_in(text, r.negative_exact)} OR {_any(text, test.negative_words)} THEN false
        WHEN {_in(text, r.positive_exact)} OR {_any(text, test.positive_words)} THEN true
        ELSE {beyond if test.is_quantitative else "false"} END"""


def _named(test: Words) -> str:
    return f"({_any('name', test.names_contain)} AND NOT {_any('name', test.names_without)})"


def _valid(test: Words) -> str:
    org = f"org_code = {quoted(test.org_code)} AND " if test.org_code else ""
    until = f" AND on_day <= DATE '{test.valid_to}'" if test.valid_to else ""
    return f"{org}on_day >= DATE '{test.valid_from}'{until}"


def _tests(tests: tuple[Words, ...], known: Rules, kind: str) -> str:
    """One selection a test, each over the few names that are this test's."""
    parts: list[str] = []
    for t in tests:
        own = [o for o in tests if o.item == t.item and o.org_code and not t.org_code]
        others = "".join(f" AND NOT ({_valid(o)})" for o in own)
        parts.append(
            f"""SELECT rid, {quoted(t.rule_id)} AS rule_id, {quoted(t.item)} AS item, {quoted(kind)} AS kind,
                {len(parts)} AS nr, ({_positive(t, known)}) AS hit FROM numbered
            WHERE {_named(t)} AND {_valid(t)}{others}"""
        )
    return " UNION ALL ".join(parts) or "SELECT NULL AS rid WHERE false"


def _limits_table(limits: tuple[Limits, ...]) -> pa.Table:
    """One row a rule and identity (its LOINC code, each of its names)."""
    rows = [
        {
            "rule_id": x.rule_id,
            "item": x.item,
            "by": by,
            "identity": identity,
            "wanted_unit": x.unit,
            "low_le": x.low_le,
            "high_ge": x.high_ge,
            "multiple": x.high_ref_multiple,
            "age_min": x.age_min_days,
            "age_max": x.age_max_days,
            "sex": x.sex_code,
            "dept": x.dept_code,
            "not_depts": sorted(x.not_dept_codes),
            "org": x.org_code,
            "valid_from": x.valid_from,
            "valid_to": x.valid_to,
            "rank": x.rank,
        }
        for x in limits
        for by, identity in [("loinc", x.loinc), *(("name", n) for n in sorted(x.names))]
        if identity
    ]
    types = {"low_le": pa.float64(), "high_ge": pa.float64(), "multiple": pa.float64(), "age_min": pa.int64()}
    types |= {"age_max": pa.int64(), "rank": pa.int64(), "valid_from": pa.date32(), "valid_to": pa.date32()}
    names = list(rows[0]) if rows else []
    fields = [(n, pa.list_(pa.string()) if n == "not_depts" else types.get(n, pa.string())) for n in names]
    return pa.Table.from_pylist(rows, pa.schema(fields))


def query(known: Rules) -> str:
    """Findings of the relation ``lab_rows`` (``COLUMNS``); the relations ``limits`` and ``factors`` must be there."""
    r = known.reading
    same = "unit = wanted_unit" + (" OR unit = ''" if r.assume_missing_unit else "")
    ranks = {x.rank for x in known.limits}
    special = "QUALIFY rank = max(rank) OVER (PARTITION BY rid, item)" if len(ranks) > 1 else ""
    return f"""
    WITH plain AS (
        SELECT *, row_number() OVER () AS rid, plain(item_name) AS name, plain(value_text) AS text,
            plain(abnormal_flag) AS flag, plain(panel_name) AS panel,
            {_map("plain(unit)", r.spellings)} AS plain_unit, trim(coalesce(loinc_code, '')) AS loinc,
            least(coalesce(result_at, received_at), received_at) AS instant
        FROM lab_rows WHERE NOT {_in("plain(status_code)", r.excluded_status)}
    ), numbered AS (
        SELECT * EXCLUDE (unit), unit AS told_unit, plain_unit AS unit,
            coalesce(value_num, try_cast(regexp_extract(text, {quoted(NUMBER)}, 2) AS DOUBLE)) AS num,
            CASE WHEN value_num IS NULL THEN regexp_extract(text, {quoted(NUMBER)}, 1)
                 ELSE left(plain(comparator), 1) END AS sign,
            CAST(timezone('Asia/Shanghai', instant) AS DATE) AS on_day
        FROM plain
    ), infectious AS ({_tests(known.infectious, known, INFECTIOUS)}
    ), told AS (SELECT * FROM ({_tests(known.words, known, CRITICAL)}) WHERE hit QUALIFY nr = min(nr) OVER (PARTITION BY rid)
    ), judged AS (
        SELECT n.rid, n.loinc, n.name, n.num, n.sign, n.unit, n.ref_high, n.org_code, n.on_day, n.panel,
            coalesce(n.sex_code, '') AS sex_code, coalesce(n.dept_code, '') AS dept_code,
            CASE WHEN n.birth_date <= n.on_day THEN n.on_day - n.birth_date END AS age
        FROM numbered n WHERE n.num IS NOT NULL
    ), identified AS (
        SELECT * FROM judged n JOIN limits l ON l."by" = 'loinc' AND l.identity = n.loinc
        UNION ALL SELECT * FROM judged n JOIN limits l ON l."by" = 'name' AND l.identity = n.name
        WHERE n.loinc = '' AND NOT {_any("n.panel", r.not_blood_panels)}
    ), fitting AS (
        SELECT l.*, CASE WHEN {same} THEN 1.0::DOUBLE ELSE f.factor END AS by_factor
        FROM identified l LEFT JOIN factors f ON f.unit_from = l.unit AND f.unit_to = l.wanted_unit
        WHERE org IN ('', org_code) AND on_day >= valid_from AND (valid_to IS NULL OR on_day <= valid_to)
            AND sex IN ('', sex_code) AND dept IN ('', dept_code) AND NOT list_contains(not_depts, dept_code)
            AND CASE WHEN age IS NULL THEN age_max IS NULL
                ELSE age >= age_min AND (age_max IS NULL OR age <= age_max) END
        {special}
    ), beyond AS (
        SELECT rid, min(rule_id) AS rule_id, arg_min(item, rule_id) AS item FROM fitting
        WHERE coalesce(multiple IS NOT NULL AND num >= multiple * ref_high AND sign <> '<', false)
            OR coalesce(low_le IS NOT NULL AND sign <> '>' AND num * by_factor <= low_le, false)
            OR coalesce(high_ge IS NOT NULL AND sign <> '<' AND num * by_factor >= high_ge, false)
        GROUP BY rid
    ), hits AS (
        SELECT rid, rule_id, item, kind FROM infectious WHERE hit
        UNION ALL SELECT rid, rule_id, item, kind FROM told ANTI JOIN infectious USING (rid)
        UNION ALL SELECT rid, rule_id, item, {quoted(CRITICAL)} FROM beyond
            ANTI JOIN infectious USING (rid) ANTI JOIN told USING (rid)
        UNION ALL SELECT rid, {quoted(BY_FLAG)}, '', {quoted(CRITICAL)} FROM (SELECT rid FROM numbered
            WHERE {_in("flag", r.critical_flags)} OR coalesce(is_critical, false))
            ANTI JOIN infectious USING (rid) ANTI JOIN told USING (rid) ANTI JOIN beyond USING (rid)
    )
    SELECT h.kind, h.rule_id, h.item, n.org_code, trim(coalesce(n.report_id, '')) AS report_id,
        trim(coalesce(n.seq, '')) AS seq, trim(coalesce(n.item_code, '')) AS item_code, n.instant AS "at", n.item_name,
        coalesce(nullif(trim(coalesce(n.value_text, '')), ''), CAST(n.value_num AS VARCHAR), '') AS value_text,
        coalesce(n.told_unit, '') AS unit, trim(coalesce(n.encounter_id, '')) AS encounter_id,
        coalesce(n.patient_local_id, '') AS patient_local_id, coalesce(n.requesting_org_code, '') AS requesting_org_code,
        coalesce(n.dept_code, '') AS dept_code
    FROM hits h JOIN numbered n USING (rid) ORDER BY n.instant, n.org_code, report_id, seq, h.rule_id"""


def find(con: duckdb.DuckDBPyConnection, known: Rules) -> list[Result]:
    """Findings among the rows of the relation ``lab_rows``."""
    con.execute(sql_macro())
    con.register("limits", _limits_table(known.limits))
    pairs = [(a, b, f) for (a, b), f in sorted(known.reading.factors.items())]
    columns = list(zip(*pairs, strict=True)) if pairs else [(), (), ()]
    kinds = (pa.string(), pa.string(), pa.float64())
    names = ("unit_from", "unit_to", "factor")
    con.register(
        "factors", pa.table({n: pa.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)})
    )
    limits = {x.rule_id: x for x in known.limits}
    words = {x.rule_id: x for x in (*known.words, *known.infectious)}
    found = con.execute(query(known)).to_arrow_table().to_pylist()
    return [
        _result(row, limits.get(row["rule_id"]), words.get(row["rule_id"])) for row in found
    ]  # findings only: few


def _result(row: dict[str, Any], limit: Limits | None, test: Words | None) -> Result:
    name = row.pop("item_name") or ""
    at: datetime = row.pop("at")
    return Result(
        **row,
        at=at.astimezone(UTC),
        item_zh=limit.item_zh if limit else test.item_zh if test else name,
        is_first_report=bool(limit and limit.is_first_report),
        pathogen=test.pathogen if test else "",
        disease_code=test.disease_code if test else "",
        confirmation=test.confirmation if test else "",
        is_restricted=bool(test and test.is_restricted),
    )
