"""Laboratory results row by row: critical values by limit, word or the laboratory's own flag; positive tests.

Rows come one by one as they are received, so they are judged one by one (a few microseconds each);
``lab_sql`` does the same over a whole batch at once, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path

from ingestion.codemaps import code_map
from ingestion.fastlane.found import CRITICAL, INFECTIOUS, Result
from ingestion.fastlane.rules import Limits, Reading, Rules, Words, rules, valid
from ingestion.fastlane.text import day, instant, number, plain
from lake.local_time import SHANGHAI
from lake.settings import settings

Row = Mapping[str, str | None]

#: The rule that stands for the laboratory's own mark (HH, LL).
BY_FLAG = "LAB_FLAG"


def is_positive(
    text: str, value: float | None, sign: str, flag: str, ref_high: float | None, test: Words, r: Reading
) -> bool:
    """Whether a plain result text (or a number beyond its cut-off) is positive."""
    for phrase in r.ignored_phrases:
        text = text.replace(phrase, "")
    if text in r.negative_exact or any(w in text for w in test.negative_words):
        return False
    if text in r.positive_exact or any(w in text for w in test.positive_words):
        return True
    if not test.is_quantitative:
        return False
    beyond = value is not None and ref_high is not None and sign != "<" and value >= ref_high
    return flag in r.positive_flags or beyond


def is_critical(rule: Limits, value: float, sign: str, unit: str, ref_high: float | None, r: Reading) -> bool:
    """Whether a number is at or beyond a limit for certain: ``<0.1`` is below 2.8, ``<3.0`` may be or not."""
    multiple = rule.high_ref_multiple
    if multiple is not None and ref_high is not None and sign != "<" and value >= multiple * ref_high:
        return True
    factor = r.factor(unit, rule.unit)
    if factor is None:
        return False
    wanted = value * factor
    low = rule.low_le is not None and sign != ">" and wanted <= rule.low_le
    high = rule.high_ge is not None and sign != "<" and wanted >= rule.high_ge
    return low or high


def counts(rule: Limits, org_code: str, at: date, age_days: int | None, sex: str, dept: str) -> bool:
    """Whether a rule is for this patient: of unknown age the rules without an upper age count."""
    if rule.org_code not in ("", org_code) or not valid(rule, at):
        return False
    if (
        rule.sex_code not in ("", sex)
        or rule.dept_code not in ("", dept)
        or (dept and dept in rule.not_dept_codes)
    ):
        return False
    if age_days is None:
        return rule.age_max_days is None
    return rule.age_min_days <= age_days and (rule.age_max_days is None or age_days <= rule.age_max_days)


@lru_cache(maxsize=65_536)
def _tests(home: Path, name: str) -> tuple[tuple[Words, ...], tuple[Words, ...]]:
    """(infectious tests, tests told by words) that a plain item name is; names are few, results are many."""
    known = rules()
    return tuple(t for t in known.infectious if t.names(name)), tuple(t for t in known.words if t.names(name))


def own_first(tests: tuple[Words, ...], org_code: str, at: date) -> list[Words]:
    """The valid tests, an institution's own in the place of the group's for the same item."""
    now = [t for t in tests if t.org_code in ("", org_code) and valid(t, at)]
    own = {t.item for t in now if t.org_code}
    return [t for t in now if t.org_code or t.item not in own]


def _float(text: str | None) -> float | None:
    value, sign = number(plain(text))
    return value if not sign else None


def judge(row: Row, org_code: str, received_at: datetime, known: Rules) -> Iterator[Result]:
    """What one result needs; nothing for most."""
    r = known.reading
    if plain(row.get("status_code")) in r.excluded_status:
        return
    name, text = plain(row.get("item_name")), plain(row.get("value_text"))
    flag, high = plain(row.get("abnormal_flag")), _float(row.get("ref_high"))
    value, sign = _float(row.get("value_num")), plain(row.get("comparator"))[:1]
    if value is None:
        value, sign = number(text)
    infectious, told = _tests(settings().home, name)
    beyond = _beyond(row, name, value, sign, high, known)
    marked = flag in r.critical_flags or plain(row.get("is_critical")) in r.true_words
    if not (infectious or told or beyond or marked):
        return  # most results: nothing more to look at
    at = instant(row.get("observed_at")) or instant(row.get("reported_at")) or received_at
    at = min(at, received_at).astimezone(UTC)
    on = at.astimezone(SHANGHAI).date()
    if tests := own_first(infectious, org_code, on):
        for test in tests:
            if is_positive(text, value, sign, flag, high, test, r):
                yield _result(row, org_code, at, INFECTIOUS, test)
        return
    for test in own_first(told, org_code, on):
        if is_positive(text, value, sign, flag, high, test, r):
            yield _result(row, org_code, at, CRITICAL, test)
            return
    rule = _limit(row, org_code, on, beyond)
    if rule or marked:
        yield _result(row, org_code, at, CRITICAL, rule)


def _rules_of(row: Row, name: str, known: Rules) -> tuple[Limits, ...]:
    """The limits of an item: by its LOINC code, by its name only where it has none and the panel may be blood's."""
    if loinc := (row.get("loinc_code") or "").strip():
        return known.by_identity.get(("loinc", loinc), ())
    found = known.by_identity.get(("name", name), ())
    if found and any(w in plain(row.get("panel_name")) for w in known.reading.not_blood_panels):
        return ()
    return found


