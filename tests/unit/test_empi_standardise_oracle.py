"""The standardising SQL against the same rules written row by row in Python, on a few thousand ugly registrations."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from empi import names
from empi.standardise import standardise
from tests.empi_world import TODAY, check_digit, id_number, registration, world

_WIDE = str.maketrans("０１２３４５６７８９ＸｘＡ＊", "0123456789XXA*")
_JUNK_DAYS = {date(1800, 1, 1), date(1900, 1, 1), date(1899, 12, 30), date(1970, 1, 1), date(1949, 10, 1)}
_KEYBOARD = {"123456789012345678", "1" * 18, "0" * 18, "9" * 18}
_DOCUMENT = re.compile(r"[A-Z]{1,2}[0-9]{7,10}")


def _day(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


def _is_placeholder(s: str) -> bool:
    return s in _KEYBOARD or not s.strip(s[0]) or s.startswith("123456789")


def _number(given: str | None, born: date | None) -> str | None:
    """An identifier as it may be compared: 15 digits become 18, a masked day is filled in where the check digit says so."""
    s = re.sub(r"[^0-9A-Z*]", "", (given or "").translate(_WIDE).upper())
    if re.fullmatch(r"\d{17}[\dX]", s) and not _is_placeholder(s):
        return s
    if re.fullmatch(r"\d{15}", s) and _day(f"19{s[6:12]}"):
        first = f"{s[:6]}19{s[6:]}"
        return first + check_digit(first)
    if "*" in s:
        if born and re.fullmatch(r"\d{10}\*{4}\d{3}[\dX]", s):
            whole = s[:10] + f"{born:%m%d}" + s[14:]
            return whole if check_digit(whole[:17]) == s[-1] else None
        return None
    if _DOCUMENT.fullmatch(s) or (re.fullmatch(r"[0-9X]{15,20}", s) and not _is_placeholder(s)):
        return s
    return None


def _mobile(given: str | None) -> str | None:
    digits = re.sub(r"[^0-9]", "", (given or "").translate(_WIDE))[-11:]
    same = any(str(d) * 8 in digits for d in range(10))
    return digits if re.fullmatch(r"1[3-9]\d{9}", digits) and not same else None


def _card(given: str | None) -> str | None:
    plain = re.sub(r"[^0-9A-Za-z]", "", given or "").upper()
    return plain if len(plain) >= 6 and plain.strip(plain[0]) else None


def one_slip(a: str, b: str) -> bool:
    """One character changed, lost, added, or two neighbours swapped: the definition, by trying all of them."""
    if a == b or len(a) != len(b):
        return a == b
    at = [i for i in range(len(a)) if a[i] != b[i]]
    swapped = len(at) == 2 and at[1] == at[0] + 1 and (a[at[0]], a[at[1]]) == (b[at[1]], b[at[0]])
    return len(at) == 1 or swapped


def expected(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What ``record`` must say of rows whose names are all known and grown-up: id, validity, trust, birth, sex, phones."""
    first: list[tuple[str | None, date | None]] = []
    sharing: dict[str, set[str]] = defaultdict(set)
    phones: Counter[str] = Counter()
    for row in rows:
        given = row["birth_date"]
        born = given if given and date(1880, 1, 1) <= given <= TODAY and given not in _JUNK_DAYS else None
        number = _number(row["id_no"], born)
        first.append((number, born))
        if number:
            sharing[number].add(row["name"])
        if phone := _mobile(row["phone"]):
            phones[phone] += 1
    found: list[tuple[Any, ...]] = []
    for row, (number, born) in zip(rows, first, strict=True):
        says = _day(number[6:14]) if number and len(number) == 18 else None
        national = bool(
            number
            and says
            and "1" <= number[0] <= "8"
            and check_digit(number[:17]) == number[17]
            and date(1880, 1, 1) <= says <= TODAY
        ) if number and number[:17].isdigit() else False  # fmt: skip
        document = bool(number and _DOCUMENT.fullmatch(number))
        shared = bool(number) and len(sharing[number or ""]) > 8
        agrees = born is None or (
            says is not None
            and (
                born == says
                or (born.year == says.year and f"{born:%m%d}" == "0101")
                or one_slip(f"{born:%Y%m%d}", f"{says:%Y%m%d}")
            )
        )
        own = (
            (document or (national and agrees))
            and not shared
            and "*" not in (row["id_no"] or "").translate(_WIDE)
        )
        day = born or (says if national and not shared else None)
        sex = row["sex_code"] if row["sex_code"] in ("1", "2") else None
        if sex is None and national and number and not shared:
            sex = "1" if int(number[16]) % 2 else "2"
        phone, kin = _mobile(row["phone"]), _mobile(row["contact_phone"])
        found.append(
            (
                row["identifier_value"],
                None if shared else number,
                (national or document) and not shared,
                own,
                f"{day:%Y%m%d}" if day else None,
                born is None and day is not None,
                sex,
                phone if phones[phone or ""] <= 40 else None,
                kin if phones[kin or ""] <= 40 else None,
                _card(row["health_card_no"]),
                _card(row["insurance_no"]),
            )
        )
    return found


