"""Names: cleaned, split into surname and given name, with a key by sound and a key by shape.

The work is per distinct name and per distinct *character*: the keys come from one ``str.translate`` over all
names at once (a C loop), so six million names cost seconds. A key puts in each character's place the one that
stands for its class, hence has the name's length: ``name_py`` for the toneless syllable, ``name_shape`` for the
look.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from empi.look_alikes import canonical
from empi.variants import simplified

#: Two-character surnames in use.
COMPOUND_SURNAMES = frozenset(
    "欧阳 上官 司马 诸葛 东方 皇甫 尉迟 公孙 慕容 令狐 长孙 宇文 司徒 夏侯 端木 闻人 赫连 南宫 司空 轩辕 "
    "钟离 淳于 单于 申屠 太史 公羊 濮阳 万俟 独孤 呼延 西门 东郭 澹台 拓跋".split()
)

#: A desk that does not know whom it has before it writes one of these.
_UNKNOWN = re.compile(
    r"无名|无姓名|不详|未知|佚名|无主|三无|某某|^某|^急诊|^测试|待查|^患者$|^病人$|^NULL$|^NONE$|^$"
)
#: A newborn under its mother's name: 张丽之子, 张丽之长女, 张丽之子A, 张丽毛毛, 张丽婴儿.
_NEWBORN = re.compile(
    r"^(.{2,}?)(?:之[大小长次双一二三]?[子女婴儿宝]儿?|之?毛毛|之?宝宝|之婴儿?|婴儿|新生儿|BB)[一二三123AB]?$"
)
#: A baby is a baby: these say neither sex nor order.
_NEUTRAL = re.compile(r"之?毛毛|之?宝宝|之[婴宝]儿?|婴儿|新生儿|BB")
#: A remark in brackets (已故, 小).
_REMARK = re.compile(r"[(\[【〔][^)\]】〕]*[)\]】〕]")
#: Blanks, marks, and what fonts want but readers do not see (joiners, variation selectors).
_DROP = re.compile(
    r"[\s\ufeff\u00ad\u200b-\u200f\u2060\ufe00-\ufe0f\U000e0100-\U000e01ef%·•・．.。,，、()\[\]【】〔〕\-_/\\^=]+"
)
#: One of these stands in every name that ``_UNKNOWN`` or ``_NEWBORN`` finds, and in few others (a test holds it).
TELLING = frozenset("无不未佚某急测待患病之毛宝婴新NB")
_PLAIN = re.compile(r"[\u4e00-\u9fff]+")
#: What a desk puts behind the second 王伟 on its list.
_TAG = re.compile(r"[0-9]+|(?<=[\u4e00-\u9fff])[A-D]$")

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string()),  # as the source gave it
        pa.field("nm", pa.string()),  # clean; null for an unknown person and a nameless newborn
        pa.field("name_py", pa.string()),
        pa.field("name_shape", pa.string()),
        pa.field("sn", pa.string()),
        pa.field("sn_py", pa.string()),
        pa.field("mother_nm", pa.string()),  # whose child a nameless newborn is
        pa.field(
            "birth_mark", pa.string()
        ),  # what follows the mother's name and tells of sex and order; may be ""
        pa.field("is_unknown", pa.bool_()),
    ]
)


def clean(name: str) -> str:
    """NFKC, upper case, without remarks in brackets, spaces, dots and list numbers; masks become ``*`` and stay.

    The number or letter of a nameless newborn stays too: it tells twins apart.
    """
    if _PLAIN.fullmatch(name):
        return name  # nearly all of them, and nothing below would change one
    plain = _DROP.sub("", _REMARK.sub("", unicodedata.normalize("NFKC", name).replace("×", "*").upper()))
    return plain if _NEWBORN.match(plain) else _TAG.sub("", plain)


def surname(name: str) -> str:
    """The surname of a clean name: two characters if they are a compound surname and a given name follows.

    A name in Latin letters is its own surname, so that it is compared as a whole: its letters are no characters.
    """
    if name.isascii():
        return name
    return name[:2] if len(name) > 2 and name[:2] in COMPOUND_SURNAMES else name[:1]


def is_unknown(name: str) -> bool:
    """Whether a clean name says that nobody knows who it is."""
    return bool(_UNKNOWN.search(name))


def newborn(name: str) -> tuple[str, str] | None:
    """Mother's name and what follows it, if a clean name is that of a child without a given name (Webb is a name)."""
    found = None if name.isascii() else _NEWBORN.match(name)
    return (found.group(1), name[found.end(1) :]) if found else None


@lru_cache(maxsize=1)
def syllables() -> dict[int, str]:
    """Character -> the first character, in code-point order, with the same toneless syllable.

    Over all characters that pypinyin knows (41,923, outside the BMP too), so that a name's key is the same in every set
    of names; a character without a known sound stands for itself.
    """
    from pypinyin import lazy_pinyin
    from pypinyin.pinyin_dict import pinyin_dict

    first: dict[str, str] = {}
    return {code: first.setdefault(lazy_pinyin(chr(code))[0], chr(code)) for code in sorted(pinyin_dict)}


def _translated(names: Sequence[str], table: dict[int, str]) -> list[str]:
    return "\n".join(names).translate(table).split("\n") if names else []


def name_columns(names: Sequence[str]) -> list[list[Any]]:
    """The columns of ``SCHEMA`` for names as given."""
    cleaned = [clean(n) for n in names]
    telling = [not n or not TELLING.isdisjoint(n) for n in cleaned]
    unknown = [t and is_unknown(n) for n, t in zip(cleaned, telling, strict=True)]
    births = [newborn(n) if t else None for n, t in zip(cleaned, telling, strict=True)]
    usable = ["" if u or b else n for n, u, b in zip(cleaned, unknown, births, strict=True)]
    plain = _translated(usable, simplified())  # for the keys alone: the name stays as it was written
    sound = _translated(plain, syllables())
    shape = _translated(plain, canonical())
    surnames = [surname(n) for n in plain]
    return [
        list(names),
        [n or None for n in usable],
        [n or None for n in sound],
        [n or None for n in shape],
        [s or None for s in surnames],
        [n[: len(s)] or None for n, s in zip(sound, surnames, strict=True)],
        [b[0] if b else None for b in births],
        [_NEUTRAL.sub("", b[1]) if b else None for b in births],
        unknown,
    ]


def name_table(names: Sequence[str]) -> pa.Table:
    """One row per distinct name as given (``SCHEMA``)."""
    return pa.table(name_columns(names), schema=SCHEMA)
