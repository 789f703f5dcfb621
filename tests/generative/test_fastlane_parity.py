"""The lane judges row by row, the batch set by set: on any rows both find the same, under the same names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.fastlane import cold_chain, cold_chain_sql, lab, lab_sql, rules
from ingestion.fastlane.found import result_key
from ingestion.fastlane.text import MAP_FROM, plain, sql_macro
from tests.worklist_world import home

NOW = datetime(2026, 11, 18, 2, 0, tzinfo=UTC)
_ARROW = {
    "VARCHAR": pa.string(),
    "DOUBLE": pa.float64(),
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
}
OWN_LIMITS = """K_H001,potassium,血钾,2823-3,血钾|K,mmol/L,2.5,7.5,,29,,,,,H001,2026-01-01,,0,院定,
K_ICU,potassium,血钾,2823-3,血钾,mmol/L,2.0,8.0,,0,,,ICU,,,2026-01-01,2026-11-17,0,院定,
WBC_HEMA,leukocytes,白细胞,6690-2,白细胞,10*9/L,0.5,100,,29,,1,HEMA,,,2026-01-01,,0,院定,
"""
OWN_TESTS = "HIV_OWN,hiv,HIV初筛,0602,hiv,,due,0,1,H001,2026-11-18,,K,\n"


@pytest.fixture(scope="module", autouse=True)
def site() -> Iterator[None]:
    """A site with rules of its own beside the group's."""
    with home(Path(mkdtemp()) / "var") as folder:
        (folder / "parameters").mkdir(parents=True)
        for name, lines in (("critical_values.csv", OWN_LIMITS), ("infectious_tests.csv", OWN_TESTS)):
            header = (Path(rules.__file__).parent / "parameters" / name).read_text("utf-8").splitlines()[0]
            (folder / "parameters" / name).write_text(f"{header}\n{lines}")
        yield
    rules._load.cache_clear()
    lab._tests.cache_clear()


def connection(name: str, rows: list[dict[str, Any]], columns: dict[str, str]) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(config={"threads": 1})
    con.execute("SET TimeZone = 'UTC'")
    schema = pa.schema([(n, _ARROW[t]) for n, t in columns.items()])
    con.register(name, pa.Table.from_pylist([{c: r.get(c) for c in columns} for r in rows], schema))
    return con


ITEMS = [
    ("血钾", "2823-3"), ("血钾", ""), ("K", ""), ("白细胞", "6690-2"), ("WBC", ""), ("葡萄糖", "14749-6"), ("葡萄糖", ""),
    ("肌酐", "14682-9"), ("淀粉酶", ""), ("PaCO2", "2019-8"), ("pH", "2744-1"), ("血培养", ""), ("HIV Ab", ""),
    ("HIV抗体确证", ""), ("ＴＰＰＡ", ""), ("乙肝表面抗原(HBsAg)", ""), ("总胆红素", "14631-6"), ("不认识", "1-1"), ("", ""),
]  # fmt: skip
TEXTS = [
    "阳性", "弱阳性", "阴性", "（＋）", "(-)", "±", "反应性", "非反应性", "Reactive", "NON-REACTIVE", "待确证", "1:8", "未检出",
    "革兰阴性杆菌", "无细菌生长", "检出 大肠埃希菌", "溶血", "-", "", " ", "+", "≤2.0", "＞ 1000", "<0.1", ">=6.2", "7.1↑", "1e1",
]  # fmt: skip
numbers = st.one_of(
    st.sampled_from([2.8, 6.2, 7.5, 2.5, 8.0, 0.5, 30.0, 650.0, 22.0, 24.8, 16.7, 340.0, 375.0, 2.66, 7.2]),
    st.floats(-5, 1500, allow_nan=False).map(lambda v: round(v, 2)),
)
UNITS = [
    "mmol/L",
    "umol/L",
    "μmol/L",
    "10^9/L",
    "10*9/L",
    "10*3/uL",
    "U/L",
    "kPa",
    "mmHg",
    "",
    "pH",
    "mg/dL",
    None,
]


