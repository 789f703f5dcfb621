"""The published file under many readers at once, locked, and swapped under them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from lake.settings import settings
from portal import serving


@pytest.fixture
def publish(lake_home: Path) -> Callable[[str, int], None]:
    def put(name: str, value: int) -> None:
        folder = settings().folder("serving")
        with duckdb.connect(str(folder / f"{name}.duckdb")) as made:
            made.execute(f"CREATE TABLE t AS SELECT {value} AS a, TIMESTAMPTZ '2026-11-20 00:00:00Z' AS at")
        draft = folder / "next"
        draft.symlink_to(f"{name}.duckdb")
        draft.replace(folder / "serving.duckdb")

    return put


def test_many_readers_at_once_all_get_an_answer(publish: Callable[[str, int], None]) -> None:
    publish("serving_1", 1)
    with ThreadPoolExecutor(20) as pool:
        found = list(
            pool.map(lambda _: serving.rows("SELECT a, extract('hour' FROM t.at) AS h FROM t"), range(200))
        )
    assert found == [[{"a": 1, "h": 0}]] * 200  # and in UTC, whoever opened it


def test_a_publication_shows_at_once(publish: Callable[[str, int], None]) -> None:
    publish("serving_1", 1)
    assert serving.rows("SELECT a FROM t") == [{"a": 1}]
    publish("serving_2", 2)
    assert serving.rows("SELECT a FROM t") == [{"a": 2}]


@pytest.mark.parametrize(
    "sql",
    [
        "SET threads = 8",
        "SELECT * FROM read_csv('/etc/passwd')",
        "CREATE TABLE x AS SELECT 1",
        "ATTACH 'x.db'",
    ],
)
def test_a_query_reaches_nothing_but_the_file(publish: Callable[[str, int], None], sql: str) -> None:
    publish("serving_1", 1)
    with pytest.raises(duckdb.Error):
        serving.rows(sql)
