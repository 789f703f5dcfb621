"""HL7's composite data types of many segments at once: CX identifiers, XPN, XTN, XAD, OBX-5 and its numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.readers.hl7v2.columns import Fields, by_value, has, nulls, part, unescaped, where
from ingestion.readers.hl7v2.text import STANDARD
from ingestion.readers.names import has_ideographs, joined

#: CX-5 (table 0203): what kind of identifier a repetition of PID-3 is, in order of preference.
LOCAL = ("MR", "PI", "PT", "")
NATIONAL = ("NI", "NNCHN", "NNCN", "PPN", "DL", "SB")
HEALTH_CARD = ("HC", "JHN")
INSURANCE = ("SN", "MI", "HI", "SI")

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_VALUE = re.compile(rf"^\s*(<=|>=|≤|≥|<|>|＜|＞)?\s*({_NUMBER})\s*[↑↓]*\s*$")
_RANGE = re.compile(rf"^\s*({_NUMBER})\s*(?:-{{1,3}}|~|～|－|—|–|至)\s*({_NUMBER})\s*$")
_BOUND = {"≤": "<=", "≥": ">=", "＜": "<", "＞": ">"}


# ---- one text at a time


@lru_cache(maxsize=65536)
def quantity(text: str) -> tuple[str | None, str | None]:
    """(number, comparator) of a result text: ``<0.5`` is 0.5 with ``<``, ``5.6↑`` is 5.6, words are neither."""
    found = _VALUE.match(text)
    if not found:
        return None, None
    sign = found.group(1)
    return found.group(2), _BOUND.get(sign, sign) if sign else None


@lru_cache(maxsize=65536)
def reference_range(text: str) -> tuple[str | None, str | None]:
    """(low, high) of a range text: ``3.5-9.5``, ``3.5~9.5``, ``<5.2`` (high only), ``≥1.04`` (low only)."""
    found = _RANGE.match(text)
    if found:
        return found.group(1), found.group(2)
    number, sign = quantity(text)
    if sign in ("<", "<="):
        return None, number
    if sign in (">", ">="):
        return number, None
    return None, None


def person_name(value: str) -> str:
    """XPN (XCN from its second component): family, given, further names; the ideographic repetition wins."""
    names = []
    for repetition in value.split("~"):
        parts = [p.split("&", 1)[0] for p in repetition.split("^")[:3]]
        names.append(STANDARD.unescape(joined(parts)))
    return next((n for n in names if has_ideographs(n)), names[0])


def telephone(value: str) -> str:
    """XTN-1, else the unformatted XTN-12, else area code and number (XTN-6, XTN-7)."""
    one = STANDARD.component_of
    return one(value, 1) or one(value, 12) or one(value, 6) + one(value, 7)


def address(value: str) -> str:
    """XAD: a Chinese address as one text from province to door, others in the order of the standard."""
    parts = [STANDARD.component_of(value, n) for n in (1, 2, 3, 4, 5)]
    if has_ideographs(value):
        street, other, city, province, _ = parts
        return "".join(p for p in (province, city, other, street) if p)
    return ", ".join(p for p in parts if p)


def coded_text(value: str) -> str:
    """CE and its kin: the texts of all repetitions, else their codes."""
    one = STANDARD.component_of
    texts = [one(v, 2) or one(v, 1) for v in value.split("~")]
    return "; ".join(t for t in texts if t)


def structured_numeric(value: str) -> str:
    """SN: comparator, number, separator, number, put together."""
    return "".join(STANDARD.component_of(value, n) for n in (1, 2, 3, 4))


def free_text(value: str) -> str:
    return STANDARD.unescape(value.replace("~", "; "))


# ---- columns


def _special(values: pa.StringArray) -> pa.BooleanArray:
    return pc.match_substring_regex(values, r"[\^~&\\]")


def composite(values: pa.StringArray, function: Callable[[str], str]) -> pa.StringArray:
    """A function of composite fields; a plain value (no separator in it) is its own."""
    return where(_special(values), values, function)


def first_filled(*columns: pa.StringArray) -> pa.StringArray:
    """The first of some columns that has a value that is not empty."""
    found = columns[0]
    for column in columns[1:]:
        empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(found), ""), True)
        if not pc.any(empty).as_py():
            break
        found = pc.if_else(empty, column, found)
    return found


class Identifiers:
    """A CX field with repetitions: which of them is the institution's own id, a national document, a card."""

    def __init__(self, fields: Fields, number: int) -> None:
        values, self._owners = fields.repetitions(number)
        self._count = fields.count
        self._typed = has(fields.raw(number), "^") or has(fields.raw(number), "~")
        self._plain = unescaped(part(fields.raw(number), "&", 0))
        self._ids = unescaped(part(part(values, "^", 0), "&", 0))
        kinds = part(part(values, "^", 4), "&", 0)
        self._kinds = pc.fill_null(kinds, "")
        self._filled = np.asarray(
            pc.fill_null(pc.not_equal(self._ids, ""), False).to_numpy(zero_copy_only=False), bool
        )

    def _best(self, rank: dict[str, int], other: int | None) -> tuple[pa.StringArray, pa.StringArray]:
        """Id and kind of the repetition of the lowest rank; ``other``: rank of kinds that have none."""
        coded = self._kinds.dictionary_encode()
        kinds = coded.dictionary.to_pylist()
        ranks = np.array([rank.get(k, -1 if other is None else other) for k in kinds], np.int64)
        own = ranks[coded.indices.to_numpy()]
        usable = np.flatnonzero((own >= 0) & self._filled)
        order = usable[np.lexsort((usable, own[usable], self._owners[usable]))]
        owners, firsts = np.unique(self._owners[order], return_index=True)
        at = np.full(self._count, -1)
        at[owners] = order[firsts]
        index = pa.array(np.where(at < 0, 0, at), mask=at < 0)
        return self._ids.take(index), self._kinds.take(index)

    def local(self) -> pa.StringArray:
        """The id typed MR, else PI, PT, untyped, else the first that is no document."""
        if not self._typed:
            return self._plain
        rank = {k: n for n, k in enumerate(LOCAL)}
        rank |= dict.fromkeys(NATIONAL + HEALTH_CARD + INSURANCE, -1)
        return self._best(rank, len(LOCAL))[0]

    def of(self, kinds: tuple[str, ...]) -> pa.StringArray:
        if not self._typed:
            return nulls(self._count)
        return self._best({k: n for n, k in enumerate(kinds)}, None)[0]

    def kind_of(self, kinds: tuple[str, ...]) -> pa.StringArray:
        if not self._typed:
            return nulls(self._count)
        return self._best({k: n for n, k in enumerate(kinds)}, None)[1]


