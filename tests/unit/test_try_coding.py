"""Values in many ways of writing become the platform's one; what cannot be understood is counted."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from empi.trial import coding, febrl, reading
from empi.trial.mapping import Mapping

_FIELDS = {"record_id": "id", "name": "n", "sex": "s", "birth_date": "b", "national_id": "i", "phone": "p"}


def coded(
    tmp_path: Path, columns: dict[str, Any], **options: Any
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """``source_record`` of a Parquet file of these columns (names as in ``_FIELDS``), and what was not understood."""
    rows = len(next(iter(columns.values())))
    table = pa.table({"id": pa.array(range(rows)), **columns})
    pq.write_table(table, tmp_path / "t.parquet")
    given = Mapping(columns={f: (c,) for f, c in _FIELDS.items() if c in table.column_names}, **options)
    connection = duckdb.connect()
    found, _ = reading.read(connection, tmp_path / "t.parquet", given, None)
    unread = coding.create_source_record(connection, given, found, "t.parquet")
    made = connection.execute(
        "SELECT * FROM source_record ORDER BY identifier_value::INTEGER"
    ).to_arrow_table()
    return made.to_pylist(), unread


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("1980-01-02", "1980-01-02"),
        ("1980/1/2", "1980-01-02"),
        ("1980.01.02", "1980-01-02"),
        ("1980年1月2日", "1980-01-02"),
        ("１９８０－０１－０２", "1980-01-02"),
        (" 19800102 ", "1980-01-02"),
        ("19800102.0", "1980-01-02"),
        ("19800102083000", "1980-01-02"),
        ("1980-01-02 08:30:00", "1980-01-02"),
        ("1980-01-02T08:30:00Z", "1980-01-02"),
        ("02/01/1980", "1980-01-02"),
        ("31.12.1979", "1979-12-31"),
        ("1980", "1980-01-01"),
        ("1980-07", "1980-07-01"),
        ("198007", "1980-07-01"),
        ("1980年7月", "1980-07-01"),
        ("19800000", "1980-01-01"),
        ("19800700", "1980-07-01"),
        ("29222", "1980-01-02"),
        ("1980-02-30", None),
        ("不详", None),
        ("800102", None),
        ("13912345678", None),
    ],
)
def test_birth_dates_as_text(tmp_path: Path, text: str, day: str | None) -> None:
    rows, unread = coded(tmp_path, {"b": [text]})
    assert rows[0]["birth_date"] == (dt.date.fromisoformat(day) if day else None)
    assert unread.get("birth_date", 0) == (0 if day else 1)


def test_the_column_tells_whether_the_month_comes_first(tmp_path: Path) -> None:
    rows, _ = coded(tmp_path, {"b": ["03/04/1980", "12/25/1980"]})
    assert [r["birth_date"] for r in rows] == [dt.date(1980, 3, 4), dt.date(1980, 12, 25)]
    rows, _ = coded(tmp_path, {"b": ["03/04/1980", "25/12/1980"]})
    assert [r["birth_date"] for r in rows] == [dt.date(1980, 4, 3), dt.date(1980, 12, 25)]


def test_a_format_of_ones_own_comes_first(tmp_path: Path) -> None:
    rows, unread = coded(tmp_path, {"b": ["2 Jan 1980", "1980-01-03"]}, date_formats=("%d %b %Y",))
    assert [r["birth_date"] for r in rows] == [dt.date(1980, 1, 2), dt.date(1980, 1, 3)]
    assert "birth_date" not in unread


@pytest.mark.parametrize(
    "column",
    [
        pa.array([19800102, None]),
        pa.array([19800102.0, None]),
        pa.array([dt.date(1980, 1, 2), None]),
        pa.array([dt.datetime(1980, 1, 2, 8), None]),
        # midnight in Shanghai, as an instant
        pa.array([dt.datetime(1980, 1, 1, 16, tzinfo=dt.UTC), None], pa.timestamp("us", tz="UTC")),
        pa.array(["19800102", None]).dictionary_encode(),
    ],
)
def test_birth_dates_of_other_types(tmp_path: Path, column: pa.Array) -> None:
    rows, unread = coded(tmp_path, {"b": column})
    assert [r["birth_date"] for r in rows] == [dt.date(1980, 1, 2), None]
    assert unread == {"records": 2}


def test_sexes(tmp_path: Path) -> None:
    written = ["男", "女", "M", "f", "1", "2.0", "２", "Female", "0", "未知", "甲", "?", None]
    rows, unread = coded(tmp_path, {"s": written}, sex_codes={"甲": "2"})
    assert [r["sex_code"] for r in rows] == [
        "1",
        "2",
        "1",
        "2",
        "1",
        "2",
        "2",
        "2",
        None,
        None,
        "2",
        None,
        None,
    ]
    assert unread == {"records": 13, "sex": 1}


def test_the_files_own_sex_codes_win(tmp_path: Path) -> None:
    rows, _ = coded(tmp_path, {"s": [0, 1]}, sex_codes={"0": "1", "1": "2"})
    assert [r["sex_code"] for r in rows] == ["1", "2"]


@pytest.mark.parametrize(
    ("column", "text", "lost"),
    [
        (pa.array([420106198001011234]), "420106198001011234", 0),
        (pa.array([Decimal("420106198001011234")]), "420106198001011234", 0),
        (pa.array(['="420106198001011234"']), "420106198001011234", 0),
        (pa.array(["'42010619800101123X"]), "42010619800101123X", 0),
        # a double holds 15 digits: the end of an 18-digit number is gone
        (pa.array([4.20106198001011234e17]), None, 1),
        (pa.array([420106800101123.0]), "420106800101123", 0),
    ],
)
def test_ids(tmp_path: Path, column: pa.Array, text: str | None, lost: int) -> None:
    rows, unread = coded(tmp_path, {"i": column})
    assert rows[0]["id_no"] == text
    assert unread.get("national_id", 0) == lost


def test_numbers_of_another_country_identify_without_being_checkable(tmp_path: Path) -> None:
    rows, _ = coded(tmp_path, {"i": ["1804974", "6089216"]})
    assert [r["insurance_no"] for r in rows] == ["1804974", "6089216"]
    rows, _ = coded(tmp_path, {"i": ["420106198001011234", "6089216"]})
    assert [r["insurance_no"] for r in rows] == [None, None]


def test_of_several_phones_the_first(tmp_path: Path) -> None:
    rows, _ = coded(tmp_path, {"p": ["13912345678;13887654321", "139-1234-5678", "13912345678.0"]})
    assert [r["phone"] for r in rows] == ["13912345678", "139-1234-5678", "13912345678"]


def test_latin_names_lose_order_of_words_case_and_accents(tmp_path: Path) -> None:
    rows, _ = coded(tmp_path, {"n": ["José da Silva", "SILVA, JOSE DA", "O'Neil  Ann", "张 三", None]})
    assert [r["name"] for r in rows] == ["DA JOSE SILVA", "DA JOSE SILVA", "ANN NEIL O", "张 三", None]


def test_an_institution_that_registers_people_once_keeps_its_newborns_apart(tmp_path: Path) -> None:
    people = [f"王{i}" for i in range(40)]
    born = [dt.date(1980, 1, 2)] * 40
    once, _ = coded(tmp_path, {"n": people, "b": born})
    twice, _ = coded(tmp_path, {"n": [*people[:20], *people[:20]], "b": born})
    assert {r["org_code"] for r in once} == {""}
    assert len({r["org_code"] for r in twice}) == 40


@pytest.mark.parametrize(
    ("level", "sql"),
    [
        ("=", "a_l = a_r"),
        ("= b", "a_l = b_r OR b_l = a_r"),
        ("jaro_winkler 0.9", "jaro_winkler_similarity(a_l, a_r) >= 0.9"),
        ("edits 2", "damerau_levenshtein(a_l, a_r) <= 2"),
    ],
)
def test_levels_of_the_febrl_settings(level: str, sql: str) -> None:
    assert febrl.level_sql("a", level) == sql


def test_a_level_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match="sounds like"):
        febrl.level_sql("a", "sounds like")


def test_febrl_settings_speak_of_febrl_fields_only() -> None:
    given = febrl.settings()
    fields = set(given["fields"])
    assert set(given["comparisons"]) == fields
    for rules in (given["blocking"], given["training"]["passes"], given["training"]["deterministic"]):
        assert all(set(rule) <= fields for rule in rules)
    # every field is estimated by some pass that does not block on it
    assert all(any(f not in rule for rule in given["training"]["passes"]) for f in fields)
