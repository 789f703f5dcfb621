"""The tests of a quarter: measures in SQL, tails in numpy, leads by Benjamini and Hochberg across doctors.

Sources: public-health-qc.md, section 1 (digit preference, copy-paste similarity) and section 2.8 (a lead for human
checking, never a penalty). Doctors are told apart by institution and number. The city's own rate is the null of all
tests but the digits', so what the whole city does is no lead.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from quality.compile import day

_HERE = Path(__file__).parent

#: Rows of ``quality/forensic_lead``. ``n`` and ``statistic`` are what ``note_zh`` says; ``tested`` the doctors of the
#: same test (the family of ``q_value``).
SCHEMA = pa.schema([
    ("quarter", pa.string()), ("test", pa.string()), ("org_code", pa.string()), ("doctor_id", pa.string()),
    ("n", pa.int64()), ("statistic", pa.float64()), ("p", pa.float64()), ("q_value", pa.float64()),
    ("tested", pa.int64()), ("note_zh", pa.string()), ("screened_on", pa.date32()),
])  # fmt: skip

#: Test -> Chinese name, in the order they are shown.
TESTS: dict[str, str] = {
    "digit": "血压末位数偏好",
    "limit": "收缩压扎堆于达标线下",
    "identical": "血压值雷同",
    "copy_person": "同一居民前后记录雷同",
    "copy_day": "同日不同居民记录雷同",
    "day": "单日随访过多",
    "month_end": "月末集中随访",
}

_CODED = (
    "symptoms", "med_compliance_code", "visit_class_code", "visit_way_code", "salt_level_code", "psych_code",
    "obey_code", "drugs", "visit_effect_code", "aux_check",
)  # fmt: skip
_CONTINUOUS = (
    "sbp_mmhg", "dbp_mmhg", "heart_rate_bpm", "weight_kg", "bmi", "fbg_mmol_l", "exercise_min", "smoke_per_day",
    "drink_liang_per_day", "staple_g_day",
)  # fmt: skip


@lru_cache(1)
def _entries() -> tuple[dict[str, Any], ...]:
    import yaml

    read = yaml.safe_load((_HERE / "parameters.yaml").read_text("utf-8"))
    return tuple(sorted(read, key=lambda e: e["valid_from"]))


def parameters(as_of: date) -> dict[str, Any]:
    """Those in force on a day; before the first entry, the first."""
    known = _entries()
    return dict(next((e for e in reversed(known) if e["valid_from"] <= as_of), known[0]))


def visits_sql(kind: str, source: str, columns: set[str], first: date, last: date) -> str:
    """A quarter's follow-ups of a table in the shape of ``visit``. ``columns``: those that the table has."""

    def packed(names: tuple[str, ...], type_: str) -> str:
        return "[" + ", ".join(f"{c}::{type_}" if c in columns else f"NULL::{type_}" for c in names) + "]"

    device = "bp_device_code" if "bp_device_code" in columns else "NULL::VARCHAR"
    kept = "NOT coalesce(is_deleted, false) AND" if "is_deleted" in columns else ""
    return f"""
        SELECT '{kind}' AS kind, org_code, doctor_id, archive_id, visit_id, visited_on AS on_day, sbp_mmhg AS sbp,
            dbp_mmhg AS dbp, {device} AS device, {packed(_CODED, "VARCHAR")} AS fields,
            {packed(_CONTINUOUS, "DOUBLE")} AS numbers
        FROM {source}
        WHERE {kept} visited_on BETWEEN {day(first)} AND {day(last)} AND doctor_id IS NOT NULL
    """


