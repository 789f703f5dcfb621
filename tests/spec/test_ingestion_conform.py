"""The contract as behaviour: what each logical type takes, what is refused and with which number, what is kept."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from ingestion import codemaps, conform, typing_sql
from ingestion.stage import Stage, scan
from ingestion.units import derived_names
from lake.contracts import TableContract, contracts
from tests.ingestion_world import landed

TABLES = [t for c in contracts().values() for t in c.tables.values()]
PERFECT = {
    "string": "甲",
    "integer": "7",
    "number": "36.5",
    "boolean": "是",
    "date": "2026-11-18",
    "timestamp": "2026-11-18 08:15:00",
}


def value(kind: str, text: str) -> Any:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        clean = typing_sql.cleaned("x")
        row = con.execute(
            f"SELECT {typing_sql.typed(kind, 'c')} FROM (SELECT {clean} AS c FROM (SELECT ?::VARCHAR AS x))",
            [text],
        ).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-18", date(2026, 11, 18)),
        ("2026/1/2", date(2026, 1, 2)),
        ("20261118", date(2026, 11, 18)),
        ("2026.1.2", date(2026, 1, 2)),
        ("2026年11月18日", date(2026, 11, 18)),
        ("２０２６-１１-１８", date(2026, 11, 18)),
        ("2026-11-18 10:00:00", date(2026, 11, 18)),
        ("46344", date(2026, 11, 18)),
        ("46344.75", date(2026, 11, 18)),
        ("198808181126+0215", date(1988, 8, 18)),
        ("　2026-11-18 ", date(2026, 11, 18)),
        ("1800-01-01", date(1800, 1, 1)),
        ("2026-02-30", None),
        ("20269918", None),
        ("infinity", None),
        ("2026", None),
        ("不详", None),
    ],
)
def test_dates(text: str, expected: date | None) -> None:
    assert value("date", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-18 08:15:00", datetime(2026, 11, 18, 0, 15)),
        ("2026/1/2 8:15:00", datetime(2026, 1, 2, 0, 15)),
        ("2026-11-18T08:15", datetime(2026, 11, 18, 0, 15)),
        ("20261118081500", datetime(2026, 11, 18, 0, 15)),
        ("202611180815", datetime(2026, 11, 18, 0, 15)),
        ("20261118", datetime(2026, 11, 17, 16)),
        ("20261118081500.5+0700", datetime(2026, 11, 18, 1, 15, 0, 500000)),
        ("2026-11-18T08:15:00+08:00", datetime(2026, 11, 18, 0, 15)),
        ("2026-11-18T08:15:00Z", datetime(2026, 11, 18, 8, 15)),
        ("46344.25", datetime(2026, 11, 17, 22)),
        ("1988-07-01 12:00:00", datetime(1988, 7, 1, 3)),  # summer time in China, 1986 to 1991
        ("2026年11月18日", datetime(2026, 11, 17, 16)),
        ("2026-11-18 25:00:00", None),
        ("epoch", None),
        ("", None),
    ],
)
def test_instants_are_utc_and_local_without_zone(text: str, expected: datetime | None) -> None:
    assert value("timestamp", text) == (expected.replace(tzinfo=UTC) if expected else None)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("integer", "120", 120),
        ("integer", "120.0", 120),
        ("integer", "12.7", None),
        ("integer", "1_000", None),
        ("integer", "0x10", None),
        ("number", "1,234.5", 1234.5),
        ("number", "１．５", 1.5),
        ("number", "5.6↑", None),
        ("number", "nan", None),
        ("number", "inf", None),
        ("boolean", "是", True),
        ("boolean", "N", False),
        ("boolean", "也许", None),
    ],
)
def test_numbers_and_booleans(kind: str, text: str, expected: object) -> None:
    assert value(kind, text) == expected


def conformed(
    table: TableContract, rows: list[dict[str, str | None]], tmp_path: Path
) -> list[dict[str, Any]]:
    """Stage rows of text and return what the conform statement makes of them, in order."""
    (tmp_path / "x.csv").write_bytes(b"x")
    file = landed(tmp_path / "x.csv")
    stage = Stage(contracts()[table.feed], [file], tmp_path)
    columns = {f.name: pa.array([r.get(f.name) for r in rows], pa.string()) for f in table.fields}
    stage.rows(file, table.name, pa.table(columns))
    stage.finish()
    found = stage.connection.execute(f"SELECT * FROM {scan(tmp_path, stage.parts[table.name])} ORDER BY rid")
    rows_out: list[dict[str, Any]] = found.to_arrow_table().to_pylist()
    stage.close()
    return rows_out


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_every_contract_takes_its_perfect_record_and_refuses_each_missing_required_field(
    lake_home: Path, tmp_path: Path, table: TableContract
) -> None:
    perfect: dict[str, str | None] = {f.name: PERFECT[f.type] for f in table.fields}
    required = [f.name for f in table.fields if f.required or f.is_key]
    rows = [perfect, *({**perfect, name: "  "} for name in required)]
    errors = [r["err"] for r in conformed(table, rows, tmp_path)]
    assert errors == [None, *(f"E210:{name}" for name in required)]


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_every_typed_field_refuses_what_it_cannot_hold(
    lake_home: Path, tmp_path: Path, table: TableContract
) -> None:
    perfect: dict[str, str | None] = {f.name: PERFECT[f.type] for f in table.fields}
    typed = [f.name for f in table.fields if f.type != "string" and f.name not in derived_names()]
    rows = [{**perfect, name: "溶血"} for name in typed] or [perfect]
    errors = [r["err"] for r in conformed(table, rows, tmp_path)]
    assert errors == ([f"E211:{name}" for name in typed] or [None])


def test_an_identifier_in_scientific_notation_is_refused_but_a_document_number_is_kept(
    lake_home: Path, tmp_path: Path
) -> None:
    table = contracts()["public_health"].tables["ph_archive"]
    perfect: dict[str, str | None] = {f.name: PERFECT[f.type] for f in table.fields}
    rows = [{**perfect, "archive_id": "4.29701E+17"}, {**perfect, "id_no": "4.29701195803120E+17"}]
    found = conformed(table, rows, tmp_path)
    assert [r["err"] for r in found] == ["E212:archive_id", None]
    assert found[1]["r_id_no"] == "4.29701195803120E+17"


def test_codes_are_mapped_and_unknown_codes_stay(lake_home: Path, tmp_path: Path) -> None:
    table = contracts()["his"].tables["patient"]
    perfect: dict[str, str | None] = {f.name: PERFECT[f.type] for f in table.fields}
    written = ["男", "F", "1", "female", "未知的性别", "外星", None]
    found = conformed(table, [{**perfect, "sex_code": w} for w in written], tmp_path)
    assert [r["t_sex_code"] for r in found] == ["1", "2", "1", "2", "0", "外星", None]
    assert [r["err"] for r in found] == [None] * 7
    ethnicity = conformed(
        table, [{**perfect, "ethnicity_code": w} for w in ("汉族", "汉", "HA", "1", "01")], tmp_path
    )
    assert [r["t_ethnicity_code"] for r in ethnicity] == ["01"] * 5


def test_every_code_map_points_to_standard_codes() -> None:
    for path in sorted(Path(codemaps.__file__).parent.glob("*.csv")):
        targets = {r["code"] for r in codemaps._rows(path)}
        known = codemaps.code_map(path.stem)
        assert known, f"{path.stem}: no such code system in dbt/seeds/codes"
        standard = {c for c in known.values() if known.get(c.lower()) == c}
        assert targets <= standard, f"{path.name}: {sorted(targets - standard)}"


def test_the_raw_hash_sees_every_field_and_the_extras(lake_home: Path, tmp_path: Path) -> None:
    table = contracts()["referral"].tables["referral"]
    perfect: dict[str, str | None] = {f.name: PERFECT[f.type] for f in table.fields}
    rows = [perfect, perfect, *({**perfect, f.name: "x"} for f in table.fields)]
    hashes = [r["raw_hash"] for r in conformed(table, rows, tmp_path)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == len(table.fields) + 1


def test_newest_is_the_sources_own_time_where_there_is_one() -> None:
    found = {t.name: conform.newest_by(t) for t in TABLES}
    assert (found["patient"], found["htn_visit"], found["lab_result"]) == (
        "source_updated_at",
        "recorded_at",
        None,
    )
