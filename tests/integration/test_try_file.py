"""``medlake empi try`` on files of any origin: the whole way from a file to persons, without a lake."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from empi import trial
from lake.errors import MedlakeError
from lake.settings import PROJECT_ROOT, settings
from medlake.commands import empi_trial

EXAMPLE = PROJECT_ROOT / "docs" / "try"
HEADER = "id,name,sex,dob,idn,ph\n"
ONE = HEADER + "1,张三,男,1980-01-01,,13912345678\n"
MAP = "record_id: id\nname: name\nsex: sex\nbirth_date: dob\nnational_id: idn\nphone: ph\n"
CITY_MAP = (
    "record_id: id\nname: name\nsex: sex_code\nbirth_date: birth_date\nnational_id: id_no\nphone: phone\n"
    "address: addr_detail\ncard: health_card_no\nsource: source_system\n"
)

Tried = Callable[..., dict[str, Any]]


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Link a text or a file by a mapping, with a MEDLAKE_HOME that is not there, and must not be there afterwards."""
    home = tmp_path / "nowhere"
    monkeypatch.setenv("MEDLAKE_HOME", str(home))
    settings.cache_clear()

    def work(given: str | bytes | Path, mapping: str = MAP, **more: Any) -> dict[str, Any]:
        file = given if isinstance(given, Path) else tmp_path / "t.csv"
        if not isinstance(given, Path):
            file.write_bytes(given.encode() if isinstance(given, str) else given)
        (tmp_path / "map.yaml").write_text(mapping, "utf-8")
        return trial.try_file(file, tmp_path / "map.yaml", **more)

    yield work
    assert not home.exists()
    settings.cache_clear()


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Registrations of 1,400 simulated residents with their truth, as one Parquet file."""
    from simulator.people import write_registrations
    from simulator.profile import Profile

    folder = tmp_path_factory.mktemp("city")
    write_registrations(Profile.load(), 1_400, 11, folder)
    duckdb.sql(
        f"""COPY (SELECT row_number() OVER () AS id, r.*, t.resident_id FROM '{folder}/registration.parquet' r
        JOIN '{folder}/truth/registration.parquet' t USING (source_system, org_code, local_id))
        TO '{folder}/city.parquet'"""
    )
    return folder / "city.parquet"


def test_the_example_of_the_manual(tmp_path: Path, tried: Tried) -> None:
    out = tmp_path / "persons.csv"
    found = tried(
        EXAMPLE / "registrations.csv", (EXAMPLE / "map.yaml").read_text("utf-8"), truth="真实身份", out=out
    )
    kept = ("records", "persons", "unlinkable", "precision", "recall", "f1", "exact_clusters")
    assert [found[k] for k in kept] == [12, 6, 1, 1.0, 1.0, 1.0, 1.0]
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    given = list(csv.DictReader((EXAMPLE / "registrations.csv").open(encoding="utf-8")))
    assert [(r["record_id"], r["source"]) for r in rows] == [(g["编号"], g["来源"]) for g in given]
    assert {r["record_id"]: r["unlinkable"] for r in rows if r["unlinkable"]} == {"A006": "unknown_person"}


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLAKE_HOME", str(tmp_path / "nowhere"))
    settings.cache_clear()
    app = typer.Typer()
    empi_trial.register(app)
    given = ["try", str(EXAMPLE / "registrations.csv"), "--mapping", str(EXAMPLE / "map.yaml"), "--json"]
    done = CliRunner().invoke(app, [*given, "--truth", "真实身份"])
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert done.exit_code == 0 and told["records"] == 12 and told["f1"] == 1.0
    assert told["seconds"] > 0 and told["peak_rss_mb"] > 0
    failed = CliRunner().invoke(app, [*given, "--truth", "nobody"])
    told = json.loads(failed.stdout.strip().splitlines()[-1])
    assert failed.exit_code == 1 and told["error"] == "E372" and "nobody" in told["zh"]
    settings.cache_clear()


def test_a_city_by_the_nine_fields_alone(tmp_path: Path, tried: Tried, city: Path) -> None:
    """A small set says little on rates: the bounds are far below what a hundred thousand residents give."""
    out = tmp_path / "persons.parquet"
    found = tried(city, CITY_MAP, truth="resident_id", out=out)
    assert found["precision"] > 0.98 and found["recall"] > 0.97 and found["exact_clusters"] > 0.98
    rows = pq.read_table(out)
    assert rows.column_names == ["record_id", "source", "person", "link_cause", "unlinkable"]
    assert rows.schema.field("record_id").type == pa.int64()  # as it came
    assert len(rows) == found["records"] and len(set(rows["person"].to_pylist())) == found["persons"]
    assert rows["unlinkable"].null_count == found["records"] - found["unlinkable"]


def test_the_same_rows_as_csv_of_other_hands_give_the_same_persons(tried: Tried, city: Path) -> None:
    """GB18030, tabs, other words for the sexes, other dates, rows in another order."""
    text = city.with_name("other.txt")
    duckdb.sql(
        f"""COPY (SELECT resident_id, id, name, CASE sex_code WHEN '1' THEN '男' WHEN '2' THEN '女' END AS sex_code,
            strftime(birth_date, '%Y年%-m月%-d日') AS birth_date, id_no, phone, addr_detail, health_card_no, source_system
        FROM '{city}' ORDER BY hash(id)) TO '{text}' (FORMAT csv, HEADER, DELIMITER '\t')"""
    )
    text.write_bytes(text.read_text("utf-8").encode("gb18030"))
    first = tried(city, CITY_MAP, truth="resident_id")
    assert tried(text, CITY_MAP, truth="resident_id") == first


@pytest.mark.parametrize(
    "without", [("birth_date",), ("id_no",), ("birth_date", "id_no"), ("name",), ("phone", "addr_detail")]
)
def test_without_a_field_altogether_strangers_stay_strangers(
    tried: Tried, city: Path, without: tuple[str, ...]
) -> None:
    mapping = "".join(f"{line}\n" for line in CITY_MAP.splitlines() if line.split(": ")[1] not in without)
    found = tried(city, mapping, truth="resident_id")
    assert found["precision"] > 0.97 and found["recall"] > 0.75


def test_nothing_but_names_joins_nobody(tried: Tried, city: Path) -> None:
    found = tried(city, "record_id: id\nname: name\n", truth="resident_id")
    assert found["persons"] == found["records"] == found["unlinkable"]


@pytest.mark.parametrize(
    ("given", "records"),
    [
        (HEADER, 0),
        (ONE, 1),
        (ONE.encode("utf-8-sig"), 1),
        (ONE.encode("utf-16"), 1),
        (ONE.encode("gb18030"), 1),
        (ONE.replace("\n", "\r\n"), 1),
        (ONE.replace(",", ";"), 1),
        (ONE.replace(",", "|") + "\n\n", 1),
        (ONE.replace("张三", '"张\n三"'), 1),
        (HEADER + "".join(f"{i},,,,,\n" for i in range(30)), 30),
        (ONE.replace("张三", "\U00020bb7" * 40), 1),
    ],
)
def test_files_as_they_come(tried: Tried, given: str | bytes, records: int) -> None:
    found = tried(given, truth="id")
    assert (found["records"], found["persons"], found["precision"]) == (records, records, 1.0)


def test_rows_of_another_length_are_left_out_and_told(tried: Tried) -> None:
    found = tried(ONE + "2,李四\n3,a,b,c,d,e,f\n")
    assert (found["records"], found["skipped_rows"]) == (1, 2)


def test_columns_that_are_null_throughout(tmp_path: Path, tried: Tried) -> None:
    nothing = {c: pa.nulls(3) for c in ("name", "sex", "dob", "idn", "ph")}
    pq.write_table(pa.table({"id": [1, 2, 3], **nothing}), tmp_path / "t.parquet")
    found = tried(tmp_path / "t.parquet", out=tmp_path / "o.parquet")
    assert found["persons"] == found["unlinkable"] == 3
    assert set(pq.read_table(tmp_path / "o.parquet")["unlinkable"].to_pylist()) == {"no_usable_field"}


def test_columns_called_as_ours_do_no_harm(tried: Tried) -> None:
    given = 'row_no,rec_no,"sex ""q""",text,ROW_NO\n1,张三,男,1980-01-01,a\n'
    found = tried(
        given, "record_id: row_no\nname: rec_no\nsex: 'sex \"q\"'\nbirth_date: text\n", truth="ROW_NO"
    )
    assert found["records"] == 1 and found["unread"] == {}