def _beyond(
    row: Row, name: str, value: float | None, sign: str, high: float | None, known: Rules
) -> list[tuple[Limits, bool]]:
    """(rule, whether the number is beyond it) of all rules of the item, if it is beyond any."""
    if value is None or not (found := _rules_of(row, name, known)):
        return []
    unit = known.reading.unit(row.get("unit"))
    judged = [(x, is_critical(x, value, sign, unit, high, known.reading)) for x in found]
    return judged if any(is_beyond for _, is_beyond in judged) else []


def _limit(row: Row, org_code: str, on: date, judged: list[tuple[Limits, bool]]) -> Limits | None:
    """The first limit that the number is beyond, among the most special rules that are for this patient."""
    if not judged:
        return None
    born = day(row.get("birth_date"))
    age = (on - born).days if born and born <= on else None
    sex = row.get("sex_code") or ""
    sex, dept = code_map("sex").get(sex.lower(), sex), row.get("dept_code") or ""
    fitting = [(x, is_beyond) for x, is_beyond in judged if counts(x, org_code, on, age, sex, dept)]
    best = {x.item: max(y.rank for y, _ in fitting if y.item == x.item) for x, _ in fitting}
    hit = [x for x, is_beyond in fitting if is_beyond and x.rank == best[x.item]]
    return min(hit, key=lambda x: x.rule_id, default=None)


def _result(row: Row, org_code: str, at: datetime, kind: str, rule: Words | Limits | None) -> Result:
    def told(name: str) -> str:
        return (row.get(name) or "").strip()

    test = rule if isinstance(rule, Words) else None
    return Result(
        kind=kind,
        rule_id=rule.rule_id if rule else BY_FLAG,
        item=rule.item if rule else "",
        item_zh=rule.item_zh if rule else told("item_name"),
        org_code=org_code,
        report_id=told("report_id"),
        seq=told("seq"),
        item_code=told("item_code"),
        at=at,
        value_text=told("value_text") or told("value_num"),
        unit=told("unit"),
        encounter_id=told("encounter_id"),
        patient_local_id=told("patient_local_id"),
        requesting_org_code=told("requesting_org_code"),
        dept_code=told("dept_code"),
        is_first_report=isinstance(rule, Limits) and rule.is_first_report,
        pathogen=test.pathogen if test else "",
        disease_code=test.disease_code if test else "",
        confirmation=test.confirmation if test else "",
        is_restricted=test.is_restricted if test else False,
    )
