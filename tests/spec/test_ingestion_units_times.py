"""Units, times, placeholders and damaged identifiers as behaviour of a whole row: value, error, note."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ingestion import codes, units
from ingestion.stage import Stage, scan
from ingestion.units import sql as quantities
from lake.contracts import TableContract, contract, contracts
from tests.ingestion_world import landed

DAY = date(2026, 11, 18)
HTN = contract("public_health").tables["htn_visit"]
EXAM = contract("public_health").tables["ph_exam"]
RESULT = contract("lis").tables["lab_result"]
TODAY = {"reviewer": "王审核", "reviewed_on": DAY}


def conformed(table: TableContract, rows: list[dict[str, str | None]], folder: Path) -> list[dict[str, Any]]:
    (folder / "x.csv").write_bytes(b"x")
    stage = Stage(contracts()[table.feed], [landed(folder / "x.csv", org="C201")], folder, on=DAY)
    names = [f.name for f in table.fields] + ["_extra"]
    stage.rows(
        landed(folder / "x.csv", org="C201"),
        table.name,
        pa.table({n: pa.array([r.get(n) for r in rows], pa.string()) for n in names}),
    )
    stage.finish()
    found = stage.connection.execute(f"SELECT * FROM {scan(folder, stage.parts[table.name])} ORDER BY rid")
    out: list[dict[str, Any]] = found.to_arrow_table().to_pylist()
    stage.close()
    return out


def visits(folder: Path, *values: dict[str, str | None]) -> list[dict[str, Any]]:
    base: dict[str, str | None] = {
        f.name: "x" for f in HTN.fields if (f.required or f.is_key) and f.type == "string"
    }
    base |= {"visited_on": "2026-01-05", "recorded_at": "2026-01-05 10:00:00"}
    rows = [{**base, "visit_id": f"V{i}", **v} for i, v in enumerate(values)]
    return conformed(HTN, rows, folder)


OWN_UNIT = [
    ("weight_kg", "65.5", 65.5),
    ("weight_kg", "65.5kg", 65.5),
    ("weight_kg", "65.5 公斤", 65.5),
    ("weight_kg", "131斤", 65.5),
    ("weight_kg", "131 市斤", 65.5),
    ("weight_kg", "65500 g", 65.5),
    ("height_cm", "5.1尺", 170.0),
    ("height_cm", "1.70m", 170.0),
    ("sbp_mmhg", "16kPa", 120),
    ("sbp_mmhg", "120㎜Hg", 120),
    ("drink_liang_per_day", "50克/天", 1.0),
    ("drink_liang_per_day", "1斤/日", 10.0),
    ("smoke_per_day", "1包/天", 20),
    ("weight_kg", "1，000", 1000.0),
    ("weight_kg", "６５．５", 65.5),
]


def test_a_number_with_its_own_unit_becomes_the_contracts(lake_home: Path, tmp_path: Path) -> None:
    found = visits(tmp_path, *({field: text} for field, text, _ in OWN_UNIT))
    assert [r["err"] for r in found] == [None] * len(OWN_UNIT)
    got = [r["t_" + field] for r, (field, _, _) in zip(found, OWN_UNIT, strict=True)]
    assert got == [pytest.approx(expected, rel=1e-4) for _, _, expected in OWN_UNIT]
    assert [r["r_" + f] for r, (f, _, _) in zip(found, OWN_UNIT, strict=True)] == [
        text for _, text, _ in OWN_UNIT
    ]


def test_what_measures_something_else_or_nothing_is_refused(lake_home: Path, tmp_path: Path) -> None:
    texts = ["65cm", "65.5↑", "120/80", "3+", "kg", "1,23", "sixty"]
    found = visits(tmp_path, *({"weight_kg": t} for t in texts))
    assert [r["err"] for r in found] == ["E211:weight_kg"] * len(texts)


def test_conversion_is_noted_and_plain_numbers_are_not(lake_home: Path, tmp_path: Path) -> None:
    rows = [{"weight_kg": t} for t in ("65.5", "131斤", "1,000", "/", "不详", None)]
    found = visits(tmp_path, *rows)
    assert [r["note"] for r in found] == [None, "U:weight_kg", None, "P:weight_kg", "P:weight_kg", None]
    assert [r["t_weight_kg"] for r in found] == [65.5, 65.5, 1000.0, None, None, None]


def test_the_headers_unit_counts_for_plain_numbers_and_the_cells_own_beats_it(
    lake_home: Path, tmp_path: Path
) -> None:
    extra = json.dumps({quantities.DECLARED: {"weight_kg": "斤"}}, ensure_ascii=False)
    found = visits(
        tmp_path, *({"weight_kg": t, "_extra": extra} for t in ("131", "65.5kg", "/")), {"weight_kg": "131"}
    )
    assert [r["t_weight_kg"] for r in found] == [65.5, 65.5, None, 131.0]
    assert [r["note"] for r in found] == ["U:weight_kg", "U:weight_kg", "P:weight_kg", None]


def test_glucose_in_mass_units_by_its_field(lake_home: Path, tmp_path: Path) -> None:
    row: dict[str, str | None] = {
        f.name: "x" for f in EXAM.fields if (f.required or f.is_key) and f.type == "string"
    }
    row |= {
        "exam_on": "2026-01-05",
        "recorded_at": "2026-01-05 10:00",
        "fbg_mmol_l": "126mg/dl",
        "wbc_10_9_l": "6.1×10³/μL",
    }
    found = conformed(EXAM, [row], tmp_path)[0]
    assert found["t_fbg_mmol_l"] == pytest.approx(126 * 0.0555)
    assert found["t_wbc_10_9_l"] == pytest.approx(6.1)


RESULTS: list[tuple[str | None, str | None, str | None, tuple[Any, ...]]] = [
    ("2345-7", "126", "mg/dL", (6.993, "mmol/L", "converted")),
    ("14749-6", "126", "mg/dl", (6.993, "mmol/L", "converted")),
    ("14749-6", "7.0", "mmol∕L", (7.0, "mmol/L", "same")),
    ("14682-9", "1.0", "mg/dL", (88.4, "umol/L", "converted")),
    ("14682-9", "88", "μmol/L", (88.0, "umol/L", "same")),
    ("6690-2", "6.1", "*10^9/L", (6.1, "10*9/L", "same")),
    ("6690-2", "6.1", "10³/ul", (6.1, "10*9/L", "same")),
    ("6690-2", "6100", "个/μL", (6.1, "10*9/L", "converted")),
    ("718-7", "13.5", "g/dL", (135.0, "g/L", "converted")),
    ("4544-3", "45", "%", (0.45, "L/L", "converted")),
    ("2019-8", "5.3", "kPa", (39.75, "mm[Hg]", "converted")),
    ("6301-6", "1.1", None, (1.1, "{INR}", "same")),
    ("99999-9", "6.1", "10^9/L", (6.1, "10*9/L", "no_loinc")),
    (None, "6.1", "ｍｍｏｌ／Ｌ", (6.1, "mmol/L", "no_loinc")),
    ("14749-6", "7.0", "g/天", (None, None, "other_quantity")),
    ("14749-6", "7.0", "糖单位", (None, None, "unknown_unit")),
    ("14749-6", "7.0", None, (None, None, "no_unit")),
    ("48065-7", "500", "ng/mL", (None, None, "other_quantity")),
    ("14749-6", None, "mmol/L", (None, None, None)),
]


def test_a_laboratory_result_gets_its_canonical_quantity(lake_home: Path, tmp_path: Path) -> None:
    base: dict[str, str | None] = {f.name: "1" for f in RESULT.fields if f.required or f.is_key}
    rows = [
        base | {"seq": str(i), "loinc_code": loinc, "value_num": value, "unit": unit}
        for i, (loinc, value, unit, _) in enumerate(RESULTS)
    ]
    for found, (_, _, unit, expected) in zip(conformed(RESULT, rows, tmp_path), RESULTS, strict=True):
        assert found["err"] is None
        value, ucum, rule = expected
        assert (found["t_unit_canonical"], found["t_canonical_rule"]) == (ucum, rule), expected
        assert found["t_value_canonical"] == (pytest.approx(value, rel=1e-3) if value is not None else None)
        assert found["note"] == ("X:canonical_rule" if rule in ("other_quantity", "unknown_unit") else None)
        assert found["r_unit"] == unit


def test_every_unit_of_a_contract_is_known_and_no_spelling_means_two_units() -> None:
    meant: dict[str, set[str]] = {}
    for row in units._rows("spelling.csv"):
        assert row["ucum"] in units.units(), row["spelling"]
        assert row["source"] and row["reviewer"] and row["reviewed_on"]
        meant.setdefault(units.fold(row["spelling"]), set()).add(row["ucum"])
    for code in units.units():
        meant.setdefault(units.fold(code), set()).add(code)
    assert {k: v for k, v in meant.items() if len(v) > 1} == {}
    assert "" not in units.spellings()
    fields = (f for c in contracts().values() for t in c.tables.values() for f in t.fields)
    assert {f.unit for f in fields if f.unit and units.unit_of(f.unit) is None} == set()
    lists = (units.loinc_units().values(), *((a.mass_unit, a.molar_unit) for a in units.analytes()))
    assert {u for group in lists for u in group if u not in units.units()} == set()


TIMES: list[tuple[str, datetime, str | None]] = [
    ("2026-11-18 下午 3:05", datetime(2026, 11, 18, 7, 5), "H"),
    ("2026-11-18 3:05:09 PM", datetime(2026, 11, 18, 7, 5, 9), "H"),
    ("2026/11/18 12:30 AM", datetime(2026, 11, 17, 16, 30), "H"),
    ("2026/11/18 中午12:30", datetime(2026, 11, 18, 4, 30), "H"),
    ("2026-11-18 凌晨12:10", datetime(2026, 11, 17, 16, 10), "H"),
    ("2026年11月18日 上午8点15分", datetime(2026, 11, 18, 0, 15), "H"),
    ("2026年11月18日8时", datetime(2026, 11, 18, 0, 0), None),
    ("2026-11-18 24:00", datetime(2026, 11, 18, 16, 0), None),
    ("20261118 081500", datetime(2026, 11, 18, 0, 15), None),
    ("20261118 24:00", datetime(2026, 11, 18, 16, 0), None),
    ("2026-11-18t08:15:00", datetime(2026, 11, 18, 0, 15), None),
    ("2026-11-18 08:15:00 UTC", datetime(2026, 11, 18, 8, 15), None),
    ("2026-11-18 08:15:00 Asia/Tokyo", datetime(2026, 11, 17, 23, 15), None),
    ("1795000000", datetime(2026, 11, 18, 11, 6, 40), "S"),
    ("1795000000123", datetime(2026, 11, 18, 11, 6, 40, 123000), "S"),
    ("1712010108", datetime(2024, 4, 1, 22, 21, 48), "S"),
    ("2026111808", datetime(2026, 11, 18, 0, 0), None),
    ("1988-07-01 12:00:00", datetime(1988, 7, 1, 3), "D"),
    ("1992-07-01 12:00:00", datetime(1992, 7, 1, 4), None),
]


def test_times_become_utc_and_the_rule_is_noted(lake_home: Path, tmp_path: Path) -> None:
    found = visits(tmp_path, *({"recorded_at": text} for text, _, _ in TIMES))
    got = [(r["r_recorded_at"], r["t_recorded_at"], r["note"]) for r in found]
    assert got == [(t, e.replace(tzinfo=UTC), f"{n}:recorded_at" if n else None) for t, e, n in TIMES]
    assert [r["err"] for r in found] == [None] * len(TIMES)


def test_a_time_that_can_be_read_in_two_ways_is_refused(lake_home: Path, tmp_path: Path) -> None:
    texts = [
        "2026-11-18 晚上12:00",
        "2026-11-18 13:00 AM",
        "2026-11-18 24:01",
        "11/18/2026",
        "2026118",
        "下午3点",
    ]
    found = visits(tmp_path, *({"recorded_at": t} for t in [*texts, "99999999999"]))
    assert [r["err"] for r in found] == ["E211:recorded_at"] * 7


def test_a_source_in_another_zone_is_read_by_its_own(lake_home: Path, tmp_path: Path) -> None:
    codes.accept_zone(
        "public_health", "UTC", org_code="C201", table="htn_visit", field="recorded_at", **TODAY
    )
    found = visits(
        tmp_path, {"recorded_at": "2026-11-18 08:15:00"}, {"recorded_at": "2026-11-18 08:15:00+08:00"}
    )
    assert [r["t_recorded_at"] for r in found] == [
        datetime(2026, 11, 18, 8, 15, tzinfo=UTC),
        datetime(2026, 11, 18, 0, 15, tzinfo=UTC),
    ]
    assert [r["note"] for r in found] == ["Z:recorded_at", None]


def test_a_zone_holds_within_its_days(lake_home: Path, tmp_path: Path) -> None:
    codes.accept_zone("public_health", "UTC", valid_to=date(2026, 11, 17), **TODAY)
    assert visits(tmp_path, {"recorded_at": "2026-11-18 08:15:00"})[0]["t_recorded_at"].hour == 0


def test_the_row_says_the_unit_of_its_glucose(lake_home: Path, tmp_path: Path) -> None:
    table = contract("public_health").tables["dm_visit"]
    base: dict[str, str | None] = {f.name: "1" for f in table.fields if f.required or f.is_key}
    base |= {"visited_on": "2026-01-05", "recorded_at": "2026-01-05 10:00"}
    given = [("126", "2"), ("7.0", "1"), ("7.0", None), ("126", "mg/dl"), ("7.0mmol/L", "2"), ("/", "2")]
    rows = [
        base | {"visit_id": f"V{i}", "fbg_mmol_l": v, "glucose_unit_code": u}
        for i, (v, u) in enumerate(given)
    ]
    found = conformed(table, rows, tmp_path)
    expected = [6.993, 7.0, 7.0, 6.993, 7.0, None]
    assert [r["t_fbg_mmol_l"] for r in found] == [pytest.approx(e) if e else None for e in expected]
    assert [r["note"] for r in found] == [
        *("U:fbg_mmol_l" if i in (0, 3, 4) else None for i in range(5)),
        "P:fbg_mmol_l",
    ]


@pytest.mark.parametrize(
    ("text", "silver"),
    [
        ("'429701195803120017", "429701195803120017"),
        ("13912345678.0", "13912345678"),
        ("1.3912345678E+10", "13912345678"),
        ("４２９７ｘ", "4297x"),
        ("1.2.840.113619", "1.2.840.113619"),
        ("'O'Neil", "'O'Neil"),
    ],
)
def test_identifiers_are_repaired_where_no_digit_is_lost(text: str, silver: str) -> None:
    import duckdb

    from ingestion import conform

    expression = conform.clean(HTN.field("archive_id"), "x", False)
    row = duckdb.execute(f"SELECT {expression} FROM (SELECT ?::VARCHAR AS x)", [text]).fetchone()
    assert row == (silver,)


def test_an_identifier_that_lost_digits_is_refused(lake_home: Path, tmp_path: Path) -> None:
    assert visits(tmp_path, {"archive_id": "4.29701E+17"})[0]["err"] == "E212:archive_id"


def test_a_placeholder_in_a_required_field_is_an_empty_required_field(
    lake_home: Path, tmp_path: Path
) -> None:
    assert visits(tmp_path, {"visited_on": "/"})[0]["err"] == "E210:visited_on"


def test_the_hash_does_not_change_when_the_contract_grows_at_its_end(lake_home: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from ingestion import conform

    grown = replace(HTN, fields=(*HTN.fields, replace(HTN.fields[4], name="new_text", physical_name="NEW")))
    row = {f.name: "x" for f in HTN.fields}

    def hashed(table: TableContract) -> str:
        import duckdb

        con = duckdb.connect()
        chunk: dict[str, Any] = {f.name: pa.array([row.get(f.name)], pa.string()) for f in table.fields}
        chunk |= {n: pa.nulls(1, pa.string()) for n in ("source_sheet", "org_code", "_extra", "_op")}
        chunk |= {
            "rid": pa.array([0], pa.int64()),
            "file_no": pa.array([0]),
            "source_line": pa.array([1], pa.int64()),
        }
        con.register("chunk", pa.table(chunk))
        con.register("files", pa.table({"file_no": [0], "org_code": ["C201"], "source_file": ["a"]}))
        conform.register(con, [], DAY)
        found = con.execute(
            f"SELECT raw_hash FROM ({conform.statement(table, [], set(), 'H001')})"
        ).fetchone()
        assert found is not None
        return str(found[0])

    assert hashed(HTN) == hashed(grown)
