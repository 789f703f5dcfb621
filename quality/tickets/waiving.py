"""Waivers: a second person's word that the findings of a rule may stand at an institution, until a day.

Read from what people answered in the worklist, never longer than the dated limit says, whatever date was typed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from lake import tables
from lake.errors import MedlakeError
from quality.compile import day, text
from quality.tickets import history
from quality.tickets.history import Ticket
from quality.tickets.limits import parameters

TABLE = "quality/waiver"

_SCHEMA = pa.schema([
    ("rule_id", pa.string()), ("org_code", pa.string()), ("reason_code", pa.string()), ("asked_by", pa.string()),
    ("approved_by", pa.string()), ("decided_on", pa.date32()), ("valid_from", pa.date32()),
    ("expires_on", pa.date32()), ("ended_on", pa.date32()), ("request_key", pa.string()),
])  # fmt: skip


@dataclass(frozen=True)
class Waiver:
    """Holds on ``valid_from <= day <= expires_on``, unless it was taken back earlier (``ended_on``: no more from then)."""

    rule_id: str
    org_code: str
    reason_code: str | None
    asked_by: str | None
    approved_by: str
    decided_on: date
    valid_from: date
    expires_on: date
    ended_on: date | None
    request_key: str

    def holds(self, on: date) -> bool:
        return self.valid_from <= on <= self.expires_on and (self.ended_on is None or on < self.ended_on)


def expiry(today: date, wanted: date | None = None) -> date:
    """The last day of a waiver that is asked for today: the wanted one, or the dated default.

    Raises:
        MedlakeError: E421, the wanted day is past, or further away than the limit.
    """
    last = today + timedelta(days=parameters(today).waiver_days)
    if wanted is None:
        return last
    if not today < wanted <= last:
        raise MedlakeError("E421", expires_on=wanted, first=today, last=last)
    return wanted


def _expires(ticket: Ticket) -> date:
    """What was decided, at most the limit: another room's door must not make a waiver without an end."""
    assert ticket.waived_on is not None
    last = ticket.waived_on + timedelta(days=parameters(ticket.waived_on).waiver_days)
    try:
        return min(last, date.fromisoformat(str(ticket.payload.get("expires_on", ""))[:10]))
    except ValueError:
        return last


def _of_ticket(life: list[Ticket]) -> list[Waiver]:
    found: list[Waiver] = []
    held: Ticket | None = None
    for stood in life:
        if stood.waived_by is not None and stood.waived_on is not None and held is None:
            held = stood
            found.append(_waiver(stood, None))
        elif held is not None and stood.waived_by is None:
            ended = stood.moved_on if stood.moved_on != held.moved_on else stood.told_on
            found[-1] = _waiver(held, ended)
            held = None
    return found


def _waiver(stood: Ticket, ended_on: date | None) -> Waiver:
    assert stood.waived_by is not None and stood.waived_on is not None and stood.waived_from is not None
    return Waiver(
        stood.rule_id,
        stood.org_code,
        stood.payload.get("reason_code"),
        stood.waiver_asked_by,
        stood.waived_by,
        stood.waived_on,
        stood.waived_from,
        _expires(stood),
        ended_on,
        stood.request_key,
    )


def every() -> list[Waiver]:
    """All waivers ever given, by rule, institution and day."""
    found = [w for _, life in history.lives().values() for w in _of_ticket(life)]
    return sorted(found, key=lambda w: (w.rule_id, w.org_code, w.decided_on))


def waivers(as_of: date) -> list[Waiver]:
    """Those that hold on a data date: findings of their rule at their institution are ``waived``, not ``open``."""
    return [w for w in every() if w.holds(as_of)]


def waiver_sql(as_of: date) -> str:
    """The same as SQL for a FROM clause: ``rule_id``, ``org_code``, ``expires_on``, one row a pair."""
    pairs = {(w.rule_id, w.org_code): w.expires_on for w in waivers(as_of)}
    if not pairs:
        return "(SELECT NULL::VARCHAR AS rule_id, NULL::VARCHAR AS org_code, NULL::DATE AS expires_on WHERE false)"
    rows = ", ".join(f"({text(r)}, {text(o)}, {day(e)})" for (r, o), e in sorted(pairs.items()))
    return f"(SELECT * FROM (VALUES {rows}) AS w(rule_id, org_code, expires_on))"


def keep() -> int:
    """Write all waivers to ``quality/waiver`` for reports. Returns the version."""
    rows: list[dict[str, Any]] = [w.__dict__ for w in every()]
    return tables.overwrite(TABLE, pa.Table.from_pylist(rows, schema=_SCHEMA))
