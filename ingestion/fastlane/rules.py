"""The lane's rules as data: ``parameters/*``, then files of the same name under ``<home>/parameters`` (the site's).

Every rule has an institution (empty: all), a period and a mark that tells where its numbers come from.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ingestion.fastlane.text import plain
from lake.errors import MedlakeError
from lake.settings import settings

_HERE = Path(__file__).parent / "parameters"


@dataclass(frozen=True)
class Limits:
    """Critical limits of one item for one group of patients. Low and high count from the limit on (<=, >=)."""

    rule_id: str
    item: str
    item_zh: str
    loinc: str
    names: frozenset[str]
    unit: str
    low_le: float | None
    high_ge: float | None
    high_ref_multiple: float | None
    age_min_days: int
    age_max_days: int | None
    sex_code: str
    dept_code: str
    not_dept_codes: frozenset[str]
    org_code: str
    valid_from: date
    valid_to: date | None
    is_first_report: bool

    @property
    def rank(self) -> int:
        """How special a rule is: the institution's own before the department's before the sex's."""
        return 4 * bool(self.org_code) + 2 * bool(self.dept_code) + bool(self.sex_code)


@dataclass(frozen=True)
class Words:
    """A test that is told by words: its names, and what is positive. Infectious tests have a ``pathogen``."""

    rule_id: str
    item: str
    item_zh: str
    names_contain: tuple[str, ...]
    names_without: tuple[str, ...]
    positive_words: tuple[str, ...]
    negative_words: tuple[str, ...]
    org_code: str
    valid_from: date
    valid_to: date | None
    pathogen: str = ""
    disease_code: str = ""
    confirmation: str = ""
    is_quantitative: bool = False
    is_restricted: bool = False

    def names(self, name: str) -> bool:
        """Whether a plain item name is this test's."""
        return any(w in name for w in self.names_contain) and not any(w in name for w in self.names_without)


@dataclass(frozen=True)
class Reading:
    """How result texts are read (``lab_words.yaml``)."""

    excluded_status: frozenset[str]
    critical_flags: frozenset[str]
    true_words: frozenset[str]
    settled_event_status: frozenset[str]
    positive_flags: frozenset[str]
    ignored_phrases: tuple[str, ...]
    negative_words: tuple[str, ...]
    negative_exact: frozenset[str]
    positive_words: tuple[str, ...]
    positive_exact: frozenset[str]
    not_blood_panels: tuple[str, ...]
    assume_missing_unit: bool
    spellings: dict[str, str]
    factors: dict[tuple[str, str], float]

    def unit(self, text: str | None) -> str:
        """A unit in its usual spelling."""
        told = plain(text)
        return self.spellings.get(told, told)

    def factor(self, unit: str, wanted: str) -> float | None:
        """What to multiply by to come to the wanted unit; None when there is no exact way."""
        if unit == wanted or (not unit and self.assume_missing_unit):
            return 1.0
        return self.factors.get((unit, wanted))


@dataclass(frozen=True)
class Range:
    """A sensor's range and how long it may be left."""

    org_code: str
    sensor_id: str
    low_c: float
    high_c: float
    minutes: float
    not_location_kinds: frozenset[str]
    valid_from: date
    valid_to: date | None


@dataclass(frozen=True)
class Rules:
    """All rules of one installation."""

    limits: tuple[Limits, ...]
    words: tuple[Words, ...]
    infectious: tuple[Words, ...]
    reading: Reading
    ranges: tuple[Range, ...]
    ahead_minutes: float
    behind_hours: float
    reorder_minutes: float
    ignored_quality: frozenset[str]
    by_identity: dict[tuple[str, str], tuple[Limits, ...]] = field(default_factory=dict)


def valid(rule: Limits | Words | Range, day: date) -> bool:
    return rule.valid_from <= day and (rule.valid_to is None or day <= rule.valid_to)


def _files(name: str) -> list[Path]:
    return [p for p in (_HERE / name, settings().home / "parameters" / name) if p.is_file()]


