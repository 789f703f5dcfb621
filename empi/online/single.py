"""One registration standardised by itself: the same columns as :mod:`empi.standardise` makes for millions at once.

That module is SQL over sets and needs hundredths of a second for any set; a request has a thousandth. So its rules
stand here once more, for one record; a test holds every column of thousands of registrations against it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from rapidfuzz.distance import DamerauLevenshtein

from empi import id_numbers, names
from empi.standardise import ADULT_YEARS

_WIDE = str.maketrans("０１２３４５６７８９ＸｘＡ＊", "0123456789XXA*")
_WIDE_DIGITS = str.maketrans("０１２３４５６７８９", "0123456789")
_WIDE_ADDRESS = str.maketrans("０１２３４５６７８９－—～", "0123456789---")
_A = re.ASCII
_DOCUMENT = re.compile(id_numbers.DOCUMENT, _A)
_MOBILE = re.compile(r"1[3-9]\d{9}", _A)
_SAME = re.compile(r"(\d)\1{7}", _A)
_BLANKS = re.compile(r"[\s,，。.、;；()（）]", _A)
_PROVINCE = re.compile(r"^(中国)?([^市县区]{2,3}省)?")
_CITY = re.compile(r"^[^市县区镇乡村]{2,4}市")
_COUNTY = re.compile(r"^[^市县区镇乡村道社]{2,4}[县区]")
_PLACE = re.compile(r"^[^0-9*]*")
_TOWN = re.compile(r"^(..{1,3}?)(?:街道办事处|街道|镇|乡)(.*)$")
_VILLAGE = re.compile(r"^(.*?(?:社区|村|居委会|$))")
_VILLAGE_END = re.compile(r"(村民委员会|村委会|居委会|社区|村|小区)$")
_NUMBER = re.compile(r"(\d+)号", _A)
_NO_HOUSE = re.compile(r"\d+(组|队|栋|幢|单元|室|楼)", _A)
_LAST = re.compile(r"(\d+)[^0-9]*$", _A)
_EPOCH = date(1900, 1, 1)
_FIRST_BIRTH = date(1880, 1, 1)
_NOBODYS_DAYS = frozenset(
    date.fromisoformat(d) for d in ("1800-01-01", "1900-01-01", "1899-12-30", "1970-01-01", "1949-10-01")
)


@dataclass(frozen=True)
class Query:
    """A person as somebody describes them; everything is optional, and as it was given."""

    name: str | None = None
    sex_code: str | None = None
    birth_date: date | None = None
    id_no: str | None = None
    health_card_no: str | None = None
    insurance_no: str | None = None
    phone: str | None = None
    contact_name: str | None = None
    contact_phone: str | None = None
    addr_region_code: str | None = None
    addr_detail: str | None = None
    org_code: str | None = None  # who asks: a bare village name is one of its own


@dataclass(frozen=True)
class Shared:
    """What only the whole set can tell, frozen by the last full run (``empi.calibration``)."""

    ids: frozenset[str] = frozenset()
    phones: frozenset[str] = frozenset()
    regions: Mapping[str, tuple[str | None, str | None]] = field(
        default_factory=dict
    )  # code -> town, village
    towns: tuple[str, ...] = ()
    nearby: Mapping[tuple[str | None, str], str] = field(
        default_factory=dict
    )  # (institution, village) -> town


def _day(text: str) -> date | None:
    """``YYYYMMDD`` as a date, if there was such a day."""
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


def check_digit(number: str) -> str:
    """GB 11643-1999: the check character of the first seventeen."""
    total = sum(w * (ord(c) - 48) for w, c in zip(id_numbers.WEIGHTS, number, strict=False))
    return id_numbers.CHECK_DIGITS[total % 11]


def clean_id(text: str | None) -> str | None:
    """Capital letters, digits and masks of an id as given; null when nothing is left."""
    return re.sub(r"[^0-9A-Z*]", "", text.translate(_WIDE).upper()) or None if text else None


def _is_placeholder(number: str) -> bool:
    first = id_numbers.PLACEHOLDERS[0]
    return number in id_numbers.PLACEHOLDERS or len(set(number)) == 1 or first.startswith(number[:9])


def id_18(number: str | None) -> str | None:
    """The 18-character form, of a 15-digit number too."""
    if number is None:
        return None
    if re.fullmatch(r"\d{17}[\dX]", number, _A) and not _is_placeholder(number):
        return number
    if re.fullmatch(r"\d{15}", number, _A) and _day("19" + number[6:12]):
        long = number[:6] + "19" + number[6:]
        return long + check_digit(long)
    return None


def _unmasked(text: str, born: date | None) -> str | None:
    if born is None or not re.fullmatch(r"\d{10}\*{4}\d{3}[\dX]", text, _A):
        return None
    whole = text[:10] + f"{born:%m%d}" + text[14:]
    return whole if check_digit(whole) == whole[-1] else None


def _id_number(text: str | None, born: date | None) -> str | None:
    whole = id_18(text)
    if whole is not None or text is None:
        return whole
    if "*" in text:
        return _unmasked(text, born)
    is_number = re.fullmatch(r"[0-9X]{15,20}", text, _A) and not _is_placeholder(text)
    return text if _DOCUMENT.fullmatch(text) or is_number else None


def _agree(born: date, id_born: date) -> bool:
    """Whether a record's birth date is its id's, or off by what happens to dates (``empi.id_numbers``)."""
    if born == id_born or (born.year == id_born.year and (born.month, born.day) == (1, 1)):
        return True
    return DamerauLevenshtein.distance(f"{born:%Y%m%d}", f"{id_born:%Y%m%d}") <= 1


def mobile(text: str | None) -> str | None:
    """A mobile number, or nothing: switchboards and repeated digits identify nobody."""
    if text is None:
        return None
    digits = (
        text if _MOBILE.fullmatch(text) else re.sub(r"\D", "", text.translate(_WIDE_DIGITS), flags=_A)[-11:]
    )
    return digits if _MOBILE.fullmatch(digits) and not _SAME.search(digits) else None


def clean_card(text: str | None) -> str | None:
    """Letters and digits of a card's number, at least six and not all the same."""
    plain = re.sub(r"[^0-9A-Za-z]", "", text).upper() if text else ""
    return plain if len(plain) >= 6 and len(set(plain)) > 1 else None


