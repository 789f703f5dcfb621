"""Entry rules at a node say what the quality engine's SQL says: DuckDB is the oracle, on random records."""

from __future__ import annotations

import csv
import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.edge import entry_eval
from ingestion.edge.entry_sql import NotPortable, compiled, entry_rules
from lake.contracts import contracts, table_contract
from lake.settings import settings as settings_of
from quality import compile as sql
from quality.prepare import _MACROS
from quality.rule import rulebook

AS_OF = date(2026, 11, 18)
RULES, LEFT = entry_rules()
TABLES = sorted({r["table"] for r in RULES})
_IDS = [
    "429701195803121234",
    "11010519491231002X",
    "110105194912310021",
    "11010519491231002x",
    "4297011958",
    "",
    " 429701195803121234 ",
    "1.1E+17",
]
_ARROW = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


def _value(rng: random.Random, name: str, kind: str) -> Any:
    if rng.random() < 0.15:
        return None
    if kind == "number":
        return rng.choice([rng.uniform(0, 40), rng.uniform(40, 260), float(rng.randint(0, 300))])
    if kind == "integer":
        return rng.randint(0, 40)
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "date":
        return (
            AS_OF
            - timedelta(days=rng.choice([0, 1, 13, 40, 365, 9000, 23741, 30000]))
            + timedelta(days=rng.randint(-3, 3))
        )
    if kind == "timestamp":
        return datetime(2026, 11, rng.randint(1, 28), rng.randint(0, 23), 30, tzinfo=UTC)
    if name == "id_no":
        return rng.choice(_IDS)
    if name == "name":
        return rng.choice(["王小明", "李", "测试", "无名氏男", "阿依古丽·买买提", "Test A", " ", "张3"])
    if name == "phone":
        return rng.choice(["13800138000", "0571-12345678", "12345", "138 0013 8000", ""])
    return rng.choice(["0", "1", "2", "3", "4", "9", "01", "active", "elder", "+", "-", "正常"])


@pytest.fixture(scope="module")
def oracle() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(_MACROS.read_text("utf-8"))
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def names(system: str, code: str) -> str:
    """A code's Chinese name, as the engine finds it; the code itself if it has none."""
    with (settings_of().seeds_dir / "codes" / f"{system}.csv").open(encoding="utf-8") as file:
        return next((r["name_zh"] for r in csv.DictReader(file) if r["code"] == code), code)


def _flags(
    connection: duckdb.DuckDBPyConnection, rules: list[dict[str, Any]], table: str
) -> list[dict[str, Any]]:
    book = {r.id: r for r in rulebook().rules}
    parts = []
    for told in rules:
        rule = book[told["id"]]
        target = rule.target(table)
        guards = [
            *sql._known(rule, target, AS_OF),
            f"({sql.bind(target.eligibility, rule.params, AS_OF, target.dated_by)})",
        ]
        condition = sql.bind(target.condition, rule.params, AS_OF, target.dated_by)
        soft = sql.soft_sql(rule, target, AS_OF)
        flag = f"CASE WHEN {' AND '.join(guards)} THEN ({condition})::BOOLEAN END"
        parts.append(
            f'{flag} AS "{rule.id}", {soft} AS "{rule.id} soft", {sql.message_sql(rule, target, AS_OF)} AS "{rule.id} says"'
        )
    found = connection.execute(f"SELECT {', '.join(parts)} FROM given")
    names = [d[0] for d in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_rules_agree_with_the_engine(oracle: duckdb.DuckDBPyConnection, table: str, seed: int) -> None:
    rng = random.Random(seed)
    kinds = {f.name: f.type for f in table_contract(table).fields} | {
        "birth_date": "date",
        "sex_code": "string",
    }
    rows = [{n: _value(rng, n, k) for n, k in kinds.items()} for _ in range(40)]
    oracle.register(
        "given", pa.table({n: pa.array([r[n] for r in rows], _ARROW[k]) for n, k in kinds.items()})
    )
    rules = entry_eval.ordered([r for r in RULES if r["table"] == table])
    for row, expected in zip(rows, _flags(oracle, [dict(r) for r in rules], table), strict=True):
        failed: dict[str, bool] = {}
        for rule in rules:
            found = entry_eval.flag(rule, row, AS_OF, failed)
            held_back = any(failed.get(n) for n in rule["needs"])
            assert found == (None if held_back else expected[rule["id"]]), (rule["id"], row)
            soft = bool(found) and entry_eval.is_soft(rule, row, AS_OF)
            failed[rule["id"]] = bool(found) and not soft
            if found:
                assert soft == expected[f"{rule['id']} soft"]
                says = entry_eval.message(rule, row, AS_OF, names)
                assert says == expected[f"{rule['id']} says"], rule["id"]


def test_every_rule_on_one_record_can_be_taken_along() -> None:
    book = rulebook()
    # what stations enter is all there; hospitals' systems ask the centre
    assert {book.rule(rule_id).domain for rule_id in LEFT} <= {"HIS", "LIS", "PAC", "IOT", "PHM", "INS"}
    tables = {table for feed in contracts().values() for table in feed.tables}
    entered = {r.id for r in book.rules if r.kind == "row" and any(t.table in tables for t in r.targets)}
    assert {r["id"] for r in RULES} == entered - set(LEFT)


@pytest.mark.parametrize(
    "text", ["count(*)", "a in (select 1)", "x.y = 1", "random()", "a ->> 'b'", "list_sum(a)"]
)
def test_what_is_not_portable_is_told(text: str) -> None:
    with pytest.raises(NotPortable):
        compiled(text)
