"""Who is one person and who is not, by example: the rules of the identity index, each with the case behind it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from empi import linking
from lake.errors import MedlakeError
from tests.empi_world import TODAY, id_number, registration, world

BORN = date(1958, 3, 12)
HOME: dict[str, Any] = {"phone": "13907221234", "addr_detail": "湖东区湖滨街道湖滨老洲社区3组12号"}
MALE = id_number(BORN, 211)


def persons(
    rows: Iterable[dict[str, Any]], decisions: Iterable[tuple[str, str, str]] = ()
) -> set[frozenset[str]]:
    """Local ids, grouped by person."""
    connection, number = world(rows, decisions)
    linking.resolve(connection, TODAY, len(number))
    label = dict(connection.execute("SELECT rec_no, cluster_no FROM cluster").fetchall())
    groups: dict[int, set[str]] = {}
    for local_id, record in number.items():
        groups.setdefault(label[record], set()).add(local_id)
    return {frozenset(g) for g in groups.values()}


def together(*local_ids: str) -> set[frozenset[str]]:
    return {frozenset(local_ids)}


def apart(*local_ids: str) -> set[frozenset[str]]:
    return {frozenset({i}) for i in local_ids}


ZHANG: dict[str, Any] = {"sex_code": "1", "birth_date": BORN, "id_no": MALE, **HOME}


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"name": "章建国"},  # the same sound
        {"name": "张 建国"},
        {"id_no": MALE[:6] + MALE[8:17]},  # the number of before 1999
        {"id_no": None, "phone": None},
        {"id_no": None, "addr_detail": "湖滨老洲3-12"},
        {"phone": "13307229999", "addr_detail": "云溪县龙潭镇龙潭前湾村2组7号"},  # moved
        {"birth_date": date(1958, 1, 30), "id_no": MALE},  # the lunar day in the household register
        {"birth_date": None},
        {"id_no": MALE[:8] + MALE[9] + MALE[8] + MALE[10:]},  # two digits swapped
    ],
)
def test_one_resident_registered_twice(lake_home: Path, other: dict[str, Any]) -> None:
    again = {"name": "张建国"} | ZHANG | other
    assert persons([registration("a", "张建国", **ZHANG), registration("b", **again)]) == together("a", "b")


def test_same_name_and_birth_date_in_other_towns_are_two(lake_home: Path) -> None:
    one = registration("a", "张伟", birth_date=BORN, sex_code="1", **HOME)
    other = registration(
        "b",
        "张伟",
        birth_date=date(1971, 6, 2),
        sex_code="1",
        phone="13307229999",
        addr_detail="云溪县龙潭镇龙潭前湾村",
    )
    assert persons([one, other]) == apart("a", "b")


def test_twins_are_two(lake_home: Path) -> None:
    """One home, one phone, one birth date, names with one generation character in common."""
    born = date(2015, 7, 9)
    one = registration("a", "陈子涵", birth_date=born, sex_code="2", **HOME)
    other = registration("b", "陈子萱", birth_date=born, sex_code="2", **HOME)
    assert persons([one, other]) == apart("a", "b")


def test_twins_with_ids_are_two_even_under_one_phone_and_adjacent_numbers(lake_home: Path) -> None:
    born = date(2015, 7, 9)
    rows = [
        registration("a", "陈子涵", birth_date=born, sex_code="2", id_no=id_number(born, 222), **HOME),
        registration("b", "陈子萱", birth_date=born, sex_code="2", id_no=id_number(born, 224), **HOME),
    ]
    assert persons(rows) == apart("a", "b")


def test_a_borrowed_id_does_not_join(lake_home: Path) -> None:
    """The card of an uncle: his number, another name, another birth date."""
    lent = registration(
        "b", "刘海波", sex_code="1", birth_date=date(1983, 9, 1), id_no=MALE, phone="13307229999"
    )
    assert persons([registration("a", "张建国", **ZHANG), lent]) == apart("a", "b")


def test_a_child_under_its_guardians_id_is_a_person_of_its_own(lake_home: Path) -> None:
    child = registration("b", "张浩然", sex_code="1", birth_date=date(2018, 2, 2), id_no=MALE, **HOME)
    assert persons([registration("a", "张建国", **ZHANG), child]) == apart("a", "b")


def test_a_spouses_number_is_not_ones_own_though_of_the_same_year(lake_home: Path) -> None:
    """The number is valid and belongs to somebody born in the same year: it must not hold two registrations apart."""
    spouse = id_number(date(1958, 9, 2), 322)
    assert persons(
        [registration("A", "张建国", **ZHANG), registration("B", "张建国", **(ZHANG | {"id_no": spouse}))]
    ) == together("A", "B")


def test_one_number_that_both_own_joins_a_former_name_and_a_slip_in_the_date(lake_home: Path) -> None:
    renamed = ZHANG | {"birth_date": date(1958, 3, 21)}
    assert persons(
        [registration("A", "张建国", **ZHANG), registration("B", "张卫东", **renamed)]
    ) == together("A", "B")


def test_an_adult_under_his_own_telephone_changed_his_name(lake_home: Path) -> None:
    nameless = {"sex_code": "1", "birth_date": BORN, **HOME}
    both = [registration("A", "张建国", **ZHANG), registration("B", "张卫东", **nameless)]
    assert persons(both) == together("A", "B")


def test_adult_twins_of_two_sexes_are_two_though_one_telephone_serves_both(lake_home: Path) -> None:
    brother = {"sex_code": "1", "birth_date": BORN, **HOME}
    both = [
        registration("A", "张建国", **brother),
        registration("B", "张秀兰", **(brother | {"sex_code": "2"})),
    ]
    assert persons(both) == apart("A", "B")


def test_children_under_their_parents_telephone_may_be_twins(lake_home: Path) -> None:
    child = {"sex_code": "1", "birth_date": date(2016, 5, 4), **HOME}
    both = [registration("A", "张浩然", **child), registration("B", "张子轩", **child)]
    assert persons(both) == apart("A", "B")


def test_a_surname_that_looks_alike_is_a_slip(lake_home: Path) -> None:
    wu = {"sex_code": "1", "birth_date": BORN, **HOME}
    assert persons(
        [registration("A", "吴建国", **(ZHANG | wu)), registration("B", "昊建国", **wu)]
    ) == together("A", "B")


def test_a_nameless_newborn_does_not_join_two_names(lake_home: Path) -> None:
    """Of twins both have a name, and one registration still says 李丽之子: it is one of them, and they are two."""
    born = date(2026, 10, 1)
    home = {"birth_date": born, "sex_code": "1", "contact_name": "李丽", **HOME}
    found = persons(
        [
            registration("N", "李丽之子", **home),
            registration("A", "王浩然", org_code="C201", **home),
            registration("B", "王子轩", org_code="C202", **home),
        ]
    )
    assert not any({"A", "B"} <= group for group in found)


def test_two_valid_ids_are_two_persons(lake_home: Path) -> None:
    namesake = registration("b", "张建国", **ZHANG | {"id_no": id_number(BORN, 213)})
    assert persons([registration("a", "张建国", **ZHANG), namesake]) == apart("a", "b")


def test_a_record_between_two_trusted_ids_joins_only_one(lake_home: Path) -> None:
    """Without constraints the record without an id would pull two residents into one."""
    rows = [
        registration("a", "张建国", **ZHANG),
        registration("b", "张建国", **ZHANG | {"id_no": id_number(BORN, 213)}),
        registration("c", "张建国", **ZHANG | {"id_no": None}),
    ]
    found = persons(rows)
    assert len(found) == 2 and frozenset({"a", "b", "c"}) not in found
    assert not any({"a", "b"} <= g for g in found)


def test_another_birth_date_and_nothing_that_identifies(lake_home: Path) -> None:
    """Grandfather and grandson of one name in one house."""
    one = registration("a", "张建国", **ZHANG | {"id_no": None})
    other = registration("b", "张建国", **ZHANG | {"id_no": None, "birth_date": date(1996, 8, 25)})
    assert persons([one, other]) == apart("a", "b")


@pytest.mark.parametrize("name", ["无名氏", "未知", "急诊001"])
def test_unknown_patients_are_persons_of_their_own(lake_home: Path, name: str) -> None:
    rows = [registration(i, name, sex_code="1", birth_date=BORN, **HOME) for i in ("a", "b")]
    assert persons(rows) == apart("a", "b")


BIRTH = date(2026, 10, 3)


def test_a_newborn_is_neither_its_mother_nor_nobody(lake_home: Path) -> None:
    mother_id = id_number(date(1995, 1, 8), 288)
    mother = registration("m", "张丽", sex_code="2", birth_date=date(1995, 1, 8), id_no=mother_id, **HOME)
    child = registration("c", "张丽之子", sex_code="1", birth_date=BIRTH, id_no=mother_id, **HOME)
    seen_again = registration("d", "张丽之子", org_code="C201", sex_code="1", birth_date=BIRTH, **HOME)
    assert persons([mother, child, seen_again]) == together("c", "d") | apart("m")


def test_newborn_twins_are_two(lake_home: Path) -> None:
    rows = [
        registration(i, n, sex_code="2", birth_date=BIRTH, **HOME)
        for i, n in (("a", "张丽之长女"), ("b", "张丽之次女"))
    ]
    assert persons(rows) == apart("a", "b")


NAMED: dict[str, Any] = {
    "sex_code": "1",
    "birth_date": BIRTH,
    "id_no": id_number(BIRTH, 213),
    "org_code": "C201",
}


def test_a_newborn_is_the_child_that_names_its_mother_as_contact(lake_home: Path) -> None:
    """The archive knows the father's telephone; the mother's name stands in both."""
    newborn = registration("a", "张丽之子", sex_code="1", birth_date=BIRTH, phone="13307225555")
    child = registration("b", "周子安", contact_name="张丽", contact_phone="13607221111", **NAMED)
    assert persons([newborn, child]) == together("a", "b")


def test_a_newborn_has_its_mothers_telephone_and_home(lake_home: Path) -> None:
    mother = registration("m", "张丽", sex_code="2", birth_date=date(1995, 1, 8), **HOME)
    newborn = registration("a", "张丽之子", sex_code="1", birth_date=BIRTH, mother_identifier="m")
    child = registration("b", "周子安", **NAMED, **HOME)
    assert persons([mother, newborn, child]) == together("a", "b") | apart("m")


def test_a_newborn_of_twins_is_not_guessed(lake_home: Path) -> None:
    """Two named twins, one nameless record: it may be either, so it stays a person of its own."""
    twin = NAMED | {"id_no": id_number(BIRTH, 215)}
    rows = [
        registration("a", "张丽之子", sex_code="1", birth_date=BIRTH, **HOME),
        registration("b", "周子安", **NAMED, **HOME),
        registration("c", "周子宁", **twin, **HOME),
    ]
    assert persons(rows) == apart("a", "b", "c")


def test_two_babies_of_one_day_are_two(lake_home: Path) -> None:
    rows = [
        registration("a", "张丽之子", sex_code="1", birth_date=BIRTH, **HOME),
        registration("b", "李芳之子", sex_code="1", birth_date=BIRTH, **HOME),
    ]
    assert persons(rows) == apart("a", "b")


def test_a_decision_that_they_are_one_outranks_two_ids(lake_home: Path) -> None:
    """A resident who was issued two numbers; the police confirmed it."""
    second = registration("b", "张建国", **ZHANG | {"id_no": id_number(BORN, 213)})
    rows = [registration("a", "张建国", **ZHANG), second]
    assert persons(rows, [("a", "b", "must_link")]) == together("a", "b")


def test_a_decision_that_they_are_two_outranks_everything(lake_home: Path) -> None:
    rows = [registration(i, "张建国", **ZHANG) for i in ("a", "b", "c")]
    found = persons(rows, [("a", "b", "cannot_link")])
    assert len(found) == 2 and not any({"a", "b"} <= g for g in found)


def test_decisions_that_contradict_each_other_stop_the_run(lake_home: Path) -> None:
    rows = [registration(i, "张建国", **ZHANG) for i in ("a", "b", "c")]
    with pytest.raises(MedlakeError) as caught:
        persons(rows, [("a", "b", "must_link"), ("b", "c", "must_link"), ("a", "c", "cannot_link")])
    assert caught.value.code == "E303"
    assert "张建国" not in str(caught.value) and MALE not in str(caught.value)


def test_records_without_anything_usable_stay_alone(lake_home: Path) -> None:
    assert persons([registration("a", None), registration("b", None), registration("c", "")]) == apart(
        "a", "b", "c"
    )
