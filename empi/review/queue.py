"""From uncertain pairs to questions: what is worth a person's minute today, and what need not be asked any more.

The pairs come from ``silver/match_candidate``, where each run writes all pairs that it is unsure of, with what deciding
one is worth (``value``). People's answers are never asked for twice: a decision between any two records of two persons
speaks for both, whoever took it, until what a record says of itself changes (``evidence_sha256``) and the model no
longer agrees. What a later run settles by itself is withdrawn. Everything goes through ``lake.work``; saying it again
changes nothing.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from empi.review import choosing, drift, evidence, history, records
from empi.review.pairs import COLUMNS, KIND, RecordKey, digest, ordered, request_key
from empi.review.records import Bench
from lake import work
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from lake.log import logger

CANDIDATES = "silver/match_candidate"
#: Who asks: tells our questions from those of other rooms and of stewards.
ORIGIN = "empi"
_log = logger("empi")
#: A pair's rank within a day's questions as the worklist's priority: the first fifth is as urgent as the kind.
_PRIORITIES = (3, 4, 5, 6, 7)


@lru_cache(maxsize=1)
def _limits() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("limits.yaml").read_text("utf-8"))
    return sorted(found, key=lambda p: str(p["valid_from"]))


def limits(data_date: date) -> dict[str, Any]:
    """The limits in force on a date (``limits.yaml``); before the first, the first."""
    valid = [p for p in _limits() if p["valid_from"] <= data_date]
    return (valid or _limits()[:1])[-1]


def ask(data_date: date, limit: int | None = None) -> dict[str, Any]:
    """Ask for review of the pairs that are worth most, and settle what a run has settled.

    Args:
        limit: new questions at most, instead of the dated limit of a day.

    Returns:
        counts: ``candidates``; ``decided`` and ``waiting`` of them (people have answered, or are being asked);
        ``asked`` (new questions), ``asked_again``, ``held_back`` (over a limit), ``settled``.

    Raises:
        MedlakeError: E350, nothing was linked yet.
    """
    run = records.visible_run(data_date)
    counts: dict[str, Any] = {"data_date": data_date.isoformat()}
    if CANDIDATES not in run.versions:
        return counts | dict.fromkeys(
            ("candidates", "decided", "waiting", "asked", "asked_again", "held_back", "settled"), 0
        )
    at = datetime.combine(data_date, time(), SHANGHAI).astimezone(UTC)
    most = limits(data_date)
    found, answers = history.asked(), history.decided()
    with records.bench(run) as on:
        choosing.prepare(on, found, answers)
        settled = _settle(on, found, at)
        changed = _reopen(on, answers, found, at, float(most["reopen_bits"]))
        chosen, told = choosing.choose(on, found, at, most, limit)
        again = [c for c in chosen if c["state"] == "settled"]
        fresh = _requests(on, [c for c in chosen if c["state"] is None], at, int(most["max_stay_days"]))
    counts |= told
    counts["asked"] = work.ask(fresh)
    counts["asked_again"] = work.settle([*(_again(c, at) for c in again), *changed])
    counts["settled"] = work.settle(settled)
    drift.note()
    _log.info("reviews_asked", data_date=data_date, pairs=counts["candidates"], created=counts["asked"])
    return counts


def ask_after_link(data_date: date) -> dict[str, Any]:
    """:func:`ask` as a step after linking: whatever goes wrong with asking is told and stops nothing.

    The day's chain needs the persons, not the questions; the next run asks for what this one could not.
    """
    try:
        return ask(data_date)
    except Exception as error:
        code = error.code if isinstance(error, MedlakeError) else type(error).__name__
        _log.error("reviews_not_asked", data_date=data_date, code=code)
        return {"data_date": data_date.isoformat(), "error": code}


def _settle(on: Bench, found: list[history.Asked], at: datetime) -> list[work.Settlement]:
    """Open questions that a run has answered: one person now, a record is gone, or no longer unsure."""
    # others ask for reasons of their own (a steward's merge, a node that was cut off): theirs end when the two are one
    ours = f"s.origin = '{ORIGIN}'"
    rows = on.connection.execute(
        f"""WITH standing AS (  -- still unsure, or asked again although people have decided
            SELECT {choosing.two()} FROM candidate UNION SELECT {choosing.two()} FROM said WHERE state = 'decided'),
        s AS (SELECT *, {choosing.two()} FROM said WHERE key IS NOT NULL)
        SELECT s.key, CASE WHEN s.empi_id_l = s.empi_id_r THEN 'same' WHEN s.empi_id_l IS NULL OR s.empi_id_r IS NULL
                           THEN 'gone' ELSE 'sure' END AS why
        FROM s LEFT JOIN standing t USING (one, other)
        WHERE s.empi_id_l = s.empi_id_r OR ({ours} AND t.one IS NULL)"""
    ).fetchall()
    reasons = {
        "same": "后续运行已归为同一人 / a later run made them one person",
        "gone": "登记已不在册 / a registration is gone",
        "sure": "后续运行不再疑似 / a later run is no longer unsure",
    }
    open_keys = {a.request_key: a for a in found if a.is_open}
    return [
        work.Settlement(key, "settle", _occasion(on), reasons[why], at, ORIGIN)
        for key, why in rows
        if key in open_keys
    ]


def _occasion(on: Bench) -> str:
    """What a settlement is said on: the version of the crosswalk."""
    return f"crosswalk{on.run.versions['silver/person_identifier']}"


def _again(chosen: dict[str, Any], at: datetime) -> work.Settlement:
    reason = "再次疑似 / uncertain again"
    return work.Settlement(chosen["key"], "ask_again", str(chosen["run_id"]), reason, at, ORIGIN)


def pair_evidence(prints: dict[RecordKey, str], one: RecordKey, other: RecordKey) -> str | None:
    """What a decision on the pair rests on: SHA-256 of both records' fingerprints; None if one is not in the registers."""
    sides = [prints.get(key) for key in ordered(one, other)]
    if None in sides:
        return None
    return hashlib.sha256("|".join(str(s) for s in sides).encode()).hexdigest()


