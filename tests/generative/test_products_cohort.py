"""A cohort's SQL against a plain reading of the same definition in Python, over random definitions and people."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from products.cohort import count
from products.cohort_definition import Definition
from products.cohort_query import axis

DAY = date(2026, 11, 20)
CENTRES = ["C201", "C202", "C203"]

people = st.fixed_dictionaries(
    {
        "age_years": st.none() | st.integers(0, 90),
        "sex_code": st.sampled_from(["1", "2", "9", None]),
        "county_code": st.sampled_from(["429701", "429702", "000000", None]),
        "managing_org_code": st.sampled_from([*CENTRES, None]),
        "is_deceased": st.booleans(),
        "htn": st.sampled_from([None, True, False]),
        "dm": st.sampled_from([None, True, False]),
        "labs": st.lists(
            st.tuples(
                st.sampled_from(["22748-8", "4548-4"]), st.sampled_from(["mmol/L", "%"]), st.integers(1, 6),
                st.sampled_from([None, "", "<"]), st.integers(-3, 900),
            ),
            max_size=3,
        ),
        "visits": st.lists(
            st.tuples(st.sampled_from(["I10", "I63.9", "J06", None]), st.sampled_from(["AMB", "IMP"]), st.integers(0, 900)),
            max_size=3,
        ),
    }
)  # fmt: skip

periods = st.one_of(
    st.just({}),
    st.builds(lambda n: {"within_days": n}, st.integers(1, 800)),
    st.builds(lambda n: {"from": str(DAY - timedelta(n))}, st.integers(0, 900)),
    st.builds(lambda n: {"to": str(DAY - timedelta(n))}, st.integers(0, 900)),
)
managed = st.builds(
    lambda d, c: {"managed": d} | ({} if c is None else {"controlled": c}),
    st.sampled_from(["htn", "dm"]), st.sampled_from([None, True, False]),
)  # fmt: skip
labs = st.builds(
    lambda op, a, b, unit, period: {
        "lab": {"loinc": ["22748-8"], "op": op, "unit": unit, "period": period}
        | ({"low": min(a, b), "high": max(a, b)} if op == "between" else {"value": a})
    },
    st.sampled_from(["<", "<=", ">", ">=", "between"]), st.integers(0, 7), st.integers(0, 7),
    st.sampled_from(["mmol/L", "%"]), periods,
)  # fmt: skip
visits = st.builds(
    lambda icd, cls, n, period: {
        "encounter": {"at_least": n, "period": period}
        | ({"icd10": icd} if icd else {}) | ({"class_code": cls} if cls else {})
    },
    st.sampled_from([None, ["I1"], ["I63", "J06"]]), st.sampled_from([None, ["IMP"]]), st.integers(1, 2), periods,
)  # fmt: skip
criteria = st.recursive(
    managed | labs | visits,
    lambda inner: st.builds(
        lambda k, parts: {k: parts},
        st.sampled_from(["all", "any", "none"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=5,
)
populations = st.fixed_dictionaries(
    {},
    optional={
        "age": st.builds(
            lambda a, b: {"min": min(a, b), "max": max(a, b)}, st.integers(0, 95), st.integers(0, 95)
        ),
        "sex": st.sampled_from([["1"], ["2"], ["1", "2"]]),
        "county": st.sampled_from([["429701"], ["429701", "429702"]]),
        "org": st.sampled_from([["C201"], ["C202", "C203"]]),
        "alive": st.booleans(),
    },
)
groups = st.lists(st.sampled_from(["age_band", "sex", "county", "centre"]), max_size=2, unique=True)


def in_period(days_ago: int, period: dict[str, Any]) -> bool:
    on = DAY - timedelta(days_ago)
    end = date.fromisoformat(period["to"]) if "to" in period else DAY
    start = date.fromisoformat(period["from"]) if "from" in period else date.min
    within = period.get("within_days", 10**6)
    return start <= on <= end and days_ago < within


def holds(person: dict[str, Any], node: dict[str, Any]) -> bool:
    if "all" in node:
        return all(holds(person, n) for n in node["all"])
    if "any" in node:
        return any(holds(person, n) for n in node["any"])
    if "none" in node:
        return not any(holds(person, n) for n in node["none"])
    if "managed" in node:
        state = person[node["managed"]]
        return state is not None and node.get("controlled", state) == state
    if "lab" in node:
        lab = node["lab"]

        def compares(value: float) -> bool:
            if lab["op"] == "between":
                return bool(lab["low"] <= value <= lab["high"])
            return {"<": value < lab["value"], "<=": value <= lab["value"],
                    ">": value > lab["value"], ">=": value >= lab["value"]}[lab["op"]]  # fmt: skip

        return any(
            code in lab["loinc"]
            and unit == lab["unit"]
            and not sign
            and compares(value)
            and in_period(ago, lab["period"])
            for code, unit, value, sign, ago in person["labs"]
        )
    visit = node["encounter"]
    found = [
        1
        for icd, kind, ago in person["visits"]
        if in_period(ago, visit["period"])
        and ("icd10" not in visit or (icd is not None and icd.startswith(tuple(visit["icd10"]))))
        and ("class_code" not in visit or kind in visit["class_code"])
    ]
    return len(found) >= visit["at_least"]


def belongs(person: dict[str, Any], node: dict[str, Any]) -> bool:
    age = node.get("age")
    return (
        (not node.get("alive", True) or not person["is_deceased"])
        and (
            age is None
            or (person["age_years"] is not None and age["min"] <= person["age_years"] <= age["max"])
        )
        and ("sex" not in node or person["sex_code"] in node["sex"])
        and ("county" not in node or person["county_code"] in node["county"])
        and ("org" not in node or person["managing_org_code"] in node["org"])
    )


def place(person: dict[str, Any], code: str, values: list[str]) -> int | None:
    """Where a person stands on a dimension; None: on none of its values."""
    if code == "age_band":
        value = None if person["age_years"] is None else str(min(person["age_years"] // 10, 9))
    else:
        value = person[{"sex": "sex_code", "county": "county_code", "centre": "managing_org_code"}[code]]
        value = value if value in values else ("" if "" in values else None)
    return values.index(value) if value in values else None


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    made = duckdb.connect()
    made.execute("ATTACH ':memory:' AS served; CREATE SCHEMA served.gold")
    made.execute(
        """CREATE TABLE served.gold.dim_person (person_token VARCHAR, age_years INTEGER, sex_code VARCHAR,
            county_code VARCHAR, managing_org_code VARCHAR, is_deceased BOOLEAN);
        CREATE TABLE served.gold.dim_org AS SELECT code AS org_code, code AS managing_org_code, '1' AS org_level_code
            FROM (VALUES ('C201'), ('C202'), ('C203')) t(code);
        CREATE TABLE served.gold.htn_management (person_token VARCHAR, is_controlled BOOLEAN);
        CREATE TABLE served.gold.dm_management (person_token VARCHAR, is_controlled BOOLEAN);
        CREATE TABLE served.gold.fct_lab_result (person_token VARCHAR, loinc_code VARCHAR, unit VARCHAR,
            value_num DOUBLE, comparator VARCHAR, reported_on DATE);
        CREATE TABLE served.gold.fct_encounter (person_token VARCHAR, main_icd10_code VARCHAR, class_code VARCHAR,
            started_on DATE)"""
    )
    return made


def fill(con: duckdb.DuckDBPyConnection, city: list[dict[str, Any]]) -> None:
    tables: dict[str, list[list[Any]]] = {n: [] for n in (
        "dim_person", "htn_management", "dm_management", "fct_lab_result", "fct_encounter")}  # fmt: skip
    for number, p in enumerate(city):
        token = f"T{number}"
        tables["dim_person"].append(
            [token, p["age_years"], p["sex_code"], p["county_code"], p["managing_org_code"], p["is_deceased"]]
        )
        for disease in ("htn", "dm"):
            if p[disease] is not None:
                tables[f"{disease}_management"] += [
                    [token, p[disease]]
                ] * 2  # a second card must not count twice
        tables["fct_lab_result"] += [[token, c, u, v, s, DAY - timedelta(a)] for c, u, v, s, a in p["labs"]]
        tables["fct_encounter"] += [[token, i, c, DAY - timedelta(a)] for i, c, a in p["visits"]]
    tables["fct_lab_result"].append([None, "22748-8", "mmol/L", 3, None, DAY])  # nobody's result
    for name, rows in tables.items():
        con.execute(f"DELETE FROM served.gold.{name}")
        if rows:
            con.executemany(f"INSERT INTO served.gold.{name} VALUES ({', '.join('?' * len(rows[0]))})", rows)


@given(st.lists(people, max_size=8), populations, criteria, groups)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_sql_counts_whom_the_definition_means(
    con: duckdb.DuckDBPyConnection,
    city: list[dict[str, Any]],
    population: dict[str, Any],
    criterion: dict[str, Any],
    group_by: list[str],
) -> None:
    where = criterion if set(criterion) & {"all", "any", "none"} else {"all": [criterion]}
    node = {"cohort": "c", "title_zh": "c", "population": population, "where": where, "group_by": group_by}
    definition = Definition.model_validate(node)
    fill(con, city)
    counted, axes = count(con, definition, DAY)
    expected = np.zeros_like(counted)
    for person in city:
        if belongs(person, population) and holds(person, where):
            at = [place(person, a.code, a.values) for a in axes]
            if None not in at:
                expected[tuple(at)] += 1  # type: ignore[arg-type]
    assert counted.tolist() == expected.tolist()


def test_a_dimension_holds_what_the_population_allows_and_no_more() -> None:
    node = {"cohort": "c", "title_zh": "c", "where": {"all": [{"managed": "htn"}]}}
    narrow = Definition.model_validate(
        node
        | {"population": {"age": {"min": 45, "max": 64}, "sex": ["2"], "county": ["429701"], "org": ["C201"]}}
    ).population
    assert axis("age_band", narrow).labels_zh == ["40–49岁", "50–59岁", "60–69岁"]
    assert axis("sex", narrow).labels_zh == ["女"]
    assert axis("county", narrow).labels_zh == ["湖东区"]
    assert axis("centre", narrow).values == ["C201"]
    wide = Definition.model_validate(node).population
    assert len(axis("age_band", wide).values) == 10 and len(axis("centre", wide).values) == 19
