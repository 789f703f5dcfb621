"""Merging and parting two persons by hand: at once in the operational registry, in the lake with the next run.

A change is one transaction: the row of ``registry_change`` with every record's person before and after, and the
decisions on records that make each coming run agree. Nothing is ever taken away: an undo is a change too.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from empi import decisions, members
from empi.decisions import RecordKey
from empi.members import Members
from empi.review import pairs
from lake import duck, ledger, ops, tables, work
from lake.crypto import sm3_hex
from lake.errors import MedlakeError
from lake.log import logger

EVENT = "silver/person_event"
#: Cross pairs that an undo keeps apart one by one: larger persons are no persons.
MAX_PAIRS = 10_000

_log = logger("empi")


def _text(of: Members) -> str:
    return json.dumps({e: [list(r) for r in records] for e, records in of.items()}, ensure_ascii=False)


def _known(connection: Connection, change_id: str) -> Any:
    t = ops.registry_change
    return connection.execute(select(t).where(t.c.change_id == change_id)).one_or_none()


def _keep(connection: Connection, change_id: str, **values: Any) -> dict[str, Any]:
    row = values | {"change_id": change_id, "changed_at": datetime.now(UTC)}
    connection.execute(insert(ops.registry_change).values(row))
    decisions.told(connection, f"empi_{values['kind']}", values["actor"], change_id=change_id)
    _log.info(f"registry_{values['kind']}", step=values["kind"])
    return _told(change_id, values["empi_id"], values["other_empi_id"])


def merge(
    empi_id: str,
    other_empi_id: str,
    *,
    actor: str,
    reason: str,
    second_actor: str | None = None,
    change_id: str | None = None,
) -> dict[str, Any]:
    """Two persons are one: the first id stays, the other leads to it for ever.

    Two persons who both have a public-health archive in use are merged by two people: without ``second_actor`` (somebody
    other than ``actor``) nothing is changed and a review is asked for.

    Args:
        change_id: the caller's own name for the change; the same again changes nothing.

    Returns:
        ``state`` (``applied`` or ``review``), ``change_id`` or ``request_key``, ``empi_id``, ``other_empi_id``.

    Raises:
        MedlakeError: E321, an id has no records (it is retired, or was never issued); E103, nothing was linked yet.
    """
    if empi_id == other_empi_id:
        raise MedlakeError("E321", detail="one id, not two")
    with ops.engine().begin() as connection:
        ops.exclusive(connection, "registry_change")
        made = change_id or _name("merge", empi_id, other_empi_id)
        if known := _known(connection, made):
            return _told(made, known.empi_id, known.other_empi_id)
        now = members.members(connection, empi_id, other_empi_id)
        if not all(now.values()):
            raise MedlakeError("E321", detail=" ".join(e for e, records in now.items() if not records))
        ours, theirs = now[empi_id], now[other_empi_id]
        archives = [members.active_archives(records) for records in (ours, theirs)]
        if second_actor in (None, actor) and all(archives):
            asked = (empi_id, other_empi_id, (archives[0][0], archives[1][0]), reason)
        else:
            decisions.withdraw_between(connection, ours, theirs, actor=actor)
            decisions.write(
                connection,
                ours[0],
                theirs[0],
                "must_link",
                reason=reason,
                actor=actor,
                second_by=second_actor,
                origin="merge",
                origin_key=made,
            )
            return _keep(
                connection,
                made,
                kind="merge",
                empi_id=empi_id,
                other_empi_id=other_empi_id,
                undoes=None,
                before=_text(now),
                after=_text({empi_id: sorted([*ours, *theirs]), other_empi_id: []}),
                reason=reason,
                actor=actor,
                second_actor=second_actor,
            )
    return _ask(*asked, actor=actor)


def _name(kind: str, empi_id: str, other_empi_id: str) -> str:
    """A change's own name when the caller has none: one a microsecond."""
    text = f"{kind}|{empi_id}|{other_empi_id}|{datetime.now(UTC).isoformat()}"
    return f"C{sm3_hex(text.encode())[:20]}"


def _told(change_id: str, empi_id: str, other_empi_id: str) -> dict[str, Any]:
    return {"state": "applied", "change_id": change_id, "empi_id": empi_id, "other_empi_id": other_empi_id}


def _ask(
    empi_id: str, other_empi_id: str, archives: tuple[RecordKey, RecordKey], reason: str, *, actor: str
) -> dict[str, Any]:
    """Ask two people: both archives are in use."""
    low, high = sorted(archives)
    digest, key = pairs.digest(low, high), pairs.request_key(low, high)
    sides = {f"{n}_{s}": v for s, k in (("l", low), ("r", high)) for n, v in k._asdict().items()}
    ids = {"empi_id_l": empi_id, "empi_id_r": other_empi_id}
    if archives != (low, high):
        ids = {"empi_id_l": other_empi_id, "empi_id_r": empi_id}
    payload = sides | ids | {"asked_by": actor, "reason_zh": reason, "two_archives": "true"}
    work.ask(
        [
            work.Request(
                key, pairs.KIND, low.org_code, "warn", f"match/{digest[:16]}", datetime.now(UTC),
                "registry", payload,
            )
        ]
    )  # fmt: skip
    return {"state": "review", "request_key": key, "empi_id": empi_id, "other_empi_id": other_empi_id}