@st.composite
def results(draw: st.DrawFn) -> dict[str, Any]:
    """One typed result as silver holds it."""
    item = draw(st.sampled_from(ITEMS))
    number = draw(st.one_of(st.none(), numbers))
    text = draw(st.one_of(st.sampled_from(TEXTS), numbers.map(str)))
    at = NOW + timedelta(hours=draw(st.sampled_from([-40, -11, -10, -9, 0, 5])))
    return {
        "org_code": draw(st.sampled_from(["H001", "C201"])),
        "item_code": draw(st.sampled_from(["A", "B", ""])),
        "item_name": item[0],
        "loinc_code": item[1],
        "value_text": text,
        "value_num": number,
        "comparator": draw(st.sampled_from([None, None, "<", ">=", "≤"])) if number is not None else None,
        "unit": draw(st.sampled_from(UNITS)),
        "ref_high": draw(st.sampled_from([None, 1.0, 125.0])),
        "abnormal_flag": draw(st.sampled_from([None, None, "N", "H", "HH", "LL", "A"])),
        "is_critical": draw(st.sampled_from([None, None, False, True])),
        "status_code": draw(st.sampled_from([None, "F", "C", "X"])),
        "result_at": draw(st.sampled_from([None, at])),
        "received_at": NOW,
        "encounter_id": draw(st.sampled_from([None, "E1"])),
        "dept_code": draw(st.sampled_from([None, "ICU", "HEMA", "dialysis"])),
        "birth_date": draw(
            st.sampled_from(
                [None, date(1958, 3, 12), date(2026, 11, 10), date(2026, 10, 20), date(2030, 1, 1)]
            )
        ),
        "sex_code": draw(st.sampled_from([None, "1", "2"])),
        "panel_name": draw(st.sampled_from([None, "生化", "尿常规", "ＢＬＯＯＤ"])),
    }


def as_received(row: dict[str, Any]) -> dict[str, str | None]:
    """The same result as a receiver gets it: text."""
    told = {k: None if v is None else str(v) for k, v in row.items()}
    told["observed_at"] = row["result_at"].isoformat() if row["result_at"] else None
    return told


@given(st.lists(results(), min_size=1, max_size=45))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_laboratory_results(rows: list[dict[str, Any]]) -> None:
    known = rules.rules()
    for number, row in enumerate(rows):
        row |= {"report_id": f"R{number}", "seq": str(number)}
    by_row = [
        (result_key(r), r.rule_id, r.at, r.kind, r.is_restricted)
        for row in rows
        for r in lab.judge(as_received(row), row["org_code"], NOW, known)
    ]
    with connection("lab_rows", rows, lab_sql.COLUMNS) as con:
        by_set = [(result_key(r), r.rule_id, r.at, r.kind, r.is_restricted) for r in lab_sql.find(con, known)]
    assert sorted(by_row) == sorted(by_set)


@given(
    st.lists(st.text(st.sampled_from(MAP_FROM + "血钾abz09.é≤<>（）"), max_size=8), min_size=1, max_size=20)
)
@settings(max_examples=60, deadline=None)
def test_texts_are_read_alike(texts: list[str]) -> None:
    with duckdb.connect() as con:
        con.execute(sql_macro())
        told = pa.table({"x": pa.array(texts, pa.string())})
        con.register("t", told)
        assert [r[0] for r in con.execute("SELECT plain(x) FROM t").fetchall()] == [plain(t) for t in texts]


@st.composite
def sensors(draw: st.DrawFn) -> list[dict[str, Any]]:
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from([20, 60, 61, 120, 299, 300]),
                st.sampled_from([1.9, 2.0, 5.0, 5.0, 8.0, 8.1, 9.0, 9.0, None]),
                st.sampled_from(["good", "good", "good", "bad"]),
            ),
            min_size=1,
            max_size=30,
        )
    )
    sensor, kind = draw(st.sampled_from(["S1", "S2"])), draw(st.sampled_from([None, "fridge", "freezer"]))
    skew = draw(st.sampled_from([timedelta(), timedelta(minutes=-8), timedelta(days=400)]))
    at, made = NOW - timedelta(hours=3), []
    for seq, (seconds, temp, quality) in enumerate(steps):
        at += timedelta(seconds=seconds)
        made.append(
            {
                "org_code": "C201", "sensor_id": sensor, "seq": seq, "device_at": at + skew, "temp_c": temp,
                "received_at": at, "quality_code": quality, "location_kind_code": kind,
            }
        )  # fmt: skip
    return made


@given(sensors())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_cold_chain_episodes(rows: list[dict[str, Any]]) -> None:
    known = rules.rules()
    parsed = [
        cold_chain.parse(
            {
                k: None if v is None else v.isoformat() if isinstance(v, datetime) else str(v)
                for k, v in r.items()
            },
            r["received_at"],
            known,
        )
        for r in rows
    ]
    readings = sorted({p[1] for p in parsed if p})
    _, by_row = cold_chain.fold(known, "C201", rows[0]["sensor_id"], None, readings)
    with connection("cold_rows", rows, cold_chain_sql.COLUMNS) as con:
        by_set = cold_chain_sql.find(con, known)
    assert by_row == by_set
