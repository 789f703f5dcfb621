"""The golden record by example: every survivorship rule with the case that it decides, and whose each value is."""

from __future__ import annotations

from datetime import UTC, date, datetime
from math import prod
from pathlib import Path
from typing import Any

import pytest

from empi import golden, registry
from empi.golden import rules
from empi.standardise import standardise
from tests.empi_world import TODAY, id_number, registration, world

BORN = date(1958, 3, 12)
ID = id_number(BORN, 211)
OLD, NEW = datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
ZHANG: dict[str, Any] = {"sex_code": "1", "birth_date": BORN, "phone": "13907221234"}
ARCHIVE = {"source_system": "public_health", "org_code": "C201"}


def person(*rows: dict[str, Any], on: date | None = None, deaths: str = "") -> dict[str, Any]:
    """The golden record of registrations that are one person's."""
    connection, _ = world(rows)
    if deaths:
        connection.execute(f"INSERT INTO death VALUES {deaths}")
    standardise(connection, TODAY)
    connection.execute(
        "CREATE TABLE cluster AS SELECT rec_no, 0 AS cluster_no, 'decision' AS link_cause FROM record"
    )
    registry.create_previous(connection, None)
    registry.assign_ids(connection, "run")
    registry.build_crosswalk(connection, TODAY)
    golden.build_person(connection, on)
    (made,) = connection.execute("SELECT * FROM person").to_arrow_table().to_pylist()
    assert list(made)[-2:] == ["value_source", "value_records"], "columns are only added at the end"
    places, records = made["value_source"], made["value_records"]
    assert records == sorted({records[place - 1] for place in places.values() if place}), "each gave a value"
    made["value_source"] = {field: place and records[place - 1] for field, place in places.items()}
    assert set(made["value_source"]) == set(golden.FIELDS)
    for field, key in made["value_source"].items():
        assert (key is None) == (made[field] is None), "a value has a source"
    return dict(made)


def test_a_trusted_id_beats_a_better_source_and_a_newer_record(lake_home: Path) -> None:
    told = person(
        registration("1", "张建囯", updated_at=NEW, **ZHANG),
        registration("2", "张建国", id_no=ID, updated_at=OLD, **ZHANG | ARCHIVE),
    )
    assert told["name"] == "张建国" and told["id_no"] == ID and told["has_trusted_id"]
    assert told["value_source"]["name"] == told["value_source"]["id_no"] == "public_health/C201/2"


def test_whoever_showed_an_insurance_card_comes_next(lake_home: Path) -> None:
    told = person(
        registration("1", "张建囯", updated_at=NEW, **ZHANG),
        registration("2", "张建国", insurance_no="429701998877", updated_at=OLD, **ZHANG | ARCHIVE),
    )
    assert (told["name"], told["value_source"]["name"]) == ("张建国", "public_health/C201/2")


@pytest.mark.parametrize(
    ("better", "worse"),
    [("his", "public_health"), ("public_health", "lis"), ("lis", "pacs"), ("pacs", "elsewhere")],
)
def test_then_the_kind_of_source(lake_home: Path, better: str, worse: str) -> None:
    told = person(
        registration("1", "张建囯", updated_at=NEW, **ZHANG | {"source_system": worse}),
        registration("2", "张建国", updated_at=OLD, **ZHANG | {"source_system": better}),
    )
    assert (told["name"], told["value_source"]["name"]) == ("张建国", f"{better}/H101/2")


def test_then_the_newest(lake_home: Path) -> None:
    told = person(
        registration("1", "张建囯", updated_at=OLD, **ZHANG),
        registration("2", "张建国", updated_at=NEW, **ZHANG),
        registration("3", "张健国", updated_at=None, **ZHANG),
    )
    assert (told["name"], told["value_source"]["name"]) == ("张建国", "his/H101/2")


def test_of_equals_the_first_by_its_key(lake_home: Path) -> None:
    rows = [registration("2", "张建囯", **ZHANG), registration("1", "张建国", **ZHANG)]
    assert person(*rows)["name"] == person(*reversed(rows))["name"] == "张建国"


def test_a_masked_name_is_the_last_resort(lake_home: Path) -> None:
    masked = registration("1", "张*国", id_no=ID, updated_at=NEW, **ZHANG)
    told = person(masked, registration("2", "张建国", updated_at=OLD, **ZHANG | {"source_system": "pacs"}))
    assert told["name"] == "张建国" and told["id_no"] == ID
    assert told["value_source"]["name"] == "pacs/H101/2" and told["value_source"]["id_no"] == "his/H101/1"
    assert person(masked)["name"] == "张*国"


