"""The golden record of each person, computed anew from all of its records; it is never edited.

Which record gives which value is data (``survivorship.yaml``), and each value says whose it is (``value_source``). A death
is believed from any archive, and from the death register when id and name or birth date agree.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import yaml

#: Field -> where its value comes from, of ``record`` (r) as standardised, else of ``source_record`` (s) as given.
FIELDS: dict[str, tuple[str, ...]] = {
    "name": ("r.nm", "s.name"),
    "sex_code": ("r.sex", "s.sex_code"),
    "birth_date": (
        "CASE WHEN r.id_own AND length(r.idno) = 18 THEN id_birth_date(r.idno) ELSE r.birth_day END",
    ),
    "id_no": ("CASE WHEN r.id_own THEN r.idno END",),
    "phone": ("r.phone",),
    "addr_detail": ("s.addr_detail",),
}
#: What an order is made of: an integer, smaller first, and how many values it may have. Packed into one number a record's
#: place needs no sorting (a quarter of the time of windows).
CRITERIA = {
    "whole_name": ("CASE WHEN r.nm IS NULL THEN 2 WHEN contains(r.nm, '*') THEN 1 ELSE 0 END", 4),
    "trusted_id": ("(NOT r.id_own)::INTEGER", 2),
    "insurance_number": ("(r.insurance IS NULL)::INTEGER", 2),
    "source_rank": ("CASE s.source_system {sources} ELSE 99 END", 100),
    "newest": (f"coalesce({2**62} - epoch_us(s.updated_at), {2**63 - 1})", 2**63),
}
_RECORDS = 2**31
_LAST = f"{2**120}::HUGEINT"


@lru_cache(maxsize=1)
def _rules() -> list[dict[str, Any]]:
    path = Path(__file__).with_name("survivorship.yaml")
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text("utf-8"))
    return sorted(found, key=lambda rule: str(rule["valid_from"]))


def rules(on: date | None = None) -> dict[str, Any]:
    """The survivorship rules in force on a date (before the first: the first), the newest without one."""
    begun = [r for r in _rules() if on is None or r["valid_from"] <= on]
    return (begun or _rules()[:1])[-1]


def _order(criteria: list[str], ranks: dict[str, int]) -> str:
    """SQL of a record's place: the criteria in turn, then the record's number, so that no two are equal.

    All criteria together stay below 2**127, the largest HUGEINT.
    """
    sources = " ".join(f"WHEN '{system}' THEN {rank}" for system, rank in ranks.items())
    place = "0::HUGEINT"
    for text, size in (CRITERIA[c] for c in criteria):
        place = f"({place} * {size} + {text.format(sources=sources)})"
    return f"{place} * {_RECORDS} + s.rec_no"


def build_person(connection: duckdb.DuckDBPyConnection, on: date | None = None) -> None:
    """Make ``person`` (the new ``silver/person``) from ``now``, ``record``, ``source_record`` and ``death``.

    ``on``: the date whose rules count. ``value_records`` has the keys ``system/institution/number`` of the records that
    gave a value, ``value_source`` each value's place among them (from 1), null where there is no value: the same key six
    times would be a third of the table.
    """
    rule = rules(on)
    ways = {field: _order(rule["fields"][field]["order"], rule["source_rank"]) for field in FIELDS}
    # two persons of three have one record: theirs are copied, which is a tenth of the work of choosing
    connection.execute(
        """CREATE OR REPLACE TABLE member AS
        SELECT n.rec_no, n.empi_id, n.person_token, n.cluster_no, l.is_lone FROM now n
        JOIN (SELECT cluster_no, count(*) = 1 AS is_lone FROM now GROUP BY cluster_no) l USING (cluster_no)"""
    )
    columns = ", ".join(
        ["empi_id", "person_token", *FIELDS, "region_code", "is_dead AS is_deceased", "death_date"]
    )
    made = f"SELECT {columns}, record_count, has_trusted_id, value_source, value_records FROM ({{}})"
    connection.execute(f"CREATE OR REPLACE TABLE person AS {made.format(_lone())} LIMIT 0")
    # some hundred thousand persons at once: what is looked up for them stays in memory, whatever the city's size
    last = int(connection.execute("SELECT coalesce(max(rec_no), 0) FROM member").fetchall()[0][0])
    for first in range(0, last + 1, _SLICE):
        for rows in (_lone(first), _chosen(ways, first)):
            connection.execute(f"INSERT INTO person BY NAME {made.format(rows)}")
    connection.execute(
        """UPDATE person SET is_deceased = true, death_date = d.died_on
        FROM (SELECT g.empi_id, min(d.died_on) AS died_on FROM person g JOIN death d ON id_18(id_clean(d.id_no)) = g.id_no
              WHERE d.name = g.name OR d.birth_date = g.birth_date GROUP BY g.empi_id) d
        WHERE person.empi_id = d.empi_id AND d.died_on IS NOT NULL"""
    )


#: Records whose persons are made at once.
_SLICE = 1_000_000


def _from(column: str, first: int, *, is_lone: bool) -> str:
    """FROM text of members in a slice: ``column`` (a record's number, or its person's) from ``first`` on."""
    within = f"{{}}.{column} >= {first} AND {{}}.{column} < {first + _SLICE}"
    sides = dict.fromkeys("rs", "")
    if is_lone:  # the slice is one of the records too
        sides = {a: f"WHERE {within.format(a, a)}" for a in "rs"}
    return f"""FROM (FROM member m WHERE {"" if is_lone else "NOT "}m.is_lone AND {within.format("m", "m")}) n
        JOIN (FROM record r {sides["r"]}) r USING (rec_no) JOIN (FROM source_record s {sides["s"]}) s USING (rec_no)"""


_RECORD = "concat_ws('/', s.source_system, s.org_code, s.identifier_value)"


def _value(field: str) -> str:
    return f"coalesce({', '.join(FIELDS[field])})"


def _lone(first: int = 0) -> str:
    """SELECT text of persons of one record, of the slice that begins with ``first``."""
    values = ", ".join(f"{_value(field)} AS {field}" for field in FIELDS)
    sources = ", ".join(f"{f} := CASE WHEN {_value(f)} IS NOT NULL THEN 1::TINYINT END" for f in FIELDS)
    return f"""
        SELECT n.empi_id, n.person_token, {values}, r.region_code, coalesce(s.is_dead, false) AS is_dead, s.death_date,
               1::BIGINT AS record_count, r.id_own AS has_trusted_id, struct_pack({sources}) AS value_source,
               [{_RECORD}] AS value_records
        {_from("rec_no", first, is_lone=True)}"""


def _chosen(ways: dict[str, str], first: int) -> str:
    """SELECT text of persons of several records; ``ways``: field -> place of a record, the smallest wins."""
    place = {order: f"place_{i}" for i, order in enumerate(dict.fromkeys(ways.values()))}
    newest = place.setdefault(_order(["newest"], {}), "newest")
    given, firsts = [], []
    for field, texts in FIELDS.items():
        given.append(f"{_value(field)} AS {field}")
        by = place[ways[field]]
        if len(texts) > 1:  # what is only there as it was given comes after everything standardised
            given.append(f"CASE WHEN {texts[0]} IS NULL THEN {_LAST} ELSE 0 END AS {field}_last")
            by = f"{by} + {field}_last"
        firsts.append(f"arg_min({field}, {by}) AS {field}")
        firsts.append(f"arg_min(record_key, {by}) FILTER ({field} IS NOT NULL) AS {field}_from")
    froms = ", ".join(f"{field}_from" for field in FIELDS)
    sources = ", ".join(f"{field} := list_position(value_records, {field}_from)::TINYINT" for field in FIELDS)
    return f"""
        SELECT * EXCLUDE ({froms}), list_sort(list_distinct([{froms}])) AS value_records,
               struct_pack({sources}) AS value_source
        FROM (
            SELECT any_value(empi_id) AS empi_id, any_value(person_token) AS person_token, {", ".join(firsts)},
                   arg_min(region_code, {newest}) AS region_code, bool_or(coalesce(is_dead, false)) AS is_dead,
                   arg_min(death_date, {newest}) AS death_date, count(*) AS record_count,
                   bool_or(id_own) AS has_trusted_id
            FROM (
                SELECT n.cluster_no, n.empi_id, n.person_token, {", ".join(given)},
                       r.id_own, r.region_code, s.is_dead, s.death_date, {_RECORD} AS record_key,
                       {", ".join(f"{text} AS {name}" for text, name in place.items())}
                {_from("cluster_no", first, is_lone=False)})
            GROUP BY cluster_no)"""
