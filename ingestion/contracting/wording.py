"""What a header says: which field of the dictionary it means, what it would be called, whom it may identify.

``synonyms.csv`` holds headers that sources use for fields of the dictionary beside their own labels.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ingestion import units
from lake.contracts import ENVELOPE, Field, contracts

_BRACKET = re.compile(r"\s*[(（\[【]([^()（）\[\]【】]*)[)）\]】]\s*$")
_FOLD = re.compile(r"[\s\u3000*＊_-]+")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_CHINESE = re.compile(r"[\u2e80-\U0003ffff]")

#: Headers of what identifies a person: GB/T 39725 level 4.
_PERSONAL = re.compile(
    r"姓名|身份证|证件号|电话|手机|住址|地址|家长|监护人|联系人|医保号|医保编号|卡号|病案号|住院号|患者|病人|档案"
    r"|(^|_)(name|phone|mobile|tel|addr|address|id_card|id_no|idcard|patient|card_no)($|_)"
)
_NAMING = re.compile(r"号$|编码|代码|编号|(^|_)(id|no|code|num|number|barcode)$")
_KEY = re.compile(r"号$|编号|(^|_)(id|no)$")
_FLAG = re.compile(r"是否|标志|有无|^is_|_flag$")
_TIME = re.compile(r"日期|时间|(^|_)(date|time|at|on|day)$")


@dataclass(frozen=True)
class Heading:
    """A header taken apart: its words without the unit in brackets, the unit (UCUM) if it is one, its English name."""

    text: str
    label: str
    unit: str
    name: str

    @property
    def personal(self) -> bool:
        return bool(_PERSONAL.search(self.label) or _PERSONAL.search(self.name))

    @property
    def names_something(self) -> bool:
        """Whether the values are numbers that are only names."""
        return bool(_NAMING.search(self.label) or _NAMING.search(self.name))

    @property
    def may_be_key(self) -> bool:
        return bool(_KEY.search(self.label) or _KEY.search(self.name))

    @property
    def is_flag(self) -> bool:
        return bool(_FLAG.search(self.label) or _FLAG.search(self.name))

    @property
    def is_time(self) -> bool:
        return bool(_TIME.search(self.label) or _TIME.search(self.name))


def english(text: str) -> str:
    """A name of small letters: the words of a Latin text, the sound of a Chinese one."""
    if _CHINESE.search(text):
        from pypinyin import lazy_pinyin

        words = [w for part in lazy_pinyin(text) for w in re.findall(r"[a-z0-9]+", part.lower())]
    else:
        words = [w.lower() for w in _WORDS.findall(text)]
    name = "_".join(words) or "field"
    return name if name[0].isalpha() else f"f_{name}"


def heading(text: str) -> Heading:
    bracket = _BRACKET.search(text)
    unit = units.unit_of(bracket[1]) if bracket else None
    label = _BRACKET.sub("", text) if unit else text
    return Heading(text, label, unit.ucum if unit else "", english(label))


def _folded(text: str) -> str:
    return _FOLD.sub("", text).upper()


@lru_cache(maxsize=1)
def _dictionary() -> dict[str, Field]:
    """Every spelling that some contract has for a field; labels before names, the first feed's use wins."""
    found: dict[str, Field] = {}
    by_name: dict[str, Field] = {}
    for spelling in ("label_zh", "name", "physical_name"):
        for feed in contracts().values():
            for table in feed.tables.values():
                for f in table.fields:
                    found.setdefault(_folded(getattr(f, spelling)), f)
                    by_name.setdefault(f.name, f)
    with Path(__file__).with_name("synonyms.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[_folded(row["header"])] = by_name[row["field"]]
    return found


def meant(heading: Heading) -> Field | None:
    """The dictionary's field of this name, if the header's unit can be turned into the field's."""
    same = _dictionary().get(_folded(heading.label))
    if same is None or same.name in ENVELOPE:
        return None
    if not heading.unit:
        return same
    given, wanted = units.unit_of(heading.unit), units.unit_of(same.unit) if same.unit else None
    fits = given and wanted and units.conversion(given, wanted, units.analyte_of_field(same.name))
    return same if fits else None


@lru_cache(maxsize=1)
def types() -> dict[str, str]:
    """The one type that every field name of the dictionary has."""
    return {f.name: f.type for c in contracts().values() for t in c.tables.values() for f in t.fields}


def free_name(name: str, kind: str) -> str:
    """The name itself, or with the type behind it where the dictionary or the name's ending says another type."""
    says = {"_at": "timestamp", "_on": "date"}.get(name[-3:], kind)
    flag = "boolean" if name.startswith(("is_", "has_")) else kind
    if name in ENVELOPE:
        return f"source_{name}"
    return name if {types().get(name, kind), says, flag} == {kind} else f"{name}_{kind}"
