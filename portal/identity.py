"""The registry's pages: pairs that a run was unsure of for two people to decide, and one resident by any number.

A pair is shown side by side with its score taken apart; the look is in the audit before anything is told. Decisions go
through the worklist, so that what two people must agree on is refused to one. The purpose is ``identity``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import worklist
from empi import changes, decisions
from empi.online.index import Index
from empi.review import explain_pair, pairs
from empi.review.explain import Explanation, guard_texts, texts
from empi.review.queue import evidence_of
from lake import access, audit, duck, ledger, registry, tables
from lake.access import Caller
from lake.errors import MedlakeError
from portal import work
from portal.accounts import Person
from worklist.machine import kind
from worklist.store import Item

PURPOSE, ROLE = "identity", "empi_steward"
#: Actions that decide: the decision keeps what it rests on.
DECIDING = ("propose_merge", "apply_merge", "not_same", "unsure", "unmerge")
#: State -> the steps it offers: (action, what the button says, its key).
CHOICES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "candidate": (("propose_merge", "是同一人", "1"), ("not_same", "不是同一人", "2"), ("unsure", "无法判定", "3")),
    "assigned": (("propose_merge", "是同一人", "1"), ("not_same", "不是同一人", "2"), ("unsure", "无法判定", "3")),
    "second_review": (("apply_merge", "同意合并", "1"), ("refuse_merge", "不同意", "2"), ("take_back", "撤回建议", "u")),
    "applied": (("unmerge", "撤销合并", "u"),),
    "not_same": (("reopen", "撤销决定", "u"),),
    "unsure": (("reopen", "撤销决定", "u"),),
    "unmerged": (("reopen", "重新审核", "u"),),
}  # fmt: skip
REASONS = (
    "证件与姓名一致，住址更新",
    "姓名同音或形近字，其余一致",
    "同一电话与住址，出生日期录入有误",
    "双胞胎或兄弟姐妹",
    "同名不同人，证件不同",
    "借用他人证件",
    "资料不足，已电话核实未果",
)
_TABLES = ("silver/patient", "silver/ph_archive")
#: Width of the waterfall's plot, in its own units.
_PLOT = 300.0


@dataclass(frozen=True)
class Row:
    """A pair in the queue. ``weight`` in bits, ``value``: what deciding it is worth."""

    item: Item
    place: int
    state_zh: str
    weight: str
    value: str
    has_two_archives: bool
    doubt: str


def caller(person: Person) -> Caller:
    return Caller(person.user, person.role, person.org_code, PURPOSE)


def _row(item: Item, place: int) -> Row:
    said = item.payload
    weight, value = said.get("match_weight"), said.get("value")
    return Row(
        item,
        place,
        kind(item.kind).states[item.state].zh,
        "—" if weight is None else f"{float(weight):+.1f}",
        "—" if value is None else f"{float(value):.3f}",
        "true" in (said.get("two_active_archives"), said.get("two_archives")),
        str(said.get("reason_zh") or guard_texts(said.get("guard"))["zh"]),
    )


def queue(person: Person, *, org: str = "", state: str = "", limit: int = 200) -> list[Row]:
    """Pairs in the person's institutions, the most valuable first; ``state`` one of the kind's, else those that wait."""
    reach = access.scope(caller(person))
    orgs = reach if not org else [o for o in (reach or registry.org_codes()) if o == org]
    is_open = not state or not kind(pairs.KIND).states[state].terminal
    found = worklist.items(kind=pairs.KIND, org_codes=orgs, is_open=is_open, limit=10_000)
    found = [i for i in found if not state or i.state == state]
    found.sort(key=lambda i: (-float(i.payload.get("rank_value") or 0), i.item_id))
    return [_row(item, place) for place, item in enumerate(found[:limit], start=1)]


def find(person: Person, item_id: str) -> Item:
    """A pair that the person may see.

    Raises:
        MedlakeError: E903, there is none such; E683 and others of the policy: no clear look for this role.
    """
    item = work.find(person, item_id)
    if item.kind != pairs.KIND:
        raise MedlakeError("E903", item_id=item_id)
    for table in _TABLES:
        access.check_purpose(caller(person), table)
    return item


def pair(person: Person, item: Item) -> Explanation | None:
    """The pair side by side, the look written down; None where a registration is not in the registers any more."""
    both = pairs.of_payload(item.payload)
    if both is None:
        return None
    try:
        return explain_pair(*both, actor=person.user, purpose=PURPOSE)
    except MedlakeError as error:
        if error.code == "E351":
            return None
        raise


def waterfall(found: Explanation) -> list[dict[str, Any]]:
    """The bars as numbers to draw: ``x`` and ``width`` in a plot of 300 units, ``zero`` the line of even odds."""
    totals = [0.0, *(bar.total for bar in found.bars)]
    low, high = min(totals), max(totals)
    scale = _PLOT / max(high - low, 1e-9)
    drawn = []
    for before, bar in zip(totals, found.bars, strict=False):
        left = min(before, bar.total)
        drawn.append(
            {
                "label": bar.label_zh,
                "meaning": bar.level_zh,
                "weight": f"{bar.weight:+.1f}",
                "x": round((left - low) * scale, 1),
                "width": round(max(abs(bar.weight) * scale, 1.0), 1),
                "zero": round((0.0 - low) * scale, 1),
                "is_for": bar.weight >= 0,
            }
        )
    return drawn


_SIDES, _WHOSE = {"l": "左", "r": "右"}, {"phone": "本人电话", "contact": "联系人电话"}


def beside(found: Explanation) -> dict[str, Any]:
    """The evidence in words: ``homes`` None while a run is at work, ``contacts``, ``seen``, ``archives``."""
    told, words = found.evidence, texts()
    homes = None
    if told.phones is not None:
        homes = [
            f"{_SIDES[p['side']]}·{_WHOSE[p['whose']]}：全市 {p['records']} 条登记、{p['persons']} 人、{p['homes']} 户使用"
            for p in told.phones
        ]
        homes += [
            f"{_SIDES[h['side']]}·同一门牌：{h['records']} 条登记、{h['persons']} 人"
            for h in told.homes or []
        ]
    return {
        "homes": homes,
        "contacts": [words["contacts"][name] for name in told.contacts],
        "seen": [
            f"{_SIDES[v['side']]}·{v['org_code']} {words['kinds'].get(v['kind'], v['kind'])} {v['times']} 次，"
            f"{v['first_on']} 至 {v['last_on']}"
            for v in [*told.visits, *told.services]
        ],
        "archives": [
            f"{_SIDES[a['side']]}·{a['org_code']} {'在用' if a['is_active'] else '不在用'}，建档 {a['created_on'] or '—'}"
            for a in told.archives
        ],
        "same_days": told.same_days,
    }


def spelled(one: str | None, other: str | None) -> list[tuple[str, bool]]:
    """The characters of the first value, each with whether the second has another one at that place."""
    text, against = one or "", other or ""
    return [(c, n >= len(against) or against[n] != c) for n, c in enumerate(text)]


def choices(person: Person, item: Item) -> list[tuple[str, str, str]]:
    """What the person can decide now. A second look is refused to who proposed: it is not offered either."""
    proposed = [e.actor for e in worklist.log_of(item.item_id) if e.action == "propose_merge"][-1:]
    offered = CHOICES.get(item.state, ())
    if item.state == "second_review":
        mine = proposed == [person.user]
        offered = tuple(c for c in offered if (c[0] == "take_back") is mine)
    return list(offered)


def decide(person: Person, item_id: str, action: str, reason: str, key: str, version: int) -> Item:
    """Decide, or take a decision back, as the person; the decision is in force at once.

    Raises:
        MedlakeError: E903 no such pair; E905 not offered in this state; E904 to E914 what a guard refuses.
    """
    item = find(person, item_id)
    if action not in {a for a, *_ in CHOICES.get(item.state, ())} or ROLE not in work.duties(person.role):
        raise MedlakeError("E905", role=person.role, action=action, allowed="—")
    if item.version != version:
        raise MedlakeError("E913", item_id=item.item_id)
    if item.state == "candidate":
        item = worklist.act(
            item.item_id, "assign_review", actor=person.user, role=ROLE, command_key=f"portal|{key}|assign"
        )
    both = pairs.of_payload(item.payload)
    evidence = evidence_of(*both) if both and action in DECIDING else None
    done = worklist.act(
        item.item_id,
        action,
        actor=person.user,
        role=ROLE,
        reason=reason.strip(),
        data={"evidence_sha256": evidence} if evidence else {},
        command_key=f"portal|{key}",
        expected_version=item.version,
    )
    decisions.take_answers()
    return done


def resident(index: Index, person: Person, code: str, source_ip: str) -> list[dict[str, Any]]:
    """Whom a number stands for, with records, values and where they come from, and what happened to the person.

    Any number will do: an id, a card, an institution's own, an index number (a retired one leads on).

    Raises:
        MedlakeError: E337, no index was built; E681 to E683 of the policy.
    """
    for table in _TABLES:
        access.check_purpose(caller(person), table)
    wanted = code.strip()
    ids = [wanted] if index.person(wanted) else index.lookup(wanted)
    audit.record(
        "empi_lookup", actor=person.user, purpose=PURPOSE, tables=["silver/person"], fields=["golden"],
        rows=len(ids), result="ok", actor_role=person.role, org_code=person.org_code, source_ip=source_ip, persons=ids,
    )  # fmt: skip
    return [_told(index, empi_id) for empi_id in ids[:20]]


def _told(index: Index, empi_id: str) -> dict[str, Any]:
    found = index.person(empi_id)
    assert found is not None
    if found.replaced_by:
        found = index.person(found.replaced_by) or found
    return {
        "person": found,
        "asked": empi_id,
        "values": _values(found.empi_id, found.golden),
        "numbers": index.numbers_of(found),
        "events": _events(found.empi_id, found.replaces),
    }


_LABELS = {"name": "姓名", "sex_code": "性别", "birth_date": "出生日期", "id_no": "证件号码", "phone": "联系电话",
           "addr_detail": "住址"}  # fmt: skip


def _lake(sql: str, name: str, values: list[Any]) -> list[dict[str, Any]]:
    """Rows of a query over the visible version of a table, ``{scan}`` in its text; none while there is no such table."""
    at = ledger.visible("silver/").get(name)
    if at is None:
        return []
    connection = duck.connect()
    try:
        cursor = connection.execute(sql.format(scan=tables.scan_sql(name, at)), values)
        names = [d[0] for d in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    finally:
        connection.close()


def _values(empi_id: str, golden: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(label, value, record that gave it) of the golden record."""
    rows = _lake(
        "SELECT value_source, value_records FROM {scan} WHERE empi_id = ?", "silver/person", [empi_id]
    )
    places, records = (rows[0]["value_source"], rows[0]["value_records"]) if rows else ({}, [])
    return [
        (label, str(golden.get(field) or "—"), records[places[field] - 1] if places.get(field) else "")
        for field, label in _LABELS.items()
        if field in golden
    ]


