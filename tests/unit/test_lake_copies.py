"""Tables written by DuckDB itself and committed by Delta: rows, types, bounds and modes are those of the Arrow way."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake import copies, duck, tables

ROWS = """SELECT range::INTEGER AS i, '张' || range AS name, DATE '2026-01-01' AS day,
    TIMESTAMPTZ '2026-01-01 08:00:00+08' AS at, {'whose': 'x', 'none': NULL::VARCHAR} AS source FROM range(100)"""


def test_what_is_written_is_what_an_arrow_stream_would_have_written(lake_home: Path) -> None:
    connection = duck.connect()
    copies.write(connection, "silver/copied", ROWS)
    tables.overwrite("silver/streamed", connection.execute(ROWS).to_arrow_table())
    copied, streamed = (tables.scan_sql(f"silver/{n}") for n in ("copied", "streamed"))
    both = f"(FROM {copied} EXCEPT FROM {streamed}) UNION ALL (FROM {streamed} EXCEPT FROM {copied})"
    assert connection.execute(both).fetchall() == []
    assert tables.column_types("silver/copied") == tables.column_types("silver/streamed")
    assert tables.row_count("silver/copied") == 100


def test_overwriting_takes_the_place_of_all_rows_and_may_bring_a_column(lake_home: Path) -> None:
    connection = duck.connect()
    first = copies.write(connection, "silver/t", "SELECT 1 AS a FROM range(5)")
    second = copies.write(connection, "silver/t", "SELECT 2 AS a, 'x' AS b FROM range(3)")
    assert connection.execute(f"SELECT DISTINCT a, b FROM {tables.scan_sql('silver/t')}").fetchall() == [
        (2, "x")
    ]
    assert tables.row_count("silver/t", first) == 5 and second > first


def test_files_of_a_copy_come_into_the_table_together_and_tell_their_bounds(lake_home: Path) -> None:
    connection = duck.connect()
    copy = copies.Copy(connection, "silver/t")
    assert copy.add("SELECT 'b' || range AS k FROM range(10)", bounds=("k",)) == 10
    assert copy.add("SELECT 'm' || range AS k FROM range(10)", bounds=("k",)) == 10
    assert not tables.exists("silver/t")
    copy.commit("overwrite")
    actions = tables.open_table("silver/t").get_add_actions(flatten=True)
    assert sorted(zip(*(actions.column(c).to_pylist() for c in ("min.k", "max.k")), strict=True)) == [
        ("b0", "b9"),
        ("m0", "m9"),
    ]
    merged = connection.execute("SELECT 'b3' AS k UNION ALL SELECT 'z'").to_arrow_table()
    tables.merge("silver/t", merged, key=["k"])
    assert tables.row_count("silver/t") == 21


def test_appending_adds(lake_home: Path) -> None:
    connection = duck.connect()
    copies.write(connection, "silver/t", "SELECT 1 AS a")
    copies.write(connection, "silver/t", "SELECT 2 AS a", "append")
    assert connection.execute(f"SELECT a FROM {tables.scan_sql('silver/t')} ORDER BY 1").fetchall() == [
        (1,),
        (2,),
    ]


def test_no_rows_are_a_table_with_columns(lake_home: Path) -> None:
    connection = duck.connect()
    copies.write(connection, "silver/t", "SELECT 1 AS a, 'x' AS b WHERE false")
    assert tables.columns("silver/t") == ("a", "b") and tables.row_count("silver/t") == 0


def test_storage_that_fails_once_is_tried_again(lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lake import kill

    failures = iter([OSError("gone for a moment")])

    def storage(when: str, name: str) -> None:
        if when == "before" and (error := next(failures, None)):
            raise error

    connection = duck.connect()
    copies.write(connection, "silver/t", "SELECT 1 AS a")
    monkeypatch.setattr(kill, "storage", storage)
    copies.write(connection, "silver/t", "SELECT 2 AS a")
    assert connection.execute(f"SELECT a FROM {tables.scan_sql('silver/t')}").fetchall() == [(2,)]


def test_a_commit_may_take_files_out_while_it_brings_others(lake_home: Path) -> None:
    connection = duck.connect()
    first = copies.Copy(connection, "silver/t")
    for letter in "bm":
        first.add(f"SELECT '{letter}' || range AS k FROM range(10)", bounds=("k",))
    before = first.commit("overwrite")
    bounds = tables.bounds("silver/t", "k").to_pylist()
    (of_b,) = (row["path"] for row in bounds if row["low"] <= "b3" <= row["high"])
    second = copies.Copy(connection, "silver/t")
    second.add("SELECT 'b0' AS k")
    second.without([of_b])
    after = second.commit("append")
    rows = connection.execute(f"SELECT k FROM {tables.scan_sql('silver/t')} WHERE k < 'm'").fetchall()
    assert rows == [("b0",)] and tables.row_count("silver/t") == 11 and after == before + 1
    assert tables.row_count("silver/t", before) == 20, "the older version still has them"