def ugly(count: int, seed: int) -> list[dict[str, Any]]:
    """Registrations with every fault of the rules at once; names differ in sound, so that names count as themselves."""
    r = random.Random(seed)
    crowd, lent = "13907220001", id_number(date(1970, 5, 5), 77)
    grown = [a + b for a in "王李张刘陈杨赵吴" for b in ("大山", "海", "小明", "建国")]

    def number(born: date) -> str | None:
        whole = id_number(born, r.randrange(1, 999))
        spoiled = [
            whole, whole, whole, whole.lower(), f" {whole[:6]} {whole[6:14]}-{whole[14:]} ", whole[:6] + whole[8:17],
            whole[:17] + r.choice("0123456789X"), whole[:10] + "****" + whole[14:], whole[:10] + "＊＊＊＊" + whole[14:],
            whole[:9] + "*****" + whole[14:], whole.translate(str.maketrans("0123456789X", "０１２３４５６７８９Ｘ")),
            "9" + whole[1:], whole[:6] + "18000230" + whole[14:], whole[:17], whole + "1", "4.29E+17", "无", "", None,
            r.choice(sorted(_KEYBOARD)), "12345678900000000X", f"E{r.randrange(10**7, 10**8)}", f"h{r.randrange(10**9)}",
            f"HA{r.randrange(10**6, 10**9)}", lent, "000000000000000", "429701" + "990231" + "123", "１" * 18,
        ]  # fmt: skip
        return r.choice(spoiled)

    def phone() -> str | None:
        plain = f"1{r.randrange(3, 10)}{r.randrange(10**9):09d}"
        spoiled = [
            plain,
            plain,
            plain,
            f"+86 {plain[:3]}-{plain[3:]}",
            plain[:10],
            f"0728-{plain[:7]}",
            crowd,
            "13811111111",
        ]
        return r.choice(
            [*spoiled, plain.translate(str.maketrans("0123456789", "０１２３４５６７８９")), "无", None]
        )

    rows = []
    for n in range(count):
        born = date(1925, 1, 1) + timedelta(days=r.randrange(37_000))
        said = r.choice(
            [born, born, born, born.replace(day=1), born.replace(year=born.year - 1, day=1), None]
        )
        said = r.choice([said] * 9 + [*sorted(_JUNK_DAYS), TODAY + timedelta(days=1), TODAY])
        rows.append(
            registration(
                f"{n:05d}",
                r.choice(grown),
                birth_date=said,
                id_no=number(born),
                sex_code=r.choice(["1", "2", "9", None]),
                phone=phone(),
                contact_phone=phone(),
                health_card_no=r.choice(["A 12-3456", "AAAAAA", "12345", "ｋ123456", None, f"k{n:07d}"]),
                insurance_no=r.choice(["000000", "X-0000001", None]),
            )
        )
    return rows


def test_the_sql_is_the_rules(lake_home: Path) -> None:
    rows = ugly(4000, 5)
    connection, _ = world(rows)
    standardise(connection, TODAY)
    found = connection.execute(
        """SELECT identifier_value, idno, id_valid, id_own, dob, dob_from_id, sex, phone, kin_phone, card, insurance
        FROM record ORDER BY identifier_value"""
    ).fetchall()
    wanted = expected(rows)
    assert [(f, w) for f, w in zip(found, wanted, strict=True) if f != w][:3] == []
    assert {w[2:4] for w in wanted} == {(True, True), (True, False), (False, False)}, (
        "the set has all of them"
    )
    assert any(w[1] is None and r["id_no"] for w, r in zip(wanted, rows, strict=True))