@pytest.mark.parametrize(
    ("given", "mapping", "code", "told"),
    [
        ("", MAP, "E370", "no header"),
        (bytes(range(256)) * 20, MAP, "E370", "GB18030"),
        (ONE + "1,2\n" * 100, MAP, "E370", "100 rows"),
        (ONE + '7,"a,\n' + "8,,,,,\n" * 100, MAP, "E370", "rows"),
        (ONE, MAP + "encoding: klingon\n", "E370", "klingon"),
        (ONE, MAP + "foo: bar\n", "E371", "foo"),
        (ONE, MAP + "card: kartte\n", "E372", "kartte"),
        ("id,id\n1,2\n", "record_id: id\n", "E372", "×2"),
        (ONE + "1,李四,,,,\n", MAP, "E373", "1 ids"),
        (ONE + ",李四,,,,\n", MAP, "E373", "1 rows"),
    ],
)
def test_what_cannot_be_used_is_named_in_both_languages(
    tried: Tried, given: str | bytes, mapping: str, code: str, told: str
) -> None:
    with pytest.raises(MedlakeError) as caught:
        tried(given, mapping)
    assert caught.value.code == code and told in caught.value.en
    assert caught.value.zh and caught.value.remedy_zh and caught.value.place
    assert "李四" not in str(caught.value)  # no value of a row in an error


