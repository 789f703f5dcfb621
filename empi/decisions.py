"""What people decided about two registrations: kept for ever, keyed on the records, read by every run.

``must_link``: one person. ``cannot_link``: two persons. ``unsure``: looked at and left open; it joins nothing and is not
asked again. The newest decision on two records counts; it withdraws the one before. A decision on a record that is not
in the registers (any more) is kept and counts again when the record is back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from lake import audit, ledger, ops, tables, work
from lake.crypto import sm3_hex
from lake.errors import MedlakeError

#: Where a run finds them.
TABLE = "silver/match_decision"
DECISIONS = ("must_link", "cannot_link", "unsure")
REVIEW = "empi_review"

_t = ops.match_decision
#: What an answer to a review decides; None withdraws what was decided before.
_ANSWERS: dict[str, str | None] = {
    "apply_merge": "must_link",
    "not_same": "cannot_link",
    "unsure": "unsure",
    "unmerge": "cannot_link",
    "reopen": None,
}


class RecordKey(NamedTuple):
    """A registration."""

    source_system: str
    org_code: str
    identifier_value: str


SCHEMA = pa.schema(
    [
        *[pa.field(f"{c}_{s}", pa.string(), nullable=False) for s in ("l", "r") for c in RecordKey._fields],
        pa.field("decision", pa.string(), nullable=False),
        pa.field("decided_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("decision_id", pa.string(), nullable=False),
    ]
)


def _key(values: Mapping[str, Any], side: str) -> RecordKey:
    return RecordKey(*(str(values[f"{c}_{side}"]) for c in RecordKey._fields))


def sides(row: Any) -> tuple[RecordKey, RecordKey]:
    """The two records of a row of ``ops.match_decision``."""
    return _key(row._mapping, "l"), _key(row._mapping, "r")


def _of(left: RecordKey, right: RecordKey) -> dict[str, str]:
    low, high = sorted((tuple(left), tuple(right)))
    return {f"{c}_{s}": k[i] for s, k in (("l", low), ("r", high)) for i, c in enumerate(RecordKey._fields)}


def _on(pair: Mapping[str, str]) -> list[Any]:
    return [getattr(_t.c, name) == value for name, value in pair.items()]


def write(
    connection: Connection,
    left: RecordKey,
    right: RecordKey,
    decision: str,
    *,
    reason: str,
    actor: str,
    origin: str,
    origin_key: str,
    second_by: str | None = None,
    evidence_sha256: str | None = None,
    decision_id: str | None = None,
    at: datetime | None = None,
) -> str:
    """As :func:`decide`, in a transaction of the caller's."""
    if decision not in DECISIONS:
        raise MedlakeError("E320", detail=f"decision {decision}")
    if tuple(left) == tuple(right):
        raise MedlakeError("E320", detail="one record, not two")
    pair, now = _of(left, right), at or datetime.now(UTC)
    text = "|".join([*pair.values(), decision, actor, now.isoformat()])
    made = decision_id or f"D{sm3_hex(text.encode())[:20]}"
    if connection.execute(select(_t.c.decision_id).where(_t.c.decision_id == made)).one_or_none():
        return made
    connection.execute(
        update(_t).where(*_on(pair), _t.c.withdrawn_at.is_(None)).values(withdrawn_at=now, withdrawn_by=actor)
    )
    connection.execute(
        insert(_t).values(
            decision_id=made,
            **pair,
            decision=decision,
            reason=reason,
            origin=origin,
            origin_key=origin_key,
            evidence_sha256=evidence_sha256,
            decided_by=actor,
            second_by=second_by,
            decided_at=now,
        )
    )
    return made


def between(connection: Connection, ours: list[RecordKey], theirs: list[RecordKey]) -> list[Any]:
    """Decisions in force on a record of ours and one of theirs (rows of ``ops.match_decision``), oldest first."""
    numbers = sorted({k.identifier_value for k in (*ours, *theirs)})
    found = connection.execute(
        select(_t)
        .where(
            _t.c.withdrawn_at.is_(None),
            _t.c.identifier_value_l.in_(numbers),
            _t.c.identifier_value_r.in_(numbers),
        )
        .order_by(_t.c.decided_at, _t.c.decision_id)
    ).all()
    one, other = set(ours), set(theirs)
    return [
        row
        for row in found
        for left, right in [sides(row)]
        if (left in one and right in other) or (left in other and right in one)
    ]


def withdraw_between(
    connection: Connection, ours: list[RecordKey], theirs: list[RecordKey], *, actor: str
) -> None:
    """Take back whatever says of a record of ours and one of theirs that they are two persons, or may be."""
    stale = [r.decision_id for r in between(connection, ours, theirs) if r.decision != "must_link"]
    for decision_id in stale:
        connection.execute(
            update(_t)
            .where(_t.c.decision_id == decision_id)
            .values(withdrawn_at=datetime.now(UTC), withdrawn_by=actor)
        )


def decide(
    left: RecordKey,
    right: RecordKey,
    decision: str,
    *,
    reason: str,
    actor: str,
    origin: str = "steward",
    origin_key: str = "",
    second_by: str | None = None,
    evidence_sha256: str | None = None,
    decision_id: str | None = None,
) -> str:
    """Keep a decision on two records; one of the same ``decision_id`` changes nothing. Returns its id.

    Raises:
        MedlakeError: E320, no such decision, or it is about one record.
    """
    with ops.engine().begin() as connection:
        made = write(
            connection,
            left,
            right,
            decision,
            reason=reason,
            actor=actor,
            origin=origin,
            origin_key=origin_key,
            second_by=second_by,
            evidence_sha256=evidence_sha256,
            decision_id=decision_id,
        )
        told(connection, f"empi_{decision}", actor, decision_id=made)
    return made


