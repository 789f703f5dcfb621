"""Typing, units and code maps in SQL against plain Python that does the same for one value at a time."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion import typing_sql, units
from ingestion.readers import headers, layout
from lake.contracts import contract

SHANGHAI = ZoneInfo("Asia/Shanghai")
_con = duckdb.connect()
_con.execute("SET TimeZone = 'UTC'")


def _values(kind: str, texts: list[str]) -> list[Any]:
    _con.execute("CREATE OR REPLACE TEMP TABLE given (i INTEGER, x VARCHAR)")
    _con.executemany("INSERT INTO given VALUES (?, ?)", list(enumerate(texts)))
    expression = typing_sql.typed(kind, "c")
    query = f"SELECT {expression} FROM (SELECT i, {typing_sql.cleaned('x')} AS c FROM given) ORDER BY i"
    return [row[0] for row in _con.execute(query).fetchall()]


def _number(text: str) -> float | None:
    """What a person reads: digits with at most one point, an exponent, commas where thousands end."""
    text = text.strip(" \t\u3000").translate(str.maketrans("０１２３４５６７８９．－＋，", "0123456789.-+,"))
    plain = re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,2})?", text, re.ASCII)
    grouped = re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?", text, re.ASCII)
    return float(text.replace(",", "")) if plain or grouped else None


_DIGITS = st.text(st.sampled_from("0123456789０５．.,-+eE　 "), max_size=9)


@given(st.lists(_DIGITS, min_size=1, max_size=20))
@settings(max_examples=120, deadline=None)
def test_numbers_are_read_like_a_person_reads_them(texts: list[str]) -> None:
    for text, got in zip(texts, _values("number", texts), strict=True):
        assert got == _number(text), text


@given(st.integers(-(10**17), 10**17), st.sampled_from(["{}", "{}.0", "{}.000", " {} ", "{:,}"]))
@settings(max_examples=120, deadline=None)
def test_integers_survive_their_spellings(value: int, layout_: str) -> None:
    text = layout_.format(value)
    exact = "." not in text and "," not in text
    (got,) = _values("integer", [text])
    if exact or abs(value) < 2**53:
        assert got == value
    else:
        assert got is None or abs(got - value) <= 16  # through a double, as the sheet had it


_DAYS = st.dates(date(1900, 1, 1), date(2099, 12, 31))
_LAYOUTS = [
    "{0:%Y-%m-%d}",
    "{0:%Y/%m/%d}",
    "{0:%Y%m%d}",
    "{0:%Y.%m.%d}",
    "{0:%Y年%m月%d日}",
    "{0.year}-{0.month}-{0.day}",
]


@given(_DAYS, st.sampled_from([*_LAYOUTS, "{0.year}年{0.month}月{0.day}日", "{0:%Y-%m-%d} 08:30"]))
@settings(max_examples=150, deadline=None)
def test_dates_survive_their_layouts(day: date, layout_: str) -> None:
    assert _values("date", [layout_.format(day)]) == [day]


def _spelled(at: datetime, style: int) -> str:
    hour12, mark = (at.hour % 12) or 12, "AM" if at.hour < 12 else "PM"
    return [
        f"{at:%Y-%m-%d %H:%M:%S}",
        f"{at:%Y/%m/%d %H:%M:%S}",
        f"{at:%Y%m%d%H%M%S}",
        f"{at:%Y%m%d %H%M%S}",
        f"{at:%Y-%m-%dT%H:%M:%S}",
        f"{at:%Y-%m-%d} {hour12}:{at:%M:%S} {mark}",
        f"{at:%Y-%m-%d} {'上午' if at.hour < 12 else '下午'}{hour12}:{at:%M:%S}",
        f"{at:%Y}年{at.month}月{at.day}日 {at.hour}时{at.minute}分{at.second}秒",
        f"{at:%Y.%m.%d} {at.hour}:{at:%M:%S}",
    ][style]


@given(st.datetimes(datetime(1900, 1, 2), datetime(2099, 12, 30)), st.integers(0, 8))
@settings(max_examples=250, deadline=None)
def test_local_times_are_shanghais_in_every_layout(at: datetime, style: int) -> None:
    at = at.replace(microsecond=0)
    local = at.replace(tzinfo=SHANGHAI)
    expected = local.astimezone(UTC)
    if expected.astimezone(SHANGHAI).replace(tzinfo=None) != at:  # an hour that summer time skipped
        return
    (got,) = _values("timestamp", [_spelled(at, style)])
    later = local.replace(fold=1).astimezone(UTC)
    assert got in (expected, later), _spelled(at, style)


@given(st.datetimes(datetime(2001, 9, 9, 2), datetime(2096, 1, 1)), st.booleans())
@settings(max_examples=100, deadline=None)
def test_epochs_are_instants(at: datetime, milliseconds: bool) -> None:
    at = at.replace(microsecond=at.microsecond // 1000 * 1000 if milliseconds else 0, tzinfo=UTC)
    count = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1 if milliseconds else 1000)
    text = str(count)
    try:
        datetime.strptime(text, "%Y%m%d%H") if len(text) == 10 else None
        if len(text) == 10 and 1900 <= int(text[:4]) < 2100:
            return  # ten digits that are a date and hour are read as that
    except ValueError:
        pass
    assert _values("timestamp", [text]) == [at]


_UNIT_LETTERS = st.text(st.sampled_from("mMgGkKlLuUμµ/∕／%％^*×· ¹³⁹0９dD斤两㎜Hh㎏℃°[]{}''"), max_size=8)


@given(st.lists(_UNIT_LETTERS, min_size=1, max_size=20))
@settings(max_examples=150, deadline=None)
def test_folding_a_unit_is_the_same_in_sql(texts: list[str]) -> None:
    _con.execute("CREATE OR REPLACE TEMP TABLE given (i INTEGER, x VARCHAR)")
    _con.executemany("INSERT INTO given VALUES (?, ?)", list(enumerate(texts)))
    found = _con.execute(f"SELECT {units.fold_sql('x')} FROM given ORDER BY i").fetchall()
    assert [f for (f,) in found] == [units.fold(t) for t in texts]


_CODES = st.sampled_from(sorted(units.units()))


@given(st.floats(0.001, 1e6), _CODES, _CODES)
@settings(max_examples=300, deadline=None)
def test_a_conversion_there_and_back_is_the_same_value(value: float, first: str, second: str) -> None:
    one, two = units.units()[first], units.units()[second]
    there, back = units.conversion(one, two), units.conversion(two, one)
    assert (there is None) == (back is None) == (one.dimension != two.dimension)
    if there and back:
        converted = value * there.scale + there.offset
        assert converted * back.scale + back.offset == pytest.approx(value, rel=1e-9, abs=1e-9)


@given(st.floats(0.01, 1e4), st.sampled_from(units.analytes()))
@settings(max_examples=100, deadline=None)
def test_mass_and_molar_concentration_of_an_analyte(value: float, analyte: units.Analyte) -> None:
    mass, molar = units.units()[analyte.mass_unit], units.units()[analyte.molar_unit]
    there, back = units.conversion(mass, molar, analyte), units.conversion(molar, mass, analyte)
    assert there and back and units.conversion(mass, molar) is None
    assert value * there.scale == pytest.approx(value * analyte.factor)
    assert value * there.scale * back.scale == pytest.approx(value)


_HTN = contract("public_health").tables["htn_visit"]
_LABELS = [f.label_zh for f in _HTN.fields]
_DECOR = st.sampled_from(["{}", " {} ", "*{}", "{}：", "{}（必填）", "{}\n"])


@given(st.permutations(range(8)), st.lists(_DECOR, min_size=8, max_size=8), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_a_header_is_found_below_any_titles_in_any_order(
    order: list[int], decor: list[str], titles: int
) -> None:
    head = [decor[i].format(_LABELS[n]) for i, n in enumerate(order)]
    rows = [["登记表", *[""] * 7]] * titles + [head, [f"数据{i}" for i in range(8)], ["x"] * 8]
    found = headers.find(rows, _HTN)
    assert found is not None and found.row == titles
    assert found.fields == {_HTN.fields[n].name: i for i, n in enumerate(order)}
    assert not found.unknown


@given(
    st.lists(
        st.sampled_from(["合计", "合 计", "本月合计：", "合计机构", "小计3", "王合计", "总计", "V1"]),
        max_size=6,
    )
)
@settings(max_examples=60, deadline=None)
def test_totals_are_told_from_records(first: list[str]) -> None:
    import numpy as np
    import pyarrow as pa

    left_out = layout.LeftOut()
    cells = [
        pa.chunked_array([pa.array(first, pa.string())]),
        pa.chunked_array([pa.array(["1"] * len(first), pa.string())]),
    ]
    cells.append(cells[1])
    keep = layout.records(cells, {}, np.arange(1, len(first) + 1), left_out)
    records = {"合计机构", "王合计", "V1"}
    assert [bool(k) for k in keep] == [f in records for f in first]
    assert left_out.count["totals"] == sum(f not in records for f in first)
