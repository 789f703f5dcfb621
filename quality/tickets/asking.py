"""After a check: ask for what is new, say of each ticket what became of it. Saying it again changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from lake import runs, work
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from lake.log import logger
from quality.rule import rulebook
from quality.tickets import KIND, counting, history, waiving
from quality.tickets.counting import Checked
from quality.tickets.history import Ticket
from quality.tickets.limits import Parameters, parameters

#: Who asks, in requests and settlements.
ORIGIN = "quality"
TRAINING = "quality_training"
_log = logger("quality")

#: Facts whose change is worth a line in the item's log.
_TOLD = ("findings", "severity", "rule_version", "doctor_ids")


def ask(data_date: date) -> dict[str, Any]:
    """Ask for tickets for what a date's check left open, and settle those that are there.

    A check of a date before the newest checked one says nothing: what it found is history.

    Returns:
        counts: ``pairs`` (rule and institution with open findings), ``asked`` (new tickets), ``recounted``,
        ``closed`` (nothing is left), ``returned`` (said to be fixed, still there), ``reopened``, ``waived`` (under a
        waiver that holds), ``training`` (new training tasks); ``superseded`` for a date that is not the newest.

    Raises:
        MedlakeError: E106, E423: the date was not checked.
    """
    at = counting.checked(data_date)
    newest = counting.newest()
    counts: dict[str, Any] = {"data_date": data_date.isoformat(), "superseded": False}
    names = ("pairs", "asked", "recounted", "closed", "returned", "reopened", "waived", "training")
    if newest is not None and newest.data_date > data_date:
        return counts | dict.fromkeys(names, 0) | {"superseded": True}
    limits = parameters(data_date)
    open_now = {(r["rule_id"], r["org_code"]): r for r in counting.open_counts(at, limits)}
    standing = {(t.rule_id, t.org_code): t for t in history.tickets().values()}
    held = {(w.rule_id, w.org_code) for w in waiving.waivers(data_date)}
    said: list[work.Settlement] = []
    for pair, ticket in standing.items():  # a few thousand tickets, each by its own state
        settlement = _settlement(ticket, open_now.get(pair), at, is_waived=pair in held)
        said += [settlement] if settlement else []
    fresh = [_request(r, at) for pair, r in open_now.items() if pair not in standing]
    done = {a: sum(s.action == a for s in said) for a in history.BY_CHECK}
    counts |= {
        "pairs": len(open_now),
        "asked": work.ask(fresh),
        "recounted": done["recount"],
        "closed": done["confirm_gone"],
        "returned": done["still_there"],
        "reopened": done["reopen"],
        "waived": len(held & set(open_now)),
    }
    work.settle(said)
    counts["training"] = work.ask(_training(counting.repeated(at, limits), at, limits))
    runs.record_output(runs.get_run(data_date), {waiving.TABLE: waiving.keep()})
    _log.info("tickets_asked", data_date=data_date, created=counts["asked"], rows=counts["pairs"])
    return counts


def ask_after_check(data_date: date) -> dict[str, Any]:
    """:func:`ask` as the end of the check's step: what goes wrong with asking is told and stops nothing."""
    try:
        return ask(data_date)
    except Exception as error:  # the day's chain needs the findings, not the tickets; the next run asks again
        code = error.code if isinstance(error, MedlakeError) else type(error).__name__
        _log.error("tickets_not_asked", data_date=data_date, code=code)
        return {"data_date": data_date.isoformat(), "error": code}


def _settlement(
    ticket: Ticket, row: Mapping[str, Any] | None, at: Checked, *, is_waived: bool
) -> work.Settlement | None:
    """What a check has to say of a ticket now; None when that is nothing new."""
    gone = row is None
    said_fixed = ticket.state in ("fixed", "recheck")
    if gone and ticket.state in history.OPEN:
        return _say(ticket, "confirm_gone", "复查无问题 / nothing is left", row, at)
    if row is None:
        return None
    # what was typed in today at the source comes with a later delivery: only a later date's check speaks against it
    if said_fixed and ticket.moved_on is not None and at.data_date > ticket.moved_on:
        return _say(ticket, "still_there", "复查仍有问题 / still there", row, at)
    if ticket.state == "auto_closed":
        return _say(ticket, "reopen", "再次出现 / it came back", row, at)
    if ticket.state == "waived":
        if is_waived or (ticket.waived_from is not None and at.data_date < ticket.waived_from):
            return None
        return _say(ticket, "reopen", "豁免已到期 / the waiver has ended", row, at)
    if any(ticket.payload.get(n) != row[n] for n in _TOLD):
        return _say(ticket, "recount", "", row, at)
    return None


def _say(
    ticket: Ticket, action: str, reason: str, row: Mapping[str, Any] | None, at: Checked
) -> work.Settlement:
    facts = _facts(row, at) if row else {"findings": 0, "new_findings": 0, "finding_ids": []}
    data = {**facts, "run_id": at.run_id, "data_date": at.data_date.isoformat()}
    return work.Settlement(ticket.request_key, action, at.occasion, reason, _noon(at.data_date), ORIGIN, data)


def _facts(row: Mapping[str, Any], at: Checked) -> dict[str, Any]:
    """What an item says: counts and ids, no value of any record."""
    kept = (
        "rule_id", "rule_version", "title_zh", "domain", "severity", "findings", "new_findings", "table_names",
        "finding_ids", "doctor_ids",
    )  # fmt: skip
    facts = {n: row[n] for n in kept}
    if row["severity"] == "error" and _is_reported(row["rule_id"], at.data_date):
        facts["report_due_on"] = parameters(at.data_date).report_due_on(at.data_date).isoformat()
    return facts | {
        "first_seen_on": row["first_seen_on"].isoformat(),
        "run_id": at.run_id,
        "data_date": at.data_date.isoformat(),
    }


def _is_reported(rule_id: str, day: date) -> bool:
    """Whether a rule holds records back from what the month's public-health report counts."""
    rule = next((r for r in rulebook().rules if r.id == rule_id), None)
    products = (
        {p for t in rule.targets for p, effect in t.products.items() if effect != "show"} if rule else set()
    )
    return bool(products & set(parameters(day).report_products))


def _request(row: Mapping[str, Any], at: Checked) -> work.Request:
    return work.Request(
        history.request_key(row["rule_id"], row["org_code"]),
        KIND,
        row["org_code"],
        row["severity"],
        f"quality/rule/{row['rule_id']}",
        _noon(at.data_date),
        ORIGIN,
        _facts(row, at),
    )


def _training(rows: list[dict[str, Any]], at: Checked, limits: Parameters) -> list[work.Request]:
    """One task a rule, institution and calendar year."""
    return [
        work.Request(
            f"{TRAINING}|{r['rule_id']}|{r['org_code']}|{at.data_date.year}",
            TRAINING,
            r["org_code"],
            "info",
            f"quality/rule/{r['rule_id']}",
            _noon(at.data_date),
            ORIGIN,
            {
                "rule_id": r["rule_id"],
                "title_zh": r["title_zh"],
                "months": r["months"],
                "window_months": limits.training_window,
                "data_date": at.data_date.isoformat(),
            },
        )
        for r in rows
    ]


def _noon(data_date: date) -> datetime:
    """When it happened, for a fact that has a local day and no hour."""
    return datetime.combine(data_date, time(12), SHANGHAI).astimezone(UTC)