def told(connection: Connection, action: str, actor: str, **details: Any) -> None:
    """Audit what somebody did to identities, in the transaction that does it; ids of decisions and persons only."""
    audit.record(
        action,
        actor=actor,
        purpose="identity",
        tables=["match_decision", "registry_change"],
        fields=[],
        rows=1,
        result="ok",
        connection=connection,
        **details,
    )


def withdraw(decision_id: str, *, actor: str) -> None:
    """Take a decision back; doing it again changes nothing.

    Raises:
        MedlakeError: E320, there is none of that id.
    """
    with ops.engine().begin() as connection:
        row = connection.execute(
            select(_t.c.withdrawn_at).where(_t.c.decision_id == decision_id)
        ).one_or_none()
        if row is None:
            raise MedlakeError("E320", detail=f"decision {decision_id}")
        if row.withdrawn_at is None:
            connection.execute(
                update(_t)
                .where(_t.c.decision_id == decision_id)
                .values(withdrawn_at=datetime.now(UTC), withdrawn_by=actor)
            )
            told(connection, "empi_withdraw", actor, decision_id=decision_id)


def take_answers() -> int:
    """Turn answers to reviews into decisions, each once (``<request_key>#<seq>``). Returns how many were new.

    An answer older than the newest decision on its two records is history: the worklist keeps it, nothing acts on it.
    """
    new = 0
    proposed: dict[str, str] = {}
    for answer in work.answers(REVIEW):  # people's answers: a few a minute
        if answer.action == "propose_merge":
            proposed[answer.request_key] = answer.actor
        if answer.action not in _ANSWERS:
            continue
        try:
            pair = _key(answer.payload, "l"), _key(answer.payload, "r")
        except KeyError:
            continue  # the item names no records: nothing that linking could act upon
        new += _take(answer, *pair, first=proposed.get(answer.request_key))
    return new


def _take(answer: work.Answer, left: RecordKey, right: RecordKey, first: str | None) -> bool:
    decision = _ANSWERS[answer.action]
    made = f"{answer.request_key}#{answer.seq}"
    with ops.engine().begin() as connection:
        if connection.execute(select(_t.c.decision_id).where(_t.c.decision_id == made)).one_or_none():
            return False
        newest = connection.execute(
            select(_t.c.decided_at).where(*_on(_of(left, right))).order_by(_t.c.decided_at.desc()).limit(1)
        ).scalar()
        if newest is not None and _utc(newest) > answer.answered_at:
            return False
        if decision is None:
            taken = connection.execute(
                update(_t)
                .where(*_on(_of(left, right)), _t.c.withdrawn_at.is_(None))
                .values(withdrawn_at=answer.answered_at, withdrawn_by=answer.actor)
            )
            return bool(taken.rowcount)
        write(
            connection,
            left,
            right,
            decision,
            reason=answer.reason or "",
            actor=first or answer.actor,
            second_by=answer.actor if first and first != answer.actor else None,
            origin="review",
            origin_key=answer.request_key,
            evidence_sha256=answer.data.get("evidence_sha256") or answer.payload.get("evidence_sha256"),
            decision_id=made,
            at=answer.answered_at,
        )
    return True


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def active(*, everything: bool = False) -> list[dict[str, Any]]:
    """Decisions in force (``everything``: withdrawn ones too), oldest first, as the table holds them."""
    query = select(_t).order_by(_t.c.decided_at, _t.c.decision_id)
    if not everything:
        query = query.where(_t.c.withdrawn_at.is_(None))
    with ops.engine().begin() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]


def contradicting(limit: int = 10) -> list[str]:
    """Ids of active decisions that cannot all hold: a cannot-link between records that must-links hold together, and those
    must-links. At most ``limit``.

    The loop is over what people decided, and only when a run has failed by it.
    """
    parent: dict[RecordKey, RecordKey] = {}

    def root(key: RecordKey) -> RecordKey:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]
        return key

    rows = active()
    for row in rows:
        if row["decision"] == "must_link":
            parent[root(_key(row, "l"))] = root(_key(row, "r"))
    apart = [r for r in rows if r["decision"] == "cannot_link" and root(_key(r, "l")) == root(_key(r, "r"))]
    bad = {root(_key(r, "l")) for r in apart}
    joined = [r for r in rows if r["decision"] == "must_link" and root(_key(r, "l")) in bad]
    return [str(r["decision_id"]) for r in (*apart, *joined)][:limit]


def snapshot() -> None:
    """Show the decisions in force to the coming run as ``silver/match_decision``; the same ones keep their version.

    The run pins that version like any other input. While nobody has ever decided anything the table is left alone.
    """
    kept = active(everything=True)
    if not kept:
        return
    rows = [
        {f.name: _utc(row[f.name]) if f.name == "decided_at" else row[f.name] for f in SCHEMA}
        for row in kept
        if row["withdrawn_at"] is None
    ]
    made = pa.Table.from_pylist(sorted(rows, key=lambda r: str(r["decision_id"])), schema=SCHEMA)
    at = ledger.visible("silver/").get(TABLE)
    if at is not None:
        shown = tables.read(TABLE, at).to_table()
        if set(SCHEMA.names) <= set(shown.column_names):
            shown = shown.select(SCHEMA.names).cast(SCHEMA).sort_by("decision_id")
            if shown.equals(made):
                return
    version = tables.overwrite(TABLE, made)
    with ops.engine().begin() as connection:
        ledger.set_visible(connection, TABLE, version, None)
