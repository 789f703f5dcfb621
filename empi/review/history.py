"""What was asked of people and what became of it, read from the tables where rooms meet (``lake.work``)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from empi.review import pairs
from empi.review.pairs import RecordKey
from lake import ops, work

#: States of an item in which nobody has anything to do (worklist/kinds/empi_review.yaml).
CLOSED = {"applied", "not_same", "unsure", "unmerged", "settled"}
#: Where the engine's own two steps lead.
_BY_ENGINE = {"settle": "settled", "ask_again": "candidate"}


@dataclass(frozen=True)
class Asked:
    """A request as it stands. ``state`` is the item's, as far as answers and settlements tell; instants are UTC."""

    request_key: str
    org_code: str
    origin: str
    occurred_at: datetime
    records: tuple[RecordKey, RecordKey] | None
    payload: Mapping[str, Any]
    state: str

    @property
    def is_open(self) -> bool:
        return self.state not in CLOSED


@dataclass(frozen=True)
class Decided:
    """An active decision on two records (``ops.match_decision``)."""

    records: tuple[RecordKey, RecordKey]
    decision: str
    origin: str
    origin_key: str
    evidence_sha256: str | None


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def asked() -> list[Asked]:
    """All requests for review ever made, oldest first. One row a request: some ten thousand a year."""
    r = ops.work_request
    query = select(r).where(r.c.kind.in_([pairs.KIND, work.SETTLE])).order_by(r.c.requested_at)
    with ops.engine().begin() as connection:
        rows = connection.execute(query).all()
    events = [(a.answered_at, a.request_key, a.to_state) for a in work.answers(pairs.KIND)]
    # a settlement counts from when worklist did it; one that still waits will be the last
    events += [
        (
            _utc(row.taken_at) if row.taken_at else datetime.max.replace(tzinfo=UTC),
            row.subject,
            json.loads(row.payload)["action"],
        )
        for row in rows
        if row.kind == work.SETTLE
    ]
    state: dict[str, str] = {}
    for _, key, what in sorted(events):
        if what not in _BY_ENGINE:
            state[key] = what
        elif (state.get(key, "candidate") in CLOSED) == (what == "ask_again"):  # else the item did not move
            state[key] = _BY_ENGINE[what]
    found = []
    for row in rows:
        if row.kind == pairs.KIND:
            said = json.loads(row.payload)
            now = state.get(row.request_key, "candidate")
            about = pairs.of_payload(said)
            found.append(
                Asked(row.request_key, row.org_code, row.origin, _utc(row.occurred_at), about, said, now)
            )
    return found


def decided() -> list[Decided]:
    """All active decisions of people."""
    d = ops.match_decision
    with ops.engine().begin() as connection:
        rows = connection.execute(select(d).where(d.c.withdrawn_at.is_(None)).order_by(d.c.decided_at)).all()
    return [
        Decided(
            (
                RecordKey(r.source_system_l, r.org_code_l, r.identifier_value_l),
                RecordKey(r.source_system_r, r.org_code_r, r.identifier_value_r),
            ),
            r.decision,
            r.origin,
            r.origin_key,
            r.evidence_sha256,
        )
        for r in rows
    ]


def on_day(found: list[Asked], occurred_at: datetime) -> Counter[str]:
    """How many requests each institution was asked on a day."""
    return Counter(a.org_code for a in found if a.occurred_at == occurred_at)


def waiting(found: list[Asked]) -> Counter[str]:
    """How many requests each institution has not answered yet."""
    return Counter(a.org_code for a in found if a.is_open)
