"""Quality tickets for the two doors (command line and HTTP): the same steps with the same checks.

``quality`` says what may be given (reasons, how long a waiver lasts) and where findings are, ``worklist`` who may do
what; here the two meet. Rows tell counts, places and ids, no value of any record.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import worklist
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from quality import tickets
from worklist.machine import kind

if TYPE_CHECKING:
    from worklist.store import Item

#: Who steps in as what; the engine checks the role of every command.
STEWARD, DOCTOR, LEAD = "data_steward", "responsible_doctor", "org_qc_lead"

_SAID = (
    "rule_id",
    "title_zh",
    "domain",
    "findings",
    "new_findings",
    "first_seen_on",
    "data_date",
    "rule_version",
)
_WAIVED = ("reason_code", "expires_on")


def find(item_id: str, org_code: str | None = None) -> Item:
    """A ticket by its number or the beginning of it.

    Raises:
        MedlakeError: E903 there is none, or several; E422 it is of another kind; E428 of another institution.
    """
    item, _ = worklist.find(item_id)
    if item.kind != tickets.KIND:
        raise MedlakeError("E422", item_id=item.item_id, kind=item.kind)
    if org_code is not None and item.org_code != org_code:
        raise MedlakeError("E428", item_id=item.item_id)
    return item


def plain(item: Item) -> dict[str, Any]:
    """A ticket as one flat row."""
    own = (
        "item_id",
        "org_code",
        "severity",
        "state",
        "is_open",
        "owner_role",
        "assignee",
        "reopened",
        "version",
    )
    instants = {
        n: getattr(item, n).isoformat() if getattr(item, n) else None for n in ("due_at", "closed_at")
    }
    row = {n: getattr(item, n) for n in own} | instants | {n: item.payload.get(n) for n in _SAID + _WAIVED}
    return row | {"state_zh": kind(item.kind).states[item.state].zh}


def listed(
    *,
    org_codes: list[str] | None = None,
    rule_id: str | None = None,
    state: str | None = None,
    assignee: str | None = None,
    is_open: bool | None = True,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Tickets, those due first. A state that is closed brings closed ones."""
    if state is not None:
        is_open = None
    most = limit if rule_id is None else 100_000
    found = worklist.items(
        kind=tickets.KIND, org_codes=org_codes, state=state, assignee=assignee, is_open=is_open, limit=most
    )
    return [plain(i) for i in found if rule_id in (None, i.payload.get("rule_id"))][:limit]


def shown(item_id: str, *, org_code: str | None = None, limit: int = 50) -> dict[str, Any]:
    """A ticket, its log, what can be done with it, and where its findings are as of the newest check."""
    from quality.tickets import counting

    item = find(item_id, org_code)
    at = counting.newest()
    rule = kind(item.kind)
    log = [
        {
            "at": e.at.isoformat(),
            "action": e.action,
            "to_state": e.to_state,
            "actor": e.actor,
            "reason": e.reason,
        }
        for e in worklist.log_of(item.item_id)
        if e.action != "recount"
    ]
    can = [{"action": t.action, "zh": t.zh, "roles": list(t.roles)} for t in rule.actions(item.state)]
    findings = counting.places(at, item.payload["rule_id"], item.org_code, limit) if at else []
    return {
        "ticket": plain(item),
        "log": log,
        "can": [c for c in can if c["roles"] != ["system"]],
        "findings": findings,
    }


def assign(
    item_id: str,
    to: str,
    *,
    by: str,
    role: str = STEWARD,
    key: str | None = None,
    org_code: str | None = None,
    version: int | None = None,
) -> dict[str, Any]:
    """Give a ticket to the responsible doctor, who then answers for it (and cannot waive it).

    ``version``, here and below: refuse (E913) if the ticket is no longer the one that the person saw.
    """
    item = find(item_id, org_code)
    if item.state == "open":
        worklist.act(
            item.item_id, "assign_doctor", actor=by, role=role, command_key=key, expected_version=version
        )
        version = None
    role = DOCTOR if to == by else role
    after = f"{key}|to" if key else None
    done = worklist.assign(
        item.item_id, to, actor=by, role=role, owner_id=to, command_key=after, expected_version=version
    )
    return plain(done)