def test_an_id_may_stand_again_in_another_source(tried: Tried) -> None:
    given = "id,src,name\n1,a,张三\n1,b,李四\n"
    with pytest.raises(MedlakeError, match="E373"):
        tried(given, "record_id: id\nname: name\n")
    assert tried(given, "record_id: id\nname: name\nsource: src\n")["records"] == 2


@pytest.mark.parametrize(
    "column", [pa.array([["a"]]), pa.array([{"a": 1}]), pa.array([b"\x00"])], ids=["list", "struct", "bytes"]
)
def test_a_column_of_no_single_value(tmp_path: Path, tried: Tried, column: pa.Array) -> None:
    pq.write_table(pa.table({"id": [1], "name": column}), tmp_path / "t.parquet")
    with pytest.raises(MedlakeError, match="E374"):
        tried(tmp_path / "t.parquet", "record_id: id\nname: name\n")


def test_files_that_are_no_files(tmp_path: Path, tried: Tried) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(MedlakeError, match="E370"):
            tried(path)
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(MedlakeError, match="E370"):
        tried(tmp_path / "t.parquet")


def test_a_result_that_cannot_be_written(tmp_path: Path, tried: Tried) -> None:
    for out in (tmp_path / "no" / "o.csv", tmp_path / "o.xlsx", tmp_path / "t.csv"):
        with pytest.raises(MedlakeError, match="E375"):
            tried(ONE, out=out)
    assert (tmp_path / "t.csv").read_text("utf-8") == ONE


def test_latin_names_are_compared_as_a_whole(tmp_path: Path, tried: Tried) -> None:
    """Same day and telephone: the same words in another order are one person, another first name is a sibling."""
    given = HEADER + (
        '1,José Webb,M,1980-01-02,,13912345678\n2,"WEBB, Jose",1,1980-01-02,,13912345678\n'
        "3,Joan Webb,F,1980-01-02,,13912345678\n4,Anne Bibb,F,1980-01-02,,13812345678\n"
    )
    out = tmp_path / "o.csv"
    tried(given, out=out)
    person = {r["record_id"]: r["person"] for r in csv.DictReader(out.open())}
    assert person["1"] == person["2"] and len(set(person.values())) == 3