def test_every_kind_of_identifier_has_its_column(lake_home: Path) -> None:
    born = date(1985, 7, 9)
    mother = registration("M", "张丽", id_no=id_number(born, 446), birth_date=born, phone="13907221234")
    child = registration(
        "N", "张丽之子", birth_date=date(2026, 11, 1), id_no=id_number(born, 446), mother_identifier="M"
    )
    kinds = {
        "national": {"id_no": id_number(born, 123)},
        "passport": {"id_no": "E12345678"},
        "passport_2": {"id_no": "EA1234567"},
        "hongkong": {"id_no": "H0123456702"},
        "taiwan": {"id_no": "T12345678"},
        "residence": {
            "id_no": id_number(date(1999, 1, 4), 11, "810000")
        },  # of a Hong Kong resident, born there
        "card": {"health_card_no": "K-1234567"},
        "insurance": {"insurance_no": "42970100012345"},
    }
    people = [registration(k, "王小明", birth_date=None, **v) for k, v in kinds.items()]
    connection, number = world([mother, child, *people])
    standardise(connection, TODAY)
    row = {
        r[0]: r[1:]
        for r in connection.execute(
            "SELECT identifier_value, idno, id_own, card, insurance, phone FROM record"
        ).fetchall()
    }
    for kind in ("national", "passport", "passport_2", "hongkong", "taiwan", "residence"):
        assert row[kind][:2] == (kinds[kind]["id_no"], True), kind
    assert row["card"] == (None, False, "K1234567", None, None)
    assert row["insurance"] == (None, False, None, "42970100012345", None)
    assert row["N"] == (None, False, None, None, "13907221234"), (
        "the mother's number is not the newborn's; her phone is"
    )
    assert len(number) == 10, "a local number stays what it is: the record's key"


def test_traditional_characters_are_compared_and_kept(lake_home: Path) -> None:
    connection, number = world(
        [registration("t", "張偉國"), registration("s", "张伟国"), registration("c", "歐陽麗")]
    )
    standardise(connection, TODAY)
    rows = {
        r[0]: r[1:]
        for r in connection.execute(
            "SELECT rec_no, nm, name_py, name_shape, sn, sn_py FROM record"
        ).fetchall()
    }
    assert rows[number["t"]][0] == "張偉國", "the name stays as it was written"
    assert rows[number["t"]][1:] == rows[number["s"]][1:]
    assert rows[number["c"]][3] == "欧阳"


def test_characters_outside_the_basic_plane_have_sounds_and_lengths() -> None:
    given = ["王𣲗", "王韦", "王𣲗\U000e0100", "ＷＡＮＧ", "𠮷田"]
    one, other, marked, wide, silent = names.name_table(given).to_pylist()
    assert (one["nm"], len(one["name_py"])) == ("王𣲗", 2)
    assert one["name_py"] == other["name_py"], "both are read wei"
    assert (silent["sn"], silent["name_py"][0]) == ("𠮷", "𠮷"), "without a known sound it stands for itself"
    assert marked["nm"] == one["nm"], "a variation selector is no character"
    assert wide["nm"] == "WANG"


def test_a_key_does_not_depend_on_the_company() -> None:
    alone = names.name_table(["李娜"]).to_pylist()[0]
    among = names.name_table(["丽娜", "力哪", "李娜", "黎那"]).to_pylist()
    assert among[2] == alone
    assert among[0]["name_py"] == alone["name_py"]


def test_what_tells_of_nobody_or_a_newborn_is_looked_for_in_the_right_names() -> None:
    words = "无名 无姓名 不详 未知 佚名 无主 三无 某某 某 急诊 测试 待查 患者 病人 NULL NONE".split()
    babies = "之子 之长女 之大女 毛毛 之毛毛 宝宝 之宝 之婴 之婴儿 婴儿 新生儿 BB 之双子A 之次子2".split()
    given = [*words, *(f"张丽{b}" for b in babies), "", "王小明"]
    for name, row in zip(given, names.name_table(given).to_pylist(), strict=True):
        cleaned = names.clean(name)
        assert row["is_unknown"] == names.is_unknown(cleaned), name
        assert (row["mother_nm"] is not None) == (names.newborn(cleaned) is not None), name
    assert sum(r["is_unknown"] for r in names.name_table(given).to_pylist()) == len(words) + 1