def take(item_id: str, *, by: str, key: str | None = None, version: int | None = None) -> dict[str, Any]:
    """Take a ticket upon oneself as the doctor who answers for it; its state stays."""
    item = find(item_id)
    done = worklist.assign(
        item.item_id, by, actor=by, role=DOCTOR, owner_id=by, command_key=key, expected_version=version
    )
    return plain(done)


def fix(
    item_id: str,
    reason_code: str,
    *,
    by: str,
    role: str = DOCTOR,
    note: str = "",
    key: str | None = None,
    org_code: str | None = None,
    version: int | None = None,
) -> dict[str, Any]:
    """Say that the records were mended at the source; the next date's check sees whether they were.

    Raises:
        MedlakeError: E420 no such reason; what the worklist refuses.
    """
    item = find(item_id, org_code)
    data = {"reason_code": tickets.check_reason(reason_code, "fix")}
    done = worklist.act(
        item.item_id, "fix", actor=by, role=role, reason=note, data=data, command_key=key,
        expected_version=version,
    )  # fmt: skip
    return plain(done)


def ask_waiver(
    item_id: str,
    reason_code: str,
    *,
    by: str,
    reason: str,
    expires_on: date | None = None,
    role: str = DOCTOR,
    key: str | None = None,
    org_code: str | None = None,
    at: datetime | None = None,
    version: int | None = None,
) -> dict[str, Any]:
    """Ask that the findings may stand until a day; a second person decides.

    Raises:
        MedlakeError: E420 no such reason; E421 the day; what the worklist refuses (no reason in words).
    """
    now = at or datetime.now(UTC)
    item = find(item_id, org_code)
    last = tickets.expiry(now.astimezone(SHANGHAI).date(), expires_on)
    data = {"reason_code": tickets.check_reason(reason_code, "waive"), "expires_on": last.isoformat()}
    done = worklist.act(
        item.item_id, "ask_waiver", actor=by, role=role, reason=reason, data=data, command_key=key, at=now,
        expected_version=version,
    )  # fmt: skip
    return plain(done)


def decide(
    item_id: str,
    *,
    by: str,
    reason: str,
    agree: bool,
    key: str | None = None,
    org_code: str | None = None,
    at: datetime | None = None,
    version: int | None = None,
) -> dict[str, Any]:
    """Agree to a waiver, or refuse it: never by who asked, who answers for the ticket, or a doctor of its records.

    Raises:
        MedlakeError: E907 no reason; E909, E910 it would be one's own.
    """
    item = find(item_id, org_code)
    action = "waive" if agree else "refuse_waiver"
    done = worklist.act(
        item.item_id, action, actor=by, role=LEAD, reason=reason, command_key=key, at=at, expected_version=version
    )  # fmt: skip
    return plain(done)


def reopen(
    item_id: str,
    *,
    by: str,
    reason: str,
    role: str = STEWARD,
    key: str | None = None,
    version: int | None = None,
) -> dict[str, Any]:
    """Open a closed or waived ticket again: a waiver ends with it.

    Raises:
        MedlakeError: E907 no reason; what else the worklist refuses.
    """
    item = find(item_id)
    done = worklist.act(
        item.item_id, "reopen", actor=by, role=role, reason=reason, command_key=key, expected_version=version
    )
    return plain(done)


def stats(org_code: str | Iterable[str] | None = None) -> dict[str, Any]:
    """Tickets by reason, institution, rule and state: open, overdue, times reopened, mean hours to repair."""
    labels = {r.code: r.zh for r in tickets.reasons().values()}

    def by(field: str) -> list[dict[str, Any]]:
        return worklist.by_field(tickets.KIND, field, step="fix", done_by="confirm_gone", org_code=org_code)

    reasons = [r | {"zh": labels.get(r["value"], r["value"] or "未说明")} for r in by("reason_code")]
    return {"reasons": reasons, "institutions": by("org_code"), "rules": by("rule_id"), "states": by("state")}