_EVENTS_ZH = {"create": "建立", "link": "新登记归入", "relink": "登记改归", "merge": "合并", "split": "拆分"}


def _events(empi_id: str, replaces: tuple[str, ...]) -> list[dict[str, Any]]:
    """What happened to a person and to those merged into it, newest first; a merge that still holds can be undone."""
    ids = [empi_id, *replaces]
    marks = ", ".join("?" for _ in ids)
    rows = _lake(
        "SELECT event_id, event_type, empi_id, other_empi_id, source_system, org_code, occurred_on, actor, undoes "
        f"FROM {{scan}} WHERE empi_id IN ({marks}) OR other_empi_id IN ({marks}) "
        "ORDER BY occurred_on DESC, event_id LIMIT 200",
        "silver/person_event",
        [*ids, *ids],
    )
    for row in rows:
        row["zh"] = _EVENTS_ZH[row["event_type"]]
        row["is_undoable"] = (
            row["event_type"] == "merge" and row["empi_id"] == empi_id and row["other_empi_id"] in replaces
        )
    return rows


def unmerge(person: Person, merge_id: str, reason: str) -> dict[str, Any]:
    """Undo a merge: the retired id has its records again, at once in the registry.

    Raises:
        MedlakeError: E322, E323 as ``empi.changes.unmerge``; E681 to E683 of the policy.
    """
    if ROLE not in work.duties(person.role):
        raise MedlakeError("E905", role=person.role, action="unmerge", allowed=ROLE)
    for table in _TABLES:
        access.check_purpose(caller(person), table)
    return changes.unmerge(merge_id, actor=person.user, reason=reason.strip())