def evidence_of(one: RecordKey, other: RecordKey) -> str | None:
    """What a decision taken now rests on: goes into the command's data, so that the decision keeps it.

    Raises:
        MedlakeError: E350, nothing was linked yet.
    """
    with records.bench() as on:
        records.collect(on, (one, other))
        return pair_evidence(records.fingerprints(on), one, other)


def _reopen(
    on: Bench, answers: list[history.Decided], found: list[history.Asked], at: datetime, bits: float
) -> list[work.Settlement]:
    """Reviews whose evidence has changed since people decided, and whose new score speaks against what they decided."""
    from empi.review.compare import compare, speaks_against

    closed = {a.request_key: a.payload for a in found if not a.is_open and a.state != "settled"}
    rested = [d for d in answers if d.origin == "review" and d.evidence_sha256 and d.origin_key in closed]
    if not rested:
        return []
    records.collect(on, {key for d in rested for key in d.records})
    prints = records.fingerprints(on)
    changed = [
        (d, now) for d in rested if (now := pair_evidence(prints, *d.records)) and now != d.evidence_sha256
    ]
    if not changed:
        return []
    records.load(on, {key for d, _ in changed for key in d.records})
    verdicts = compare(on, [d.records for d, _ in changed])
    reason = "依据的登记内容有变 / what the decision rested on has changed"
    return [
        work.Settlement(d.origin_key, "ask_again", now[:16], reason, at, ORIGIN, {"evidence_sha256": now})
        for place, (d, now) in enumerate(changed)
        if place in verdicts and speaks_against(verdicts[place], d.decision, closed[d.origin_key], bits)
    ]


def _requests(on: Bench, chosen: list[dict[str, Any]], at: datetime, stay_days: int) -> list[work.Request]:
    if not chosen:
        return []
    both = [
        tuple(RecordKey(*(str(c[f"{name}_{s}"]) for name in COLUMNS)) for s in ("l", "r")) for c in chosen
    ]
    records.collect(on, {key for pair in both for key in pair})
    prints = records.fingerprints(on)
    flags = evidence.flags(on, {str(c[f"empi_id_{s}"]) for c in chosen for s in ("l", "r")}, stay_days)
    made = []
    for place, (c, (one, other)) in enumerate(zip(chosen, both, strict=True)):
        left, right = flags[str(c["empi_id_l"])], flags[str(c["empi_id_r"])]
        payload = {name: c[name] for name in c if name.endswith(("_l", "_r")) or name.startswith("gamma_")}
        payload |= {
            n: c[n] for n in ("match_weight", "guard", "model_version", "value", "rank_value", "run_id")
        }
        payload |= {
            "evidence_sha256": pair_evidence(prints, one, other),
            "two_active_archives": left.active_archives > 0 and right.active_archives > 0,
            "in_hospital": left.in_hospital or right.in_hospital,
            "rank_priority": _PRIORITIES[place * len(_PRIORITIES) // len(chosen)],
        }
        made.append(
            work.Request(
                request_key(one, other),
                KIND,
                str(c["org_code"]),
                "warn",
                f"match_candidate/{digest(one, other)[:20]}",
                at,
                ORIGIN,
                payload,
            )
        )
    return made
