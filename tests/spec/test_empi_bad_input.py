"""Registers as they are: what must neither blow up nor join strangers."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

from empi import linking, unlinkable
from tests.empi_world import TODAY, id_number, registration, world

SURNAMES, GIVEN = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗",
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉建国文志海",
)


def name(number: int) -> str:
    """Another name for each number below 18,000."""
    return SURNAMES[number % 20] + GIVEN[number // 20 % 30] + GIVEN[number // 600 % 30]


def test_ten_thousand_people_under_one_phone(lake_home: Path) -> None:
    """A village doctor gives his own number for everybody."""
    rows = [
        registration(
            str(i), name(i), phone="13907221234", birth_date=date(1940, 1, 2) + timedelta(days=3 * i)
        )
        for i in range(10_000)
    ]
    connection, number = world(rows)
    counts = linking.resolve(connection, TODAY, len(number))
    assert counts["pairs"] < 10_000
    assert connection.execute("SELECT count(DISTINCT cluster_no) FROM cluster").fetchall()[0][0] == 10_000
    assert unlinkable.find(connection) == {}, "names and birth dates still tell them apart"


def reasons(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Local id -> why that registration cannot be linked."""
    connection, number = world(rows)
    linking.resolve(connection, TODAY, len(number))
    unlinkable.find(connection)
    of = dict(connection.execute("SELECT rec_no, reason FROM unlinkable").fetchall())
    proposed = {n for pair in connection.execute("SELECT rec_l, rec_r FROM pair").fetchall() for n in pair}
    assert not proposed & of.keys(), "what is compared with others is linkable"
    return {local_id: of[n] for local_id, n in number.items() if n in of}


def test_a_reason_on_each_that_cannot_be_linked(lake_home: Path) -> None:
    shared = id_number(date(1960, 5, 17), 123)
    found = reasons(
        [
            registration("nobody", "无名氏", phone="13907220000", birth_date=date(1970, 1, 2)),
            registration("empty", None),
            registration(
                "ugly", None, id_no="000000", phone="0", birth_date=date(1800, 1, 1), addr_detail="***"
            ),
            registration("name alone", "王小明"),
            registration("day alone", None, birth_date=date(1980, 2, 3)),
            registration("name and day", "王小明", birth_date=date(1980, 2, 3)),
            registration("a sound id", "王小明", id_no=id_number(date(1981, 2, 3), 111)),
            *[registration(f"desk {i}", name(i), phone="13907221234") for i in range(41)],
            *[registration(f"ward {i}", name(i), id_no=shared) for i in range(9)],
        ]
    )
    assert found == {
        "nobody": "unknown_person",
        "empty": "no_usable_field",
        "ugly": "no_usable_field",
        "name alone": "too_few_fields",
        "day alone": "too_few_fields",
        **{f"desk {i}": "shared_phone" for i in range(41)},
        **{f"ward {i}": "shared_id" for i in range(9)},
    }


def test_a_crowd_under_one_key_is_told_and_proposes_nothing(lake_home: Path) -> None:
    """A form filled with one name and one day: whoever has nothing else cannot be told from the crowd."""
    day = date(1980, 2, 3)
    rows = [registration(f"form {i}", "李丽", birth_date=day) for i in range(199)]
    rows += [registration(f"card {i}", "李丽", birth_date=day, health_card_no="HC00112233") for i in range(2)]
    connection, number = world(rows)
    counts = linking.resolve(connection, TODAY, len(number))
    assert connection.execute("SELECT rule, keys, records, largest FROM crowd").fetchall() == [
        ("name_py + dob", 1, 201, 201)
    ]
    assert counts["pairs"] == 1, "the two with a card find each other by it"
    assert unlinkable.find(connection) == {"crowded_key": 199}


def test_one_id_on_five_hundred_records(lake_home: Path) -> None:
    """A ward's card for everybody without one: it identifies nobody."""
    shared = id_number(date(1960, 5, 17), 123)
    rows = [
        registration(
            str(i), name(i), id_no=shared, birth_date=date(1940, 1, 1) + timedelta(days=50 * i), sex_code="1"
        )
        for i in range(500)
    ]
    connection, number = world(rows)
    counts = linking.resolve(connection, TODAY, len(number))
    assert counts["pairs"] < 500
    assert connection.execute("SELECT count(DISTINCT cluster_no) FROM cluster").fetchall()[0][0] == 500


def test_nobody_falls_out(lake_home: Path) -> None:
    """Every record is in exactly one person, however ugly."""
    ugly: list[dict[str, Any]] = [
        {"name": "长" * 40},
        {"name": "𠮷𠮷", "birth_date": date(1800, 1, 1)},
        {"name": "𠀀𪜶𫝀𮯠", "birth_date": date(1800, 1, 1), "phone": "13800000000"},
        {"name": "长" * 39 + "*", "birth_date": date(9999, 12, 31)},
        {"name": "O'Brien\tPatrick"},
        {"name": "王'; DROP TABLE record; --"},
        {"name": "\ufeff王\u200b小明"},
        {"name": None, "id_no": "4.29701E+17", "phone": "1.39E+10"},
        {"name": "张*"},
        {"name": "李%_"},
        {"name": "", "addr_detail": "*" * 300},
        {"name": "\n", "addr_detail": "１２３"},
        {"name": "赵一", "id_no": "x" * 500, "sex_code": "男", "health_card_no": "0"},
    ]
    rows = [registration(str(i), **r) for i, r in enumerate(ugly)]
    connection, number = world(rows)
    linking.resolve(connection, TODAY, len(number))
    found = connection.execute("SELECT rec_no, cluster_no FROM cluster ORDER BY 1").fetchall()
    assert found == [(i, i) for i in range(len(rows))]


def test_a_masked_name_matches_whom_it_may_hide(lake_home: Path) -> None:
    """王*明 at the same phone and birth date is 王小明."""
    same = {
        "phone": "13907221234",
        "birth_date": date(1970, 2, 3),
        "sex_code": "1",
        "health_card_no": "HC00112233",
    }
    connection, number = world([registration("a", "王小明", **same), registration("b", "王*明", **same)])
    linking.resolve(connection, TODAY, len(number))
    assert connection.execute("SELECT count(DISTINCT cluster_no) FROM cluster").fetchall()[0][0] == 1
