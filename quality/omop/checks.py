"""From the model's fields to checks: each one a population and a condition that its rows must not meet, as SQL text.

In a row query the table stands as ``t``; ``person`` as ``p`` and ``death`` as ``d`` are joined where they are asked for.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

from quality.compile import day, name, text

_HERE = Path(__file__).parent

#: Days after death on which something may still be written down; days around a visit on which its events may lie.
DEATH_DAYS, VISIT_DAYS = 60, 7

_PERSON = " INNER JOIN person AS p ON p.person_id = t.person_id"
_DEATH = " INNER JOIN (SELECT person_id, min(death_date) AS death_date FROM death GROUP BY ALL) AS d ON d.person_id = t.person_id"
_VISIT = " INNER JOIN visit_occurrence AS v ON v.visit_occurrence_id = t.visit_occurrence_id"
_BORN = (
    "coalesce(p.birth_datetime::DATE, try(make_date(p.year_of_birth::BIGINT, coalesce(p.month_of_birth, 1)::BIGINT, "
    "coalesce(p.day_of_birth, 1)::BIGINT)))"
)
#: DuckDB's names of the types that a field of the model may have; what is missing is made of the first.
TYPES = {
    "integer": ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
    "number": ("DECIMAL", "DOUBLE", "FLOAT", "INTEGER", "BIGINT"),
    "date": ("DATE",),
    "datetime": ("TIMESTAMP",),
    "text": ("VARCHAR",),
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A field of the model; empty texts mean that it has no such property."""

    table: str
    field: str
    type: str
    required: str
    key: str
    references: str
    domain: str
    concept_class: str
    standard: str
    completeness: str
    maps_to: str
    low: str
    high: str
    after_birth: str
    before_death: str
    ends_with: str
    within_visit: str

    def has_type(self, duck_type: str) -> bool:
        return duck_type.upper().startswith(TYPES[self.type])


@dataclass(frozen=True)
class Check:
    """One check. ``rows`` and ``where``: its population; ``violated``: true where a row of it fails.

    ``needs``: tables that must be there; ``said``: an outcome that is known without a query (rows, violated).
    """

    check: str
    level: str
    table: str
    field: str = ""
    concept_id: str = ""
    rows: str = ""
    where: str = "true"
    violated: str = ""
    needs: tuple[str, ...] = ()
    said: tuple[int, int] | None = None


def _csv(file: str) -> list[dict[str, str]]:
    with (_HERE / file).open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


@lru_cache(maxsize=1)
def fields() -> tuple[Field, ...]:
    return tuple(Field(**row) for row in _csv("fields.csv"))


def thresholds() -> dict[str, dict[str, str]]:
    """What a check is called, where it stands in Kahn's framework, and the share of failing rows that it allows."""
    return {row["check"]: row for row in _csv("thresholds.csv")}


def _literal(value: str, as_of: date | None) -> str | None:
    if value == "as_of":
        return day(as_of) if as_of else None
    return f"DATE '{value}'" if value.count("-") == 2 else value


def _of_field(f: Field, as_of: date | None) -> Iterator[Check]:
    """The checks of a field that is there."""
    column, table = f"t.{name(f.field)}", f"{name(f.table)} AS t"
    given = f"{column} IS NOT NULL"

    def made(check: str, rows: str, where: str, violated: str, *needs: str) -> Check:
        return Check(check, "field", f.table, f.field, "", rows, where, violated, needs)

    if f.required:
        yield made("isRequired", table, "true", f"{column} IS NULL")
    if not f.key:
        yield made("measureValueCompleteness", table, "true", f"{column} IS NULL")
    if f.key:
        same = f"SELECT {name(f.field)} FROM {name(f.table)} GROUP BY ALL HAVING count(*) > 1"
        yield made("isPrimaryKey", table, "true", f"{column} IN ({same})")
    if f.references:
        key = "concept_id" if f.references == "concept" else f"{f.references}_id"
        known = f"SELECT {key} FROM {f.references} WHERE {key} IS NOT NULL"
        yield made("isForeignKey", table, given, f"{column} NOT IN ({known})", f.references)
    concept = f"{table} INNER JOIN concept AS c ON c.concept_id = {column}"
    if f.domain:
        yield made("fkDomain", concept, f"{column} <> 0", f"c.domain_id <> {text(f.domain)}", "concept")
    if f.concept_class:
        wrong = f"c.concept_class_id <> {text(f.concept_class)}"
        yield made("fkClass", concept, f"{column} <> 0", wrong, "concept")
    if f.standard:
        wrong = "c.standard_concept IS DISTINCT FROM 'S' OR coalesce(c.invalid_reason, '') <> ''"
        yield made("isStandardValidConcept", concept, f"{column} <> 0", wrong, "concept")
    if f.completeness:
        check = f"{f.completeness}ConceptRecordCompleteness"
        yield made(check, table, "true" if f.required else given, f"coalesce({column}, 0) = 0")
    if f.maps_to:
        values = (
            f"(SELECT {name(f.field)} AS v, max({name(f.maps_to)}) AS m FROM {name(f.table)} GROUP BY 1) AS t"
        )
        yield made("sourceValueCompleteness", values, "v IS NOT NULL", "coalesce(m, 0) = 0")
    for check, limit, sign in (("plausibleValueLow", f.low, "<"), ("plausibleValueHigh", f.high, ">")):
        if limit and (bound := _literal(limit, as_of)):
            yield made(check, table, given, f"{column} {sign} {bound}")
    yield from (made(c, table + join, where, late, need) for c, join, where, late, need in _dates(f, column))