def screen(connection: duckdb.DuckDBPyConnection, quarter: str, screened_on: date, last: date) -> pa.Table:
    """Leads of a quarter from the table ``visit`` (shape: ``visits_sql``), as rows of :data:`SCHEMA`."""
    import numpy as np

    from quality.forensics import statistics as stat

    p = parameters(last)
    literals = {k: str(tuple(v)).replace(",)", ")") if isinstance(v, list) else str(v) for k, v in p.items()}
    text = (_HERE / "measures.sql").read_text("utf-8")
    for key, literal in literals.items():
        text = text.replace("{" + key + "}", literal)
    connection.execute(text)
    rows: list[dict[str, Any]] = []

    def settle(
        test: str, read: list[dict[str, Any]], statistic: Any, tail: Any, keep: Any, notes: list[str]
    ) -> None:
        if not read:
            return
        q = stat.q_values(np.asarray(tail, dtype=np.float64))
        for i in np.flatnonzero((q <= p["false_discovery"]) & np.asarray(keep, dtype=bool)):  # leads are few
            r = read[int(i)]
            rows.append({
                "quarter": quarter, "test": test, "org_code": r["org_code"], "doctor_id": r["doctor_id"],
                "n": int(r["n"]), "statistic": float(statistic[i]), "p": float(tail[i]), "q_value": float(q[i]),
                "tested": len(read), "note_zh": notes[int(i)], "screened_on": screened_on,
            })  # fmt: skip

    def column(read: list[dict[str, Any]], name: str) -> Any:
        return np.asarray([float(r[name]) for r in read])

    def read(table: str, where: str = "true") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = connection.execute(
            f"SELECT * FROM {table} WHERE {where} ORDER BY org_code, doctor_id"
        ).to_arrow_table().to_pylist()  # fmt: skip
        return found

    digits = read("m_digit")
    if digits:
        counts = np.asarray([r["digits"] for r in digits], dtype=np.float64)
        even = np.asarray([r["is_even"] for r in digits], dtype=bool)
        chi, tail = stat.chi_square(counts)
        chi5, tail5 = stat.chi_square(counts.reshape(-1, 5, 2).sum(axis=2))
        share = np.maximum(counts[:, 0], np.where(even, 0, counts[:, 5])) / counts.sum(axis=1)
        notes = [
            f"收缩压末位0占{c[0] / c.sum():.0%}、末位5占{c[5] / c.sum():.0%}（{int(c.sum())}次，按{5 if e else 10}类检验）"
            for c, e in zip(counts, even, strict=True)
        ]
        settle("digit", digits, np.where(even, chi5, chi), np.where(even, tail5, tail),
               share > p["digit_least_share"], notes)  # fmt: skip
    around, at_end = f"{p['limit_sbp']}上下{p['limit_band']}mmHg", f"每月最后{p['month_end_days']}天"
    for test, table, where, told in (
        ("limit", "m_limit", "true", f"{around}内{{n}}次，线下{{k}}次占{{own:.0%}}，全市占{{city:.0%}}"),
        ("copy_person", "m_copy", "test = 'copy_person'", "同一居民前后记录{n}对，雷同{k}对占{own:.0%}，全市占{city:.1%}"),
        ("copy_day", "m_copy", "test = 'copy_day'", "同日不同居民记录{n}对，雷同{k}对占{own:.0%}，全市占{city:.1%}"),
        ("month_end", "m_month_end", "true", f"随访{{n}}次，{at_end}{{k}}次占{{own:.0%}}，全市占{{city:.0%}}"),
    ):  # fmt: skip
        found = read(table, where)
        n, k, share = column(found, "n"), column(found, "k"), column(found, "share")
        notes = [
            told.format(n=int(r["n"]), k=int(r["k"]), own=r["k"] / r["n"], city=r["share"]) for r in found
        ]
        settle(test, found, k / np.maximum(n, 1), stat.binomial_tail(k, n, share), k > n * share, notes)
    same = read("m_identical")
    k, mean = column(same, "k"), column(same, "mean")
    notes = [
        f"{int(r['n'])}次血压（同一居民相同值只计一次）中{r['commonest']}出现{int(r['commonest_n'])}次，不同居民血压相同的成对数{int(r['k'])}，按全市分布应为{r['mean']:.1f}"
        for r in same
    ]
    settle("identical", same, k, stat.poisson_tail(k, mean), k > mean, notes)
    busy = read("m_day")
    k = column(busy, "k")
    tail = np.minimum(
        1.0, column(busy, "n") * stat.poisson_tail(k, column(busy, "mean"))
    )  # the busiest of n days
    notes = [f"{r['busiest']}一天随访{int(r['k'])}次，全市医生日均{r['mean']:.1f}次" for r in busy]
    settle("day", busy, k, tail, k > p["day_most_visits"], notes)
    return pa.Table.from_pylist(rows, schema=SCHEMA)