def national_type(fields: Fields, number: int) -> pa.StringArray:
    """The kind of a PID's national document; NI for the number that old senders put into PID-19 alone."""
    old = pc.fill_null(pc.not_equal(fields.component(19), ""), False)
    return first_filled(
        Identifiers(fields, number).kind_of(NATIONAL), pc.if_else(old, "NI", pa.scalar(None, pa.string()))
    )


def loinc(fields: Fields, number: int) -> pa.StringArray:
    """The LOINC of a coded entry: its alternate code, else its code where its system is LN."""
    systems = fields.component(number, 3)
    named = pc.fill_null(pc.equal(systems, "LN"), False)
    own = pc.if_else(named, fields.component(number, 1), pa.scalar(None, pa.string()))
    return first_filled(fields.component(number, 4), own)


def inpatient(fields: Fields, number: int) -> pa.StringArray:
    """A field of PV1 where its class (PV1-2) is inpatient."""
    within = pc.is_in(fields.component(2), pa.array(["I", "IP", "IMP", "ACUTE"]))
    return pc.if_else(within, fields.component(number), pa.scalar(None, pa.string()))


def icd10(fields: Fields, number: int) -> pa.StringArray:
    """A diagnosis code, unless it says that it is of another system (table 0396: ICD-9, SNOMED, Read)."""
    system = pc.fill_null(fields.component(number, 3), "")
    other = pc.match_substring_regex(system, "^(I9|ICD-?9|SCT|SNM|SNOMED|RC)")
    return pc.if_else(other, pa.scalar(None, pa.string()), fields.component(number))


def whole_date(fields: Fields, number: int, component: int) -> pa.StringArray:
    """The day of a time; none where only a year or a month is told."""
    day = pc.utf8_slice_codeunits(fields.component(number, component), 0, 8)
    return pc.if_else(pc.equal(pc.utf8_length(day), 8), day, pa.scalar(None, pa.string()))


def signed(fields: Fields, number: int) -> pa.StringArray:
    """An amount; that of a credit (FT1-6 is CD) is below zero."""
    amount = fields.component(number)
    credit = pc.fill_null(pc.equal(fields.component(6), "CD"), False)
    positive = pc.fill_null(pc.match_substring_regex(amount, r"^\+?[0-9.]"), False)
    both = pc.and_(credit, positive)
    return where(both, amount, lambda a: "-" + a.lstrip("+"))


def result_text(fields: Fields) -> pa.StringArray:
    """OBX-5 as text by its type (OBX-2); what is embedded or referred to (ED, RP) is no text."""
    values = fields.raw(5)
    beside = pc.is_in(fields.raw(2), pa.array(["ED", "RP"]))
    if pc.any(beside).as_py():
        values = pc.if_else(pc.fill_null(beside, False), pa.scalar(None, pa.string()), values)
    if not has(values, "^"):
        return composite(values, free_text)
    kinds = pc.fill_null(fields.raw(2), "")
    nested = pc.fill_null(pc.match_substring(values, "^"), False)
    coded = pc.and_(nested, pc.is_in(kinds, pa.array(["CE", "CWE", "CNE", "CF"])))
    numeric = pc.and_(nested, pc.equal(kinds, "SN"))
    others = pc.and_(pc.invert(pc.or_(coded, numeric)), pc.fill_null(_special(values), False))
    found = where(coded, values, coded_text)
    found = where(numeric, found, structured_numeric)
    return where(others, found, free_text)


def numbers(texts: pa.StringArray) -> tuple[pa.StringArray, pa.StringArray]:
    """(number, comparator) of result texts."""
    return by_value(texts, lambda t: quantity(t or "")[0]), by_value(texts, lambda t: quantity(t or "")[1])


def ranges(texts: pa.StringArray) -> tuple[pa.StringArray, pa.StringArray]:
    """(low, high) of reference ranges."""
    return by_value(texts, lambda t: reference_range(t or "")[0]), by_value(
        texts, lambda t: reference_range(t or "")[1]
    )
