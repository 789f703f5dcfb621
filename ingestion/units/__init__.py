"""Units: which unit a spelling means, and how a quantity becomes one in the contract's or LOINC's canonical unit.

Data lies beside this file, each row with its source and reviewer: ``unit.csv`` (UCUM code, dimension, factor and
offset to the dimension's base), ``spelling.csv`` (what laboratories and forms write), ``analyte.csv`` (mass to
molar concentration, which needs the substance), ``loinc_unit.csv`` (canonical unit per LOINC code),
``field_analyte.csv`` (substance of a contract field), ``row_unit.csv`` (fields whose unit another field of the row
says), ``derived.csv`` (tables whose rows name the unit of each value).
UCUM has no Chinese market units; they are annotations here (``{斤}``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ingestion import reviewed

_HERE = Path(__file__).parent

#: Replaced first, each by more than one letter.
_LIGATURES = {
    "㎜": "mm",
    "㎝": "cm",
    "㎎": "mg",
    "㎏": "kg",
    "㎍": "ug",
    "㎡": "m2",
    "℃": "cel",
    "℉": "[degf]",
}
_FULL_WIDTH = "".join(chr(c) for c in range(0xFF01, 0xFF5F))
_ASCII = "".join(chr(c - 0xFEE0) for c in range(0xFF01, 0xFF5F))
_FROM = _FULL_WIDTH + "⁰¹²³⁴⁵⁶⁷⁸⁹μµ∕⁄⋅·•"
_TO = _ASCII + "0123456789uu//..."
#: Left out: blanks and what writes a power of ten (``×10^9/L``, ``10*9/L``, ``10⁹/L`` are all ``109/l``).
_DROPPED = " \t\u00a0\u3000^*×°＊＾"
_TABLE = str.maketrans(_FROM, _TO, _DROPPED)


@dataclass(frozen=True)
class Unit:
    """One unit: a value of it is ``value * factor + offset`` in the base of its dimension."""

    ucum: str
    dimension: str
    factor: float
    offset: float


@dataclass(frozen=True)
class Analyte:
    """A substance whose mass concentration has a molar sibling: ``molar = mass * factor`` in the two units."""

    name: str
    mass_loinc: str
    molar_loinc: str
    molar_unit: str
    mass_unit: str
    factor: float


@dataclass(frozen=True)
class Conversion:
    """``value * scale + offset`` is the value in the wanted unit; ``ucum`` is the unit it came in."""

    ucum: str
    scale: float
    offset: float


@dataclass(frozen=True)
class Derived:
    """A table whose rows name the unit of their value; the ``_out`` fields get the canonical quantity."""

    table: str
    value: str
    unit: str
    loinc: str
    value_out: str
    unit_out: str
    rule_out: str


def _rows(name: str) -> list[dict[str, str]]:
    return reviewed.read(_HERE / name)


@lru_cache(maxsize=65536)
def fold(text: str) -> str:
    """A spelling without what does not matter: case, blanks, full width, superscripts, signs of a power."""
    for ligature, letters in _LIGATURES.items():
        text = text.replace(ligature, letters)
    return text.translate(_TABLE).translate(_TABLE).lower()


def fold_sql(expression: str) -> str:
    """``fold`` as SQL."""
    for ligature, letters in _LIGATURES.items():
        expression = f"replace({expression}, '{ligature}', '{letters}')"
    source, target = _FROM.replace("'", "''"), _TO.replace("'", "''")
    return f"lower(translate(translate({expression}, '{source}', '{target}'), '{_DROPPED}', ''))"


@lru_cache(maxsize=1)
def units() -> dict[str, Unit]:
    """All units by UCUM code."""
    rows = _rows("unit.csv")
    return {r["ucum"]: Unit(r["ucum"], r["dimension"], float(r["factor"]), float(r["offset"])) for r in rows}


@lru_cache(maxsize=4)
def _spellings(_stamp: tuple[str, int, int]) -> dict[str, str]:
    found = {fold(code): code for code in units()}
    for row in (*_rows("spelling.csv"), *reviewed.overlay("unit_spelling")):
        found.setdefault(fold(row["spelling"]), row["ucum"])
    return found


def spellings() -> dict[str, str]:
    """Folded spelling -> UCUM code; a code is its own spelling. What people accepted while it runs is among them."""
    return _spellings(reviewed.stamp("unit_spelling"))


def unit_of(text: str) -> Unit | None:
    """The unit that a text means; None when nobody has said so."""
    if not text:
        return None
    code = spellings().get(fold(text))
    return units()[code] if code else None


@lru_cache(maxsize=1)
def analytes() -> list[Analyte]:
    return [
        Analyte(
            r["analyte_zh"],
            r["mass_loinc"],
            r["molar_loinc"],
            r["molar_unit"],
            r["mass_unit"],
            float(r["factor"]),
        )
        for r in _rows("analyte.csv")
    ]


@lru_cache(maxsize=1)
def loinc_units() -> dict[str, str]:
    """Canonical UCUM unit per LOINC code; a mass code of an analyte has its molar sibling's unit."""
    found = {r["loinc_code"]: r["ucum"] for r in _rows("loinc_unit.csv")}
    return found | {a.mass_loinc: a.molar_unit for a in analytes()}