def _rows(name: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for path in _files(name):
        with path.open(encoding="utf-8-sig", newline="") as file:
            found += [{k: (v or "").strip() for k, v in r.items() if k} for r in csv.DictReader(file)]
    return found


def _yaml(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in _files(name):
        found |= yaml.safe_load(path.read_text("utf-8")) or {}
    return found


def _number(text: str) -> float | None:
    return float(text) if text else None


def _until(text: str) -> date | None:
    return date.fromisoformat(text) if text else None


def _listed(text: str) -> tuple[str, ...]:
    return tuple(w for w in (plain(p) for p in text.split("|")) if w)


def _limits(r: dict[str, str], reading: Reading) -> Limits:
    if not (r["low_le"] or r["high_ge"] or r["high_ref_multiple"]):
        raise ValueError(f"{r['rule_id']}: no limit")
    return Limits(
        rule_id=r["rule_id"],
        item=r["item"],
        item_zh=r["item_zh"],
        loinc=r["loinc"],
        names=frozenset(_listed(r["names"])),
        unit=reading.unit(r["unit"]),
        low_le=_number(r["low_le"]),
        high_ge=_number(r["high_ge"]),
        high_ref_multiple=_number(r["high_ref_multiple"]),
        age_min_days=int(r["age_min_days"] or 0),
        age_max_days=int(r["age_max_days"]) if r["age_max_days"] else None,
        sex_code=r["sex_code"],
        dept_code=r["dept_code"],
        not_dept_codes=frozenset(c for c in r["not_dept_codes"].split("|") if c),
        org_code=r["org_code"],
        valid_from=date.fromisoformat(r["valid_from"]),
        valid_to=_until(r["valid_to"]),
        is_first_report=r["is_first_report"] == "1",
    )


def _words(r: dict[str, str], reading: Reading) -> Words:
    names = _listed(r["names_contain"])
    if not names:
        raise ValueError(f"{r['rule_id']}: no name")
    return Words(
        rule_id=r["rule_id"],
        item=r.get("item") or f"{r['pathogen']}:{r['confirmation']}",
        item_zh=r["item_zh"],
        names_contain=names,
        names_without=_listed(r["names_without"]),
        positive_words=_listed(r.get("positive_words", "")) or reading.positive_words,
        negative_words=_listed(r.get("negative_words", "")) or reading.negative_words,
        org_code=r["org_code"],
        valid_from=date.fromisoformat(r["valid_from"]),
        valid_to=_until(r["valid_to"]),
        pathogen=r.get("pathogen", ""),
        disease_code=r.get("disease_code", ""),
        confirmation=r.get("confirmation", ""),
        is_quantitative=r.get("is_quantitative") == "1",
        is_restricted=r.get("is_restricted") == "1",
    )


def _reading(node: dict[str, Any]) -> Reading:
    def words(name: str) -> tuple[str, ...]:
        return tuple(plain(str(w)) for w in node[name])

    spellings = {plain(str(w)): plain(str(u)) for u, others in node["unit_spellings"].items() for w in others}
    return Reading(
        excluded_status=frozenset(words("excluded_status")),
        critical_flags=frozenset(words("critical_flags")),
        true_words=frozenset(words("true_words")),
        settled_event_status=frozenset(words("settled_event_status")),
        positive_flags=frozenset(words("positive_flags")),
        ignored_phrases=words("ignored_phrases"),
        negative_words=words("negative_words"),
        negative_exact=frozenset(words("negative_exact")),
        positive_words=words("positive_words"),
        positive_exact=frozenset(words("positive_exact")),
        not_blood_panels=words("not_blood_panels"),
        assume_missing_unit=bool(node["assume_missing_unit"]),
        spellings=spellings,
        factors={(plain(str(a)), plain(str(b))): float(f) for a, b, f in node["unit_factors"]},
    )


@lru_cache(maxsize=4)
def _load(home: Path) -> Rules:
    try:
        reading, clock = _reading(_yaml("lab_words.yaml")), _yaml("clock.yaml")
        limits = tuple(_limits(r, reading) for r in _rows("critical_values.csv"))
        ranges = tuple(
            Range(
                r["org_code"],
                r["sensor_id"],
                float(r["low_c"]),
                float(r["high_c"]),
                float(r["minutes"]),
                frozenset(k for k in r["not_location_kinds"].split("|") if k),
                date.fromisoformat(r["valid_from"]),
                _until(r["valid_to"]),
            )
            for r in _rows("cold_chain.csv")
        )
        made = Rules(
            limits=limits,
            words=tuple(_words(r, reading) for r in _rows("critical_words.csv")),
            infectious=tuple(_words(r, reading) for r in _rows("infectious_tests.csv")),
            reading=reading,
            ranges=ranges,
            ahead_minutes=float(clock["ahead_minutes"]),
            behind_hours=float(clock["behind_hours"]),
            reorder_minutes=float(clock["reorder_minutes"]),
            ignored_quality=frozenset(plain(str(q)) for q in clock["ignored_quality"]),
        )
    except (KeyError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise MedlakeError("E920", detail=f"{type(error).__name__}: {error}") from error
    for rule in limits:
        for key in (("loinc", rule.loinc), *(("name", n) for n in rule.names)):
            if key[1]:
                made.by_identity[key] = (*made.by_identity.get(key, ()), rule)
    return made


def rules() -> Rules:
    """The rules of this installation.

    Raises:
        MedlakeError: E920, a parameter file is wrong.
    """
    return _load(settings().home)