def _dates(f: Field, column: str) -> Iterator[tuple[str, str, str, str, str]]:
    """What a field's dates are held against: (check, join, where, violated, table that it needs)."""
    given = f"{column} IS NOT NULL"
    if f.ends_with:
        end = f"t.{name(f.ends_with)}"
        yield "plausibleStartBeforeEnd", "", f"{given} AND {end} IS NOT NULL", f"{column} > {end}", f.table
    if f.after_birth:
        known = f"{given} AND {_BORN} IS NOT NULL"
        yield "plausibleAfterBirth", _PERSON, known, f"{column}::DATE < {_BORN}", "person"
    if f.before_death:
        late = f"{column}::DATE > d.death_date + INTERVAL {DEATH_DAYS} DAY"
        yield "plausibleBeforeDeath", _DEATH, given, late, "death"
        yield "plausibleDuringLife", _DEATH, given, f"{column}::DATE > d.death_date", "death"
    if f.within_visit:
        outside = (
            f"{column} < v.visit_start_date - INTERVAL {VISIT_DAYS} DAY "
            f"OR {column} > v.visit_end_date + INTERVAL {VISIT_DAYS} DAY"
        )
        yield "withinVisitDates", _VISIT, given, outside, "visit_occurrence"


#: The field that says what an event is, by table.
_CONCEPT = {
    "measurement": "measurement_concept_id",
    "condition_occurrence": "condition_concept_id",
    "procedure_occurrence": "procedure_concept_id",
}


def _of_concepts() -> Iterator[Check]:
    for row in _csv("concepts.csv"):
        table, concept_id = row["table"], row["concept_id"]
        of, where = f"{name(table)} AS t", f"t.{_CONCEPT[table]} = {concept_id}"
        number = "value_as_number"
        measured = f"{where} AND t.{number} IS NOT NULL"
        asked = [
            ("plausibleValueLow", number, of, measured, f"t.{number} < {row['low']}", row["low"]),
            ("plausibleValueHigh", number, of, measured, f"t.{number} > {row['high']}", row["high"]),
        ]
        units = row["unit_concept_ids"].replace("|", ", ")
        other = f"coalesce(t.unit_concept_id, 0) NOT IN ({units})"
        asked.append(("plausibleUnitConceptIds", "unit_concept_id", of, measured, other, units))
        gender = row["gender_concept_id"]
        wrong = f"p.gender_concept_id <> {gender}"
        asked.append(("plausibleGender", _CONCEPT[table], of + _PERSON, where, wrong, gender))
        for check, field, rows, population, violated, is_asked in asked:
            if is_asked:
                yield Check(
                    check, "concept", table, field, concept_id, rows, population, violated, ("person",)
                )


def checks(present: dict[str, dict[str, str]], as_of: date | None) -> list[Check]:
    """All checks of the model.

    Args:
        present: field -> DuckDB type, by the tables that are there.
        as_of: nothing may be dated after it; None: not asked.
    """
    made: list[Check] = []
    tables = dict.fromkeys(f.table for f in fields())
    for table in tables:
        made.append(Check("cdmTable", "table", table, said=(1, int(table not in present))))
    for f in fields():
        has = present.get(f.table)
        if has is None:
            continue
        made.append(Check("cdmField", "field", f.table, f.field, said=(1, int(f.field not in has))))
        if f.field in has:
            made.append(
                Check("cdmDatatype", "field", f.table, f.field, said=(1, int(not f.has_type(has[f.field]))))
            )
            asked = [c for c in (f.ends_with, f.maps_to) if c]
            if all(c in has for c in asked):
                made += _of_field(f, as_of)
    of_persons = [t for t in tables if t in present and "person_id" in present[t] and t != "person"]
    for table in of_persons:
        known = f"SELECT person_id FROM {name(table)}"
        made.append(Check("measurePersonCompleteness", "table", table, rows="person AS t",
                          violated=f"t.person_id NOT IN ({known})", needs=("person",)))  # fmt: skip
    if {"condition_occurrence", "condition_era"} <= set(present):
        ill = "(SELECT DISTINCT person_id FROM condition_occurrence) AS t"
        made.append(Check("measureConditionEraCompleteness", "table", "condition_era", rows=ill,
                          violated="t.person_id NOT IN (SELECT person_id FROM condition_era)"))  # fmt: skip
    made += [c for c in _of_concepts() if c.table in present and (not c.field or c.field in present[c.table])]
    return [c for c in made if all(need in present for need in c.needs)]
