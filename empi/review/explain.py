"""A pair as a person sees it: both registrations field by field, the score taken apart, the guard's reason, evidence.

What is shown is level 4 (names, ids, telephones of two persons): whoever shows it says who looks and why, and that is
kept in the audit (:func:`explain_pair` writes it, before anything is told).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from empi.review import evidence, records
from empi.review.compare import Verdict, compare
from empi.review.evidence import Evidence
from empi.review.pairs import KIND, RecordKey, digest
from empi.review.records import Bench
from lake import audit
from lake.errors import MedlakeError

#: Field -> label, column as given, column(s) as standardised.
FIELDS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("name", "姓名", "name", ("nm",)),
    ("sex", "性别", "sex_code", ("sex",)),
    ("birth_date", "出生日期", "birth_date", ("dob",)),
    ("id_no", "证件号", "id_no", ("idno",)),
    ("health_card_no", "健康卡", "health_card_no", ("card",)),
    ("insurance_no", "医保号", "insurance_no", ("insurance",)),
    ("phone", "电话", "phone", ("phone",)),
    ("contact_name", "联系人", "contact_name", ("kin_nm",)),
    ("contact_phone", "联系人电话", "contact_phone", ("kin_phone",)),
    ("address", "住址", "addr_detail", ("town", "village", "house")),
    ("region", "行政区划", "addr_region_code", ("region_code",)),
    ("mother", "母亲", "mother_identifier", ("mother_nm", "birth_mark")),
)


@dataclass(frozen=True)
class Field:
    """One row of the side by side. ``agrees``: None where a side says nothing."""

    field: str
    label_zh: str
    given_l: str | None
    given_r: str | None
    standard_l: str | None
    standard_r: str | None
    agrees: bool | None


@dataclass(frozen=True)
class Bar:
    """One bar of the waterfall, in bits (log2 of odds); ``total`` is the sum so far."""

    comparison: str
    label_zh: str
    level: str
    level_zh: str
    weight: float
    total: float


@dataclass(frozen=True)
class Explanation:
    """All of it. An empi id is None for a registration that no run has linked yet."""

    records: tuple[RecordKey, RecordKey]
    empi_ids: tuple[str | None, str | None]
    updated_on: tuple[date | None, date | None]
    fields: list[Field]
    bars: list[Bar]
    weight: float
    probability: float
    guard: str | None
    guard_zh: str
    guard_en: str
    look_zh: str
    look_en: str
    is_accepted: bool
    evidence: Evidence

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@lru_cache(maxsize=1)
def texts() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("texts.yaml").read_text("utf-8"))
    return found


def level_zh(comparison: str, level: str) -> str:
    """What a level means; a level of a newer model goes by its own name."""
    if level == "null":
        return str(texts()["null_level"])
    return str(texts()["levels"].get(comparison, {}).get(level, level))


def guard_texts(guard: str | None, *, is_cut: bool = False) -> dict[str, str]:
    """``zh, en, look_zh, look_en`` of a guard, or of none; ``is_cut``: accepted, and a constraint keeps the two apart."""
    if guard is None:
        return dict(texts()["cut"]) if is_cut else {"look_zh": "", "look_en": ""} | texts()["no_guard"]
    known = texts()["guards"].get(guard)
    if known:
        return dict(known)
    return {k: v.format(guard=guard) for k, v in texts()["other_guard"].items()} | {
        "look_zh": "",
        "look_en": "",
    }


def explain_pair(one: RecordKey, other: RecordKey, *, actor: str, purpose: str) -> Explanation:
    """Explain why two registrations may or may not be one person, as the registers say it now.

    Raises:
        MedlakeError: E350, nothing was linked yet; E351, one of them is not in the registers (any more).
    """
    with records.bench() as on:
        records.load(on, (one, other))
        missing = [k for k in (one, other) if k not in on.number]
        if missing:
            raise MedlakeError("E351", place=f"{missing[0].source_system}/{missing[0].org_code}")
        audit.record(
            "empi_review_look",
            actor=actor,
            purpose=purpose,
            tables=["silver/patient", "silver/ph_archive"],
            fields=[f for f, *_ in FIELDS],
            rows=2,
            result="shown",
            pair=digest(one, other)[:20],
            kind=KIND,
        )
        return _explain(on, one, other)


def _explain(on: Bench, one: RecordKey, other: RecordKey) -> Explanation:
    verdict = compare(on, [(one, other)])[0]
    sides = {key: _side(on, on.number[key]) for key in (one, other)}
    persons = {key: _person(on, key) for key in (one, other)}
    is_apart = persons[one] is not None and persons[one] != persons[other]
    said = guard_texts(verdict.guard, is_cut=verdict.is_accepted and is_apart)
    return Explanation(
        records=(one, other),
        empi_ids=(persons[one], persons[other]),
        updated_on=(sides[one]["updated_on"], sides[other]["updated_on"]),
        fields=[_field(f, sides[one], sides[other]) for f in FIELDS],
        bars=_bars(verdict),
        weight=verdict.weight,
        probability=verdict.probability,
        guard=verdict.guard,
        guard_zh=said["zh"],
        guard_en=said["en"],
        look_zh=said["look_zh"],
        look_en=said["look_en"],
        is_accepted=verdict.is_accepted,
        evidence=evidence.gather(on, one, other, persons[one] or "", persons[other] or ""),
    )


def _side(on: Bench, rec_no: int) -> dict[str, Any]:
    given = ", ".join(f"s.{g}::VARCHAR AS given_{f}" for f, _, g, _ in FIELDS)
    standard = ", ".join(
        f"nullif(concat_ws(' ', {', '.join(f'r.{c}' for c in columns)}), '') AS standard_{f}"
        for f, _, _, columns in FIELDS
    )
    (row,) = (
        on.connection.execute(
            f"""SELECT {given}, {standard}, r.id_own, r.id_valid,
            (s.updated_at AT TIME ZONE 'Asia/Shanghai')::DATE AS updated_on
        FROM source_record s JOIN record r USING (rec_no) WHERE rec_no = {rec_no}"""
        )
        .to_arrow_table()
        .to_pylist()
    )
    mark = "✓ 可信" if row["id_own"] else "校验正确" if row["id_valid"] else ""
    if row["standard_id_no"] and mark:
        row["mark_id_no"] = mark
    return dict(row)


def _field(
    about: tuple[str, str, str, tuple[str, ...]], left: dict[str, Any], right: dict[str, Any]
) -> Field:
    name, label, _, _ = about
    standard = [side[f"standard_{name}"] for side in (left, right)]
    agrees = None if None in standard else standard[0] == standard[1]
    shown = [
        f"{value}（{side[f'mark_{name}']}）" if value and f"mark_{name}" in side else value
        for value, side in zip(standard, (left, right), strict=True)
    ]
    return Field(name, label, left[f"given_{name}"], right[f"given_{name}"], shown[0], shown[1], agrees)


def _bars(verdict: Verdict) -> list[Bar]:
    total, bars = 0.0, []
    for step in verdict.steps:
        total += step.weight
        meaning = "" if step.comparison == "prior" else level_zh(step.comparison, step.level)
        bars.append(Bar(step.comparison, step.label_zh, step.level, meaning, step.weight, total))
    return bars


def _person(on: Bench, key: RecordKey) -> str | None:
    row = on.connection.execute(
        """SELECT empi_id FROM silver.person_identifier WHERE identifier_type = 'MR' AND valid_to IS NULL
        AND source_system = ? AND org_code = ? AND identifier_value = ?""",
        list(key),
    ).fetchall()
    return str(row[0][0]) if row else None