def analyte_of(loinc: str) -> Analyte | None:
    return next((a for a in analytes() if loinc in (a.mass_loinc, a.molar_loinc)), None)


@lru_cache(maxsize=1)
def _field_analytes() -> dict[str, str]:
    return {r["field"]: r["molar_loinc"] for r in _rows("field_analyte.csv")}


def analyte_of_field(name: str) -> Analyte | None:
    """The substance that a contract field measures, by the field's name."""
    return analyte_of(_field_analytes().get(name, "-"))


def conversion(given: Unit, wanted: Unit, analyte: Analyte | None = None) -> Conversion | None:
    """How a value in one unit becomes one in another; None when they measure different things.

    Mass and molar concentrations become each other only for a known analyte.
    """
    if given.dimension == wanted.dimension:
        scale = given.factor / wanted.factor
        return Conversion(given.ucum, scale, (given.offset - wanted.offset) / wanted.factor)
    if analyte is None:
        return None
    mass, molar = units()[analyte.mass_unit], units()[analyte.molar_unit]
    if (given.dimension, wanted.dimension) == (mass.dimension, molar.dimension):
        scale = given.factor / mass.factor * analyte.factor * molar.factor / wanted.factor
        return Conversion(given.ucum, scale, 0.0)
    if (given.dimension, wanted.dimension) == (molar.dimension, mass.dimension):
        scale = given.factor / molar.factor / analyte.factor * mass.factor / wanted.factor
        return Conversion(given.ucum, scale, 0.0)
    return None


def conversions(wanted: str, analyte: Analyte | None = None) -> dict[str, Conversion]:
    """Folded spelling -> conversion, for every spelling whose unit can become the wanted one."""
    target = unit_of(wanted)
    if target is None:
        return {}
    found = {
        spelled: conversion(units()[code], target, analyte) for spelled, code in sorted(spellings().items())
    }
    return {spelled: how for spelled, how in found.items() if how is not None}


@lru_cache(maxsize=1)
def _row_units() -> dict[tuple[str, str], tuple[str, dict[str, str]]]:
    found: dict[tuple[str, str], tuple[str, dict[str, str]]] = {}
    for row in _rows("row_unit.csv"):
        key = (row["table"], row["field"])
        found.setdefault(key, (row["unit_field"], {}))[1][row["text"]] = row["unit"]
    return found


def row_unit(table: str, field: str) -> tuple[str, dict[str, str]] | None:
    """(field of the same row that says the unit of this one, its texts -> unit); None for nearly all fields."""
    return _row_units().get((table, field))


@lru_cache(maxsize=1)
def _derived() -> dict[str, Derived]:
    names = ("table", "value", "unit", "loinc", "value_out", "unit_out", "rule_out")
    return {r["table"]: Derived(**{n: r[n] for n in names}) for r in _rows("derived.csv")}


def derived(table: str, fields: list[str]) -> Derived | None:
    """How a table's canonical quantity is derived; None where its contract has no fields for it."""
    found = _derived().get(table)
    wanted = (
        (found.value, found.unit, found.loinc, found.value_out, found.unit_out, found.rule_out)
        if found
        else ()
    )
    return found if found and set(wanted) <= set(fields) else None


@lru_cache(maxsize=1)
def derived_names() -> frozenset[str]:
    """Names of the fields that conform computes; no other field has such a name."""
    return frozenset(n for d in _derived().values() for n in (d.value_out, d.unit_out, d.rule_out))
