"""Standardising: ugly registrations in, comparable columns out."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from empi import names
from empi.standardise import standardise
from tests.empi_world import TODAY, check_digit, id_number, registration, world

BORN = date(1960, 5, 17)
VALID = id_number(BORN, 123)


def standardised(**given: Any) -> dict[str, Any]:
    connection, _ = world([registration("1", given.pop("name", "王小明"), **given)])
    standardise(connection, TODAY)
    cursor = connection.execute("SELECT * FROM record")
    return dict(zip([c[0] for c in cursor.description or []], cursor.fetchall()[0], strict=True))


@pytest.mark.parametrize(
    ("given", "idno", "valid", "own"),
    [
        (VALID, VALID, True, True),
        (f" {VALID[:6]} {VALID[6:14]}-{VALID[14:]} ", VALID, True, True),
        (VALID.translate(str.maketrans("0123456789", "０１２３４５６７８９")), VALID, True, True),
        ("429701600517123", "429701196005171" + "23" + check_digit("42970119600517123"), True, True),
        (
            VALID[:-1] + ("1" if VALID[-1] != "1" else "2"),
            VALID[:-1] + ("1" if VALID[-1] != "1" else "2"),
            False,
            False,
        ),
        ("4.29701196E+17", None, False, False),
        ("111111111111111111", None, False, False),
        ("123456789012345678", None, False, False),
        ("000000", None, False, False),
        ("无", None, False, False),
        (
            VALID[:10] + "****" + VALID[14:],
            VALID,
            True,
            False,
        ),  # the masked day fits birth date and check digit
        (VALID[:9] + "*****" + VALID[14:], None, False, False),
        (VALID[:10] + "****" + VALID[14:17] + ("1" if VALID[-1] != "1" else "2"), None, False, False),
        ("E12345678", "E12345678", True, True),  # a passport
        ("429701196002301230", "429701196002301230", False, False),  # 30 February
        ("", None, False, False),
        (None, None, False, False),
    ],
)
def test_id_numbers(lake_home: Path, given: str | None, idno: str | None, valid: bool, own: bool) -> None:
    row = standardised(id_no=given, birth_date=BORN)
    assert (row["idno"], row["id_valid"], row["id_own"]) == (idno, valid, own)


def test_lower_case_x_is_a_check_digit(lake_home: Path) -> None:
    number = next(n for s in range(1, 999) if (n := id_number(BORN, s)).endswith("X"))
    assert standardised(id_no=number.lower(), birth_date=BORN)["id_own"]


def test_the_guardians_id_is_valid_but_not_trusted(lake_home: Path) -> None:
    row = standardised(id_no=VALID, birth_date=date(2019, 8, 3))
    assert row["id_valid"] and not row["id_own"]
    assert row["dob"] == "20190803", "the record's own birth date stays"


def test_an_id_tells_birth_date_and_sex_where_they_lack(lake_home: Path) -> None:
    row = standardised(id_no=VALID, birth_date=None, sex_code="9")
    assert (row["dob"], row["sex"]) == ("19600517", "1")


@pytest.mark.parametrize(
    "day", [date(1800, 1, 1), date(1900, 1, 1), date(2099, 12, 31), date(2026, 11, 21), None]
)
def test_a_date_nobody_was_born_on_is_no_evidence(lake_home: Path, day: date | None) -> None:
    assert standardised(birth_date=day)["dob"] is None


@pytest.mark.parametrize(
    ("given", "phone"),
    [
        ("13907221234", "13907221234"),
        ("+86 139-0722-1234", "13907221234"),
        ("１３９０７２２１２３４", "13907221234"),
        ("0728-3322110", None),
        ("13800000000", None),
        ("1390722123", None),
        ("无", None),
        (None, None),
    ],
)
def test_phones(lake_home: Path, given: str | None, phone: str | None) -> None:
    assert standardised(phone=given)["phone"] == phone


def test_a_phone_that_half_a_village_gives_is_no_evidence(lake_home: Path) -> None:
    rows = [registration(str(i), "王小明", phone="13907221234") for i in range(41)]
    connection, _ = world([*rows, registration("x", "王小明", phone="13907225678")])
    standardise(connection, TODAY)
    assert connection.execute("SELECT phone, count(*) FROM record GROUP BY 1 ORDER BY 2").fetchall() == [
        ("13907225678", 1),
        (None, 41),
    ]


def test_an_id_on_many_names_is_no_evidence(lake_home: Path) -> None:
    rows = [
        registration(str(i), "王李张刘陈杨黄赵吴"[i] + "大山", id_no=VALID, birth_date=BORN) for i in range(9)
    ]
    connection, _ = world(rows)
    standardise(connection, TODAY)
    assert connection.execute("SELECT DISTINCT idno, id_valid, id_own FROM record").fetchall() == [
        (None, False, False)
    ]


@pytest.mark.parametrize(
    ("given", "nm", "sn"),
    [
        ("王小明", "王小明", "王"),
        ("  王 小　明 ", "王小明", "王"),
        ("欧阳修文", "欧阳修文", "欧阳"),
        ("欧阳", "欧阳", "欧"),
        ("阿卜杜拉·买买提", "阿卜杜拉买买提", "阿"),
        ("王小明2", "王小明", "王"),
        ("王×明", "王*明", "王"),
        ("王小明（已故）", "王小明", "王"),
        ("张米文(小)", "张米文", "张"),
        ("王玉彩A", "王玉彩", "王"),
        ("汪佳延01", "汪佳延", "汪"),
        ("𠮷田𠮷", "𠮷田𠮷", "𠮷"),
        ("长" * 40, "长" * 40, "长"),
    ],
)
def test_names(lake_home: Path, given: str, nm: str, sn: str) -> None:
    row = standardised(name=given)
    assert (row["nm"], row["sn"]) == (nm, sn)
    assert len(row["name_py"]) == len(row["nm"])


@pytest.mark.parametrize(
    "given", ["无名氏", "无名氏男", "未知", "急诊001", "佚名", "姓名不详", "测试患者", "---"]
)
def test_nobody_knows_who_it_is(lake_home: Path, given: str) -> None:
    row = standardised(name=given, id_no=VALID, phone="13907221234", health_card_no="HC00112233")
    assert row["is_unknown"]
    assert [row[c] for c in ("nm", "idno", "phone", "card")] == [None] * 4


@pytest.mark.parametrize(
    ("given", "mother", "mark"),
    [
        ("张丽之子", "张丽", "之子"),
        ("张丽之长女", "张丽", "之长女"),
        ("张丽之女B", "张丽", "之女B"),
        ("张丽 之子2", "张丽", "之子2"),
        ("欧阳丽婴儿", "欧阳丽", ""),
        ("张丽之婴", "张丽", ""),
        ("张丽毛毛", "张丽", ""),
    ],
)
def test_a_newborn_has_its_mothers_name_and_number(
    lake_home: Path, given: str, mother: str, mark: str
) -> None:
    row = standardised(name=given, id_no=VALID, birth_date=date(2026, 11, 2))
    assert (row["mother_nm"], row["birth_mark"]) == (mother, mark)
    assert (row["nm"], row["idno"], row["id_own"]) == (None, None, False)


@pytest.mark.parametrize("given", ["李宝儿", "张子", "王之女士", "陈晓婴", "毛毛"])
def test_a_given_name_is_not_taken_for_a_newborns(given: str) -> None:
    assert names.newborn(names.clean(given)) is None


def test_sound_and_look_keys() -> None:
    given = ["王晓明", "汪小名", "王晓朋", "李晓明"]
    rows = {r["name"]: r for r in names.name_table(given).to_pylist()}
    assert rows["王晓明"]["name_py"] == rows["汪小名"]["name_py"] != rows["李晓明"]["name_py"]
    assert rows["王晓明"]["name_shape"] == rows["王晓朋"]["name_shape"] != rows["汪小名"]["name_shape"]
    assert rows["王晓明"]["sn_py"] == rows["汪小名"]["sn_py"]


def test_keys_of_one_name_do_not_depend_on_the_others() -> None:
    alike = [
        names.name_table(n)["name_py"].to_pylist()
        for n in (["王晓明", "汪小名"], ["汪小名", "王晓明", "旺肖鸣"])
    ]
    assert len(set(alike[0])) == len(set(alike[1])) == 1


@pytest.mark.parametrize(
    ("code", "text", "town", "village", "house"),
    [
        (None, "湖东区湖滨街道湖滨老洲社区3组12号", "湖滨", "老洲", "12"),
        (None, "医湖市湖东区湖滨街道老洲社区３组１２号", "湖滨", "老洲", "12"),
        (None, "湖滨老洲3-12", "湖滨", "老洲", "12"),
        (None, "湖滨街道老洲", "湖滨", "老洲", None),
        (None, "汉江省医湖市湖东区湖滨街道老洲社区302号1单元401室", "湖滨", "老洲", "302"),
        (None, "湖滨老洲社区302", "湖滨", "老洲", "302"),
        (None, "湖滨街道老洲村３组３０２号", "湖滨", "老洲", "302"),
        (None, "湖东区湖滨街道", "湖滨", None, None),
        ("429701001201", None, "湖滨", "老洲", None),
        ("429701001201", "湖东区3组12号", "湖滨", "老洲", "12"),
        ("429701001", None, "湖滨", None, None),
        (None, "不详", None, "不详", None),
        (None, None, None, None, None),
    ],
)
def test_addresses(
    lake_home: Path,
    code: str | None,
    text: str | None,
    town: str | None,
    village: str | None,
    house: str | None,
) -> None:
    row = standardised(addr_region_code=code, addr_detail=text)
    assert (row["town"], row["village"], row["house"]) == (town, village, house)


def test_a_bare_village_is_the_one_of_the_centre_that_writes_it(lake_home: Path) -> None:
    """新埠 is a village of several towns; to the centre of 青岭 (C210) it is its own."""
    rows = [registration(c, "王小明", org_code=c, addr_detail="新埠社区216号") for c in ("C210", "H001")]
    connection, _ = world(rows)
    standardise(connection, TODAY)
    assert connection.execute("SELECT org_code, town, village, house FROM record ORDER BY 1").fetchall() == [
        ("C210", "青岭", "新埠", "216"),
        ("H001", None, "新埠", "216"),
    ]
