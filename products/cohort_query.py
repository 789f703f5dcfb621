"""Compiles a cohort definition to one SQL statement over gold: people per group, each person once.

Every value goes in as a parameter; only names from this file become SQL text.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from lake import registry
from lake.settings import settings
from products import visible
from products.cohort_definition import (
    Combined,
    Criterion,
    Definition,
    Drug,
    Encounter,
    Lab,
    Managed,
    Period,
    Population,
)
from products.reading import below

#: Criterion kind -> the data product whose gate its table follows.
PRODUCT_OF = {
    "managed": "chronic_disease",
    "lab": "laboratory",
    "encounter": "operations",
    "drug": "operations",
}
POPULATION_PRODUCT = "health_archive"

_TABLE_OF = {"htn": "htn_management", "dm": "dm_management"}


@dataclass
class Query:
    """SQL text with its parameters in order, and the products it touches."""

    data_date: date
    values: list[Any] = field(default_factory=list)
    products: set[str] = field(default_factory=lambda: {POPULATION_PRODUCT})

    def add(self, value: Any) -> str:
        self.values.append(value)
        return f"${len(self.values)}"


@dataclass(frozen=True)
class Axis:
    """One dimension of the result: every value it can take, so that an absent one is a zero and not a hint."""

    code: str
    label_zh: str
    sql: str
    values: list[str]
    labels_zh: list[str]


def _period(query: Query, column: str, period: Period) -> str:
    terms = [f"{column} <= {query.add(period.end or query.data_date)}"]
    if period.within_days is not None:
        terms.append(f"{column} > {query.add(query.data_date)} - {query.add(period.within_days)}::INTEGER")
    if period.start is not None:
        terms.append(f"{column} >= {query.add(period.start)}")
    return " AND ".join(terms)


def _managed(query: Query, criterion: Managed) -> str:
    terms = "true" if criterion.controlled is None else f"is_controlled = {query.add(criterion.controlled)}"
    return f"SELECT person_token FROM served.gold.{_TABLE_OF[criterion.managed]} WHERE {terms}"


def _lab(query: Query, criterion: Lab) -> str:
    test = criterion.lab
    if test.op == "between":
        compared = f"value_num BETWEEN {query.add(test.low)} AND {query.add(test.high)}"
    else:
        compared = f"value_num {test.op} {query.add(test.value)}"
    return (
        f"SELECT person_token FROM served.gold.fct_lab_result WHERE loinc_code IN {query.add(test.loinc)} "
        f"AND unit = {query.add(test.unit)} AND coalesce(comparator, '') IN ('', '=') AND {compared} "
        f"AND {_period(query, 'reported_on', test.period)}"
    )


def _encounter(query: Query, criterion: Encounter) -> str:
    visit = criterion.encounter
    terms = [_period(query, "started_on", visit.period)]
    if visit.icd10 is not None:
        starts = [f"starts_with(main_icd10_code, {query.add(prefix)})" for prefix in visit.icd10]
        terms.append(f"({' OR '.join(starts)})")
    if visit.class_code is not None:
        terms.append(f"class_code IN {query.add(visit.class_code)}")
    return (
        f"SELECT person_token FROM served.gold.fct_encounter WHERE {' AND '.join(terms)} "
        f"GROUP BY person_token HAVING count(*) >= {query.add(visit.at_least)}"
    )


def _drug(query: Query, criterion: Drug) -> str:
    """Prescribed items lie in silver alone; the crosswalk says whose they are."""
    item = criterion.drug
    if not visible.is_there("silver/prescription_item") or not visible.is_there("silver/person_identifier"):
        return "SELECT NULL::VARCHAR AS person_token WHERE false"
    if item.code is not None:
        ways = [f"starts_with(d.drug_code, {query.add(prefix)})" for prefix in item.code]
    else:
        ways = [f"contains(d.drug_name, {query.add(text)})" for text in item.name or []]
    day = "timezone('Asia/Shanghai', d.rx_at)::DATE"
    return (
        f"SELECT m.person_token FROM {visible.scan('silver/prescription_item')} AS d JOIN "
        f"(SELECT org_code, identifier_value, min(person_token) AS person_token "
        f"FROM {visible.scan('silver/person_identifier')} WHERE identifier_type = 'MR' AND valid_to IS NULL "
        f"AND source_system = 'his' GROUP BY ALL) AS m "
        f"ON m.org_code = d.org_code AND m.identifier_value = d.patient_local_id "
        f"WHERE NOT coalesce(d.is_deleted, false) AND ({' OR '.join(ways)}) AND {_period(query, day, item.period)} "
        f"GROUP BY m.person_token HAVING count(*) >= {query.add(item.at_least)}"
    )


def _criterion(query: Query, criterion: Criterion) -> str:
    """A criterion as a condition on ``p``, a resident. A person without a token fulfils none."""
    if isinstance(criterion, Combined):
        if criterion.none is not None:
            return f"NOT ({' OR '.join(_criterion(query, c) for c in criterion.none)})"
        word, parts = (" AND ", criterion.all) if criterion.all is not None else (" OR ", criterion.any or [])
        return f"({word.join(_criterion(query, c) for c in parts)})"
    if isinstance(criterion, Managed):
        kind, inner = "managed", _managed(query, criterion)
    elif isinstance(criterion, Lab):
        kind, inner = "lab", _lab(query, criterion)
    elif isinstance(criterion, Drug):
        kind, inner = "drug", _drug(query, criterion)
    else:
        kind, inner = "encounter", _encounter(query, criterion)
    query.products.add(PRODUCT_OF[kind])
    # EXISTS and not IN: one result without a token must not make every comparison unknown
    return f"EXISTS (FROM ({inner}) AS x WHERE x.person_token = p.person_token)"


def _population(query: Query, definition: Definition) -> str:
    people = definition.population
    terms = ["NOT p.is_deceased"] if people.alive else ["true"]
    if people.age is not None and people.age.min is not None:
        terms.append(f"p.age_years >= {query.add(people.age.min)}")
    if people.age is not None and people.age.max is not None:
        terms.append(f"p.age_years <= {query.add(people.age.max)}")
    if people.sex is not None:
        terms.append(f"p.sex_code IN {query.add(people.sex)}")
    if people.county is not None:
        terms.append(f"p.county_code IN {query.add(people.county)}")
    if people.org is not None:
        terms.append(f"p.managing_org_code IN {query.add(below(people.org))}")
    if people.org_level is not None:
        terms.append(f"o.org_level_code IN {query.add(people.org_level)}")
    return " AND ".join(terms)


def axis(code: str, people: Population) -> Axis:
    """A dimension with every value that the population allows. Residents whose value is none of them (sex or birth
    date unknown) are not in the table: a place that everybody knows to be empty would protect nothing beside it.
    """
    if code == "age_band":
        low, high = (people.age.min or 0, people.age.max) if people.age else (0, None)
        bands = [
            n for n in range(10) if n >= min(low, 90) // 10 and (high is None or n <= min(high, 90) // 10)
        ]
        labels = ["90岁及以上" if n == 9 else f"{10 * n}–{10 * n + 9}岁" for n in bands]
        # DuckDB's least() passes over a null: without the CASE an unknown age would be 90 and over
        sql = "CASE WHEN p.age_years IS NOT NULL THEN least(p.age_years // 10, 9)::VARCHAR END"
        return Axis(code, "年龄段", sql, [str(n) for n in bands], labels)
    if code == "sex":
        allowed = {
            v: label for v, label in (("1", "男"), ("2", "女")) if people.sex is None or v in people.sex
        }
        return Axis(code, "性别", "p.sex_code", list(allowed), list(allowed.values()))
    if code in ("diabetes", "hypertension"):
        flag, name = ("has_dm_card", "糖尿病") if code == "diabetes" else ("has_htn_card", "高血压")
        return Axis(
            code, f"{name}在管", f"CASE WHEN p.{flag} THEN '1' ELSE '0' END", ["1", "0"], ["是", "否"]
        )
    if code == "county":
        return _register_axis(code, "居住区县", "p.county_code", _counties(), people.county, "其他区县")
    scope = below(people.org) if people.org is not None else None
    return _register_axis(code, "管理中心", "o.managing_org_code", _centres(), scope, "其他或未建档")


def _register_axis(
    code: str, label_zh: str, column: str, register: dict[str, str], scope: list[str] | None, other_zh: str
) -> Axis:
    """A dimension over one of our registers; without a scope, whoever is in none of its entries is one more group."""
    kept = {value: name for value, name in register.items() if scope is None or value in scope}
    listed = ", ".join("'" + value.replace("'", "''") + "'" for value in kept) or "NULL"
    if scope is None:
        sql = f"CASE WHEN {column} IN ({listed}) THEN {column} ELSE '' END"
        return Axis(code, label_zh, sql, [*kept, ""], [*kept.values(), other_zh])
    return Axis(code, label_zh, column, list(kept), list(kept.values()))


def _centres() -> dict[str, str]:
    return {
        r["org_code"]: r["org_short_name"] for r in registry.orgs().to_pylist() if r["org_level_code"] == "1"
    }


def _counties() -> dict[str, str]:
    with (settings().seeds_dir / "region.csv").open(encoding="utf-8") as file:
        return {r["region_code"]: r["region_name"] for r in csv.DictReader(file) if r["level"] == "county"}


def compile_definition(definition: Definition, data_date: date) -> tuple[str, Query, list[Axis]]:
    """SQL that gives one row per group with ``persons``, its parameters, and the dimensions."""
    query = Query(data_date)
    axes = [axis(code, definition.population) for code in definition.group_by]
    where = f"{_population(query, definition)} AND {_criterion(query, definition.where)}"
    where += "".join(f" AND {a.sql} IN {query.add(a.values)}" for a in axes)
    groups = "".join(f"{a.sql} AS g{n}, " for n, a in enumerate(axes))
    sql = (
        f"SELECT {groups}count(DISTINCT p.person_token) AS persons FROM served.gold.dim_person AS p "
        f"LEFT JOIN served.gold.dim_org AS o ON p.managing_org_code = o.org_code WHERE {where}"
    )
    if axes:
        sql += " GROUP BY " + ", ".join(f"g{n}" for n in range(len(axes)))
    return sql, query, axes


def population_sql(query: Query, definition: Definition) -> str:
    """Who is looked at, as a condition on ``p`` and ``o``, dimensions that are grouped by included."""
    axes = [axis(code, definition.population) for code in definition.group_by]
    return _population(query, definition) + "".join(f" AND {a.sql} IN {query.add(a.values)}" for a in axes)


def steps(query: Query, definition: Definition) -> list[tuple[Criterion, str]]:
    """The criteria one after another, as an attrition table takes them, each as a condition on ``p``."""
    parts: list[Criterion] = (
        list(definition.where.all) if definition.where.all is not None else [definition.where]
    )
    return [(part, _criterion(query, part)) for part in parts]
