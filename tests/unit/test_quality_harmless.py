"""What the SQL of a proposed rule may do: judge rows, nothing else; and every shipped rule does no more."""

from __future__ import annotations

from typing import Any

import pytest

from lake.errors import MedlakeError
from quality.authoring import harmless
from quality.rule import read


def file(condition: str = "true", sql: str = "") -> dict[str, Any]:
    queries = {"queries": {"q": {"sql": sql}}} if sql else {}
    return {"rules": [{"condition": condition}], **queries}


@pytest.mark.parametrize(
    "condition",
    [
        "1 = (select count(*) from read_text('/etc/passwd'))",
        "exists (from '/etc/passwd.csv')",
        "exists (select 1 from read_blob('/root/.ssh/id_rsa') as b where b.size > :max)",
        "getenv('HOME') = 'x'",
        "current_setting('temp_directory') like '/%'",
        "true), (select 1",
        "true) from glob('/*'), (select 1 as x",
    ],
)
def test_a_condition_that_reaches_beyond_its_row_is_refused(condition: str) -> None:
    with pytest.raises(MedlakeError) as refused:
        harmless.check(file(condition), "rule.yaml")
    assert (refused.value.code, refused.value.place) == ("E665", "rule.yaml:condition")


@pytest.mark.parametrize(
    "sql",
    [
        "select * from 'a.parquet'",
        "select * from read_csv('x')",
        "select * from main.sqlite_master",
        "select * from duckdb_settings()",
        "from query('select 1')",
        "show tables",
        "with t as (select * from glob('/*')) select * from t",
    ],
)
def test_a_query_over_files_or_the_engine_is_refused(sql: str) -> None:
    with pytest.raises(MedlakeError, match="E665"):
        harmless.check(file(sql=sql), "rule.yaml")


@pytest.mark.parametrize(
    "sql", ["copy x to 'y'", "select 1; select 2", "pragma database_list", "attach 'x'", "select from"]
)
def test_what_is_no_single_query_is_refused(sql: str) -> None:
    with pytest.raises(MedlakeError, match="E447"):
        harmless.check(file(sql=sql), "rule.yaml")


def test_every_shipped_rule_passes() -> None:
    nodes = read()
    assert sum(len(node["rules"]) for node in nodes.values()) > 250
    for name, node in nodes.items():
        harmless.check(node, name)