def _house(text: str) -> str | None:
    numbered = _NUMBER.search(text)
    if numbered:
        return numbered.group(1)
    last = _LAST.search(_NO_HOUSE.sub("-", text))
    return last.group(1) if last else None


def address(text: str | None, shared: Shared) -> tuple[str | None, str | None, str | None]:
    """Town, village and house of an address as given (see ``empi.addresses``)."""
    plain = _PROVINCE.sub("", _BLANKS.sub("", text.translate(_WIDE_ADDRESS)), count=1) if text else ""
    if not plain:
        return None, None, None
    local = _COUNTY.sub("", _CITY.sub("", plain, count=1), count=1)
    found = _PLACE.match(local)
    place = found.group(0) if found else ""
    named = _TOWN.match(place)
    if named:
        town, rest = named.group(1), named.group(2)
    else:
        town, rest = next((t for t in shared.towns if place.startswith(t)), None), place
    if town and rest.startswith(town):
        rest = rest[len(town) :]
    words = _VILLAGE.match(rest)
    village = _VILLAGE_END.sub("", words.group(0), count=1) if words else ""
    return town, village or None, _house(local[len(place) :])


def _name_keys(name: str | None) -> dict[str, Any]:
    if name is None:
        return dict.fromkeys(names.SCHEMA.names) | {"is_unknown": False}
    return dict(zip(names.SCHEMA.names, (column[0] for column in names.name_columns([name])), strict=True))


def standardise(query: Query, shared: Shared, today: date) -> dict[str, Any]:
    """The columns of ``record`` for one registration; ``is_multiple_birth`` is false, since one record shows no twins."""
    keys, kin = _name_keys(query.name), _name_keys(query.contact_name)["nm"]
    born = query.birth_date
    if born is not None and (not _FIRST_BIRTH <= born <= today or born in _NOBODYS_DAYS):
        born = None
    unknown = bool(keys["is_unknown"])
    text = clean_id(query.id_no)
    number = None if unknown or keys["birth_mark"] is not None else _id_number(text, born)
    id_born = _day(number[6:14]) if number and len(number) == 18 and number[6:14].isdigit() else None
    is_national = bool(
        number
        and len(number) == 18
        and "1" <= number[0] <= "8"
        and check_digit(number) == number[-1]
        and id_born
        and _FIRST_BIRTH <= id_born <= today
    )
    is_document = bool(number and len(number) < 15 and _DOCUMENT.fullmatch(number))
    is_shared = number in shared.ids
    agrees = is_national and (born is None or id_born is None or _agree(born, id_born))
    day = born or (id_born if is_national and not is_shared else None)
    sex = query.sex_code if query.sex_code in ("1", "2") else None
    if sex is None and is_national and not is_shared:
        sex = "1" if int(str(number)[16]) % 2 else "2"
    a_town, a_village, house = address(query.addr_detail, shared)
    g_town, g_village = shared.regions.get(query.addr_region_code or "", (None, None))
    if a_town is None and a_village is not None:
        a_town = shared.nearby.get((query.org_code, a_village)) if query.org_code else None
        a_town = a_town or shared.nearby.get((None, a_village))
    phone, kin_phone = mobile(query.phone), mobile(query.contact_phone)
    return {
        "is_unknown": unknown,
        "birth_mark": keys["birth_mark"],
        "mother_nm": keys["mother_nm"],
        **{c: keys[c] for c in ("nm", "name_py", "name_shape", "sn", "sn_py")},
        "idno": None if is_shared else number,
        "id_valid": (is_national or is_document) and not is_shared,
        "id_own": (is_document or agrees) and not is_shared and "*" not in (text or ""),
        "birth_day": day,
        "dob": f"{day:%Y%m%d}" if day else None,
        "dob_day": (day - _EPOCH).days if day else None,
        "dob_from_id": born is None and day is not None,
        "sex": sex,
        "phone": None if unknown or phone in shared.phones else phone,
        "kin_phone": None if unknown or kin_phone in shared.phones else kin_phone,
        "kin_nm": None if unknown else keys["mother_nm"] or kin,
        "is_multiple_birth": False,
        "town": g_town or a_town,
        "village": g_village or a_village,
        "house": house,
        "is_minor": None if day is None else day.year > today.year - ADULT_YEARS,
        "card": None if unknown else clean_card(query.health_card_no),
        "insurance": None if unknown else clean_card(query.insurance_no),
    }