def unmerge(merge_id: str, *, actor: str, reason: str, change_id: str | None = None) -> dict[str, Any]:
    """Undo a merge, whoever or whatever made it: its retired id gets the very records back that it had.

    Args:
        merge_id: the ``change_id`` of an online merge, or the ``event_id`` of a merge in ``silver/person_event``.

    Raises:
        MedlakeError: E322, no such merge; E323, its records have since gone elsewhere, or it is undone already.
    """
    made = change_id or f"C{sm3_hex(f'unmerge|{merge_id}'.encode())[:20]}"
    with ops.engine().begin() as connection:
        ops.exclusive(connection, "registry_change")
        if known := _known(connection, made):
            return _told(made, known.empi_id, known.other_empi_id)
        empi_id, other_empi_id, then, theirs = _merged(connection, merge_id)
        now = members.members(connection, empi_id, other_empi_id)
        if now[other_empi_id] or not set(theirs) <= set(now[empi_id]) or set(theirs) == set(now[empi_id]):
            raise MedlakeError("E323", place=merge_id)
        ours = [r for r in now[empi_id] if r not in set(theirs)]
        _part(
            connection,
            _held(connection, empi_id, ours, then),
            theirs,
            reason=reason,
            actor=actor,
            change_id=made,
        )
        return _keep(
            connection,
            made,
            kind="unmerge",
            empi_id=empi_id,
            other_empi_id=other_empi_id,
            undoes=merge_id,
            before=_text(now),
            after=_text({empi_id: ours, other_empi_id: theirs}),
            reason=reason,
            actor=actor,
            second_actor=None,
        )


def _held(
    connection: Connection, empi_id: str, ours: list[RecordKey], then: list[RecordKey]
) -> list[RecordKey]:
    """Our records that were ours before the merge, or that people gave us since. One that a run brought may have come for
    the sake of the other person: where it belongs is the next run's to say."""
    t = ops.registry_change
    given = connection.execute(
        select(t.c.before).where(t.c.kind == "merge", t.c.empi_id == empi_id)
    ).scalars()
    held = set(then) | {
        RecordKey(*r) for text in given for records in json.loads(text).values() for r in records
    }
    return [r for r in ours if r in held] or ours


def _part(
    connection: Connection,
    ours: list[RecordKey],
    theirs: list[RecordKey],
    *,
    reason: str,
    actor: str,
    change_id: str,
) -> None:
    """Every pair across is two persons, whatever bridge comes; what hung together by way of the others still does.

    Raises:
        MedlakeError: E323, so many records are no two persons.
    """
    if len(ours) * len(theirs) > MAX_PAIRS:
        raise MedlakeError("E323", place=change_id)
    told: dict[str, Any] = {"reason": reason, "actor": actor, "origin": "unmerge", "origin_key": change_id}
    joins = [
        decisions.sides(r) for r in decisions.between(connection, ours, theirs) if r.decision == "must_link"
    ]
    ends = {record for pair in joins for record in pair}
    at = datetime.now(UTC)
    for mine in ours:
        for other in theirs:
            decisions.write(connection, mine, other, "cannot_link", at=at, **told)
    for side in (ours, theirs):
        bridged = [r for r in side if r in ends]
        for one, next_one in pairwise(bridged):
            decisions.write(connection, one, next_one, "must_link", at=at, **told)


def _merged(connection: Connection, merge_id: str) -> tuple[str, str, list[RecordKey], list[RecordKey]]:
    """(who stayed, who was retired, the records of each before) of a merge."""
    row = _known(connection, merge_id)
    if row is not None:
        if row.kind != "merge":
            raise MedlakeError("E322", place=merge_id)
        return row.empi_id, row.other_empi_id, *_before(row.before, row.empi_id, row.other_empi_id)
    visible = ledger.visible("silver/")
    if EVENT not in visible or "before" not in tables.columns(EVENT, visible[EVENT]):
        raise MedlakeError("E322", place=merge_id)
    lake = duck.connect()
    try:
        rows = lake.execute(
            f"""SELECT empi_id, other_empi_id, before FROM {tables.scan_sql(EVENT, visible[EVENT])}
            WHERE event_id = ? AND event_type = 'merge'""",
            [merge_id],
        ).fetchall()
    finally:
        lake.close()
    if not rows or not rows[0][2]:
        raise MedlakeError("E322", place=merge_id)
    empi_id, other_empi_id, before = rows[0]
    return empi_id, other_empi_id, *_before(before, empi_id, other_empi_id)


def _before(text: str, *empi_ids: str) -> list[list[RecordKey]]:
    held = json.loads(text)
    return [sorted(RecordKey(*r) for r in held[e]) for e in empi_ids]


def listed(limit: int = 200) -> list[dict[str, Any]]:
    """The newest changes first, without their records."""
    t = ops.registry_change
    shown = (t.c.seq, t.c.change_id, t.c.kind, t.c.empi_id, t.c.other_empi_id, t.c.undoes, t.c.actor)
    query = select(*shown, t.c.second_actor, t.c.changed_at, t.c.run_id).order_by(t.c.seq.desc()).limit(limit)
    with ops.engine().begin() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]