def test_telephone_and_address_are_the_newest_that_are_given(lake_home: Path) -> None:
    told = person(
        registration("1", "张建国", id_no=ID, updated_at=OLD, addr_detail="湖滨老洲社区3组12号", **ZHANG),
        registration("2", "张建国", updated_at=NEW, **ZHANG | ARCHIVE | {"phone": "13607220001"}),
    )
    assert (told["phone"], told["value_source"]["phone"]) == ("13607220001", "public_health/C201/2")
    assert told["addr_detail"] == "湖滨老洲社区3组12号", "the newest says nothing of it"
    assert told["value_source"]["addr_detail"] == "his/H101/1" == told["value_source"]["name"]


def test_what_was_given_as_a_code_of_no_meaning_yields_to_any_that_has_one(lake_home: Path) -> None:
    told = person(
        registration("1", "张建国", updated_at=NEW, **ZHANG | {"sex_code": "9"}),
        registration("2", "张建国", updated_at=OLD, **ZHANG | {"source_system": "pacs"}),
    )
    assert (told["sex_code"], told["value_source"]["sex_code"]) == ("1", "pacs/H101/2")


def test_the_birth_date_of_a_trusted_id_is_the_id_s(lake_home: Path) -> None:
    turned = date(1958, 3, 21)  # typed wrong: two digits the other way round
    told = person(registration("1", "张建国", id_no=ID, **ZHANG | {"birth_date": turned}))
    assert (told["id_no"], told["birth_date"]) == (ID, BORN)
    assert told["value_source"]["birth_date"] == "his/H101/1"
    assert person(registration("1", "张建国", **ZHANG | {"birth_date": turned}))["birth_date"] == turned


def test_nobody_s_id_and_an_unknown_patient_s_name(lake_home: Path) -> None:
    told = person(registration("1", "无名氏", id_no="999999999999999999"))
    assert told["name"] == "无名氏" and told["id_no"] is None and told["value_source"]["id_no"] is None
    assert told["value_source"]["name"] == "his/H101/1"


def test_a_number_with_slashes_keeps_them(lake_home: Path) -> None:
    assert person(registration("a/b/1", "张建国", **ZHANG))["value_source"]["name"] == "his/H101/a/b/1"


def test_dates_that_no_clock_shows_have_a_place(lake_home: Path) -> None:
    far = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), None]
    rows = [
        registration(str(i), name, updated_at=at, **ZHANG)
        for i, (at, name) in enumerate(zip(far, ["张一", "张二", "张三"], strict=True))
    ]
    assert person(*rows)["name"] == "张二" and person(*rows[::2])["name"] == "张一"


def test_a_death_needs_the_id_and_the_name_or_the_day(lake_home: Path) -> None:
    zhang = registration("1", "张建国", id_no=ID, **ZHANG)
    died = "DATE '2026-11-01'"
    assert person(zhang, deaths=f"('{ID}', '张建国', NULL, {died})")["death_date"] == date(2026, 11, 1)
    assert person(zhang, deaths=f"('{ID}', '别人', DATE '{BORN}', {died})")["is_deceased"]
    assert not person(zhang, deaths=f"('{ID}', '别人', NULL, {died})")["is_deceased"]
    assert person(zhang, registration("2", "张建国", is_dead=True, **ZHANG | ARCHIVE))["is_deceased"]


def test_the_rules_are_dated_and_begin_when_everybody_is_linked_anew() -> None:
    every = golden._rules()
    assert [r["valid_from"] for r in every] == sorted({r["valid_from"] for r in every})
    assert all(r["valid_from"].day == 1 for r in every), "a month's first run is a full one"
    for rule in every:
        assert set(rule["fields"]) == set(golden.FIELDS)
        assert all(
            set(f["order"]) <= set(golden.CRITERIA) and f["mark"] in "VK" for f in rule["fields"].values()
        )
        assert max(rule["source_rank"].values()) < golden.CRITERIA["source_rank"][1] - 1
    assert rules(date(1999, 1, 1)) == every[0] and rules() == every[-1]


def test_other_rules_give_other_records(lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = rules()
    fields = now["fields"] | {"name": {"order": ["newest"], "mark": "K"}}
    later = now | {"valid_from": date(2027, 1, 1), "fields": fields, "source_rank": {"public_health": 1}}
    monkeypatch.setattr(golden, "_rules", lambda: [now, later])
    rows = [
        registration("1", "张建国", updated_at=OLD, **ZHANG),
        registration("2", "张建囯", updated_at=NEW, **ZHANG | ARCHIVE | {"birth_date": date(1958, 3, 21)}),
    ]
    before, after = person(*rows, on=date(2026, 12, 31)), person(*rows, on=date(2027, 1, 1))
    assert (before["name"], before["birth_date"]) == ("张建国", BORN)
    assert (after["name"], after["birth_date"]) == ("张建囯", date(1958, 3, 21))


def test_all_criteria_at_once_fit_the_number_that_a_place_is() -> None:
    assert prod(size for _, size in golden.CRITERIA.values()) * golden._RECORDS < 2**120
