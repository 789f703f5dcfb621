"""Whose archive is it: proposals with their evidence, what each of the two institutions answered, and the way to answer.

A person sees the cases in which one of the own institutions gives or takes; answers are steps of the worklist's items
(kind ``archive_move``), one at each institution. What was settled goes back to the sources as files of their own layout.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import worklist
from empi import archives
from lake import access, audit, registry, runs
from lake.access import Caller
from lake.errors import MedlakeError
from portal import work
from portal.accounts import Person
from worklist.machine import kind
from worklist.store import Item

KIND = "archive_move"
LIST_ROWS = 200
#: Role -> the purpose that archives are looked at for.
_PURPOSES = {"steward": "identity", "officer": "public_health"}
STATES = {
    "not_asked": "未发起", "asked": "待迁出机构放行", "released": "已放行，待迁入", "moved": "已迁入", "refused": "已拒绝",
    "withdrawn": "已撤回",
}  # fmt: skip
ACTIONS = {"move": "迁移", "close": "并入后注销", "keep": "保留"}
RULES = {
    "address": "现住址",
    "contract": "家医签约",
    "service": "最近面对面服务",
    "archive": "最近更新的档案",
}
SURE = {"certain": "确定", "likely": "较可能", "unclear": "不明"}


def caller(person: Person) -> Caller:
    return Caller(person.user, person.role, person.org_code, _PURPOSES.get(person.role, ""))


def _names() -> dict[str, str]:
    orgs = registry.orgs()
    return dict(zip(orgs["org_code"].to_pylist(), orgs["org_short_name"].to_pylist(), strict=True))


def _reaches(person: Person, row: dict[str, Any]) -> bool:
    seen = access.scope(caller(person))
    return seen is None or not seen.isdisjoint((row["from_org_code"], row["managing_org_code"]))


def _shown(person: Person, row: dict[str, Any]) -> dict[str, Any]:
    """A proposal with names of institutions, the archive's number as the policy shows it."""
    act = access.columns(caller(person), "silver/ph_archive", ["archive_id"])["archive_id"]
    names = _names()
    sides = {side: row[f"{side}_org_code"] for side in ("from", "managing")}
    told = dict(row) | {f"{side}_zh": names.get(org, org) for side, org in sides.items()}
    if act != "clear":
        told["archive_id"] = "***"
    return told | {
        "state_zh": STATES[row["state"]],
        "action_zh": ACTIONS[row["action"]],
        "by_zh": RULES.get(row["decided_by"], row["decided_by"]),
        "sure_zh": SURE.get(row["confidence"], row["confidence"]),
    }


def listed(person: Person, *, state: str = "") -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Cases in the person's reach, surest first, and how many there are of each state.

    Raises:
        MedlakeError: E361, nothing was proposed yet; E681 to E683 of the policy.
    """
    access.check_purpose(caller(person), "silver/ph_archive")
    rows = [r for r in archives.proposals(limit=100_000) if _reaches(person, r)]
    counts: dict[str, int] = {}
    for row in rows:  # a few thousand open cases of a city
        counts[row["state"]] = counts.get(row["state"], 0) + 1
    chosen = [r for r in rows if not state or r["state"] == state][:LIST_ROWS]
    return [_shown(person, r) for r in chosen], counts


def show(person: Person, proposal_id: str, source_ip: str) -> dict[str, Any]:
    """One case: the archives of the resident, the evidence, both institutions' items with the step that is theirs.

    Raises:
        MedlakeError: E362, there is none such (or it is out of reach); E361; E681 to E683.
    """
    access.check_purpose(caller(person), "silver/ph_archive")
    row = next(
        (
            r
            for r in archives.proposals(limit=100_000)
            if r["proposal_id"] == proposal_id and _reaches(person, r)
        ),
        None,
    )
    if row is None:
        raise MedlakeError("E362", proposal_id=proposal_id[:40])
    found = archives.show(proposal_id)
    audit.record(
        "archive_look", actor=person.user, purpose=caller(person).purpose, tables=["silver/archive_proposal"],
        fields=["archive_id", "evidence"], rows=len(found["archives"]), result="ok", actor_role=person.role,
        org_code=person.org_code, source_ip=source_ip,
    )  # fmt: skip
    names = _names()
    return {
        "case": _shown(person, row),
        "found": found,
        "names": names,
        "item_states": {code: state.zh for code, state in kind(KIND).states.items()},
        "evidence": _evidence(found["evidence"], names),
        "sides": [_side(person, item, names) for item in _items(row)],
    }


def _items(row: dict[str, Any]) -> list[Item]:
    """The case's items, that of the institution that gives first."""
    subject = f"archive_proposal/{row['proposal_id']}"
    orgs = sorted({row["from_org_code"], row["managing_org_code"]})
    found = worklist.items(kind=KIND, org_codes=orgs, is_open=None, limit=10_000)
    return sorted(
        (i for i in found if i.subject == subject), key=lambda i: str(i.payload.get("side")) != "from"
    )


def _steps(person: Person, item: Item) -> list[work.Step]:
    """The steps of the item's own side: who gives releases and who takes agrees."""
    side = str(item.payload.get("side", "from"))
    rules = {t.action: t for t in kind(KIND).actions(item.state)}

    def is_its(step: work.Step) -> bool:
        t = rules[step.action]
        only, never = ((way or {}).get("side") for way in (t.condition, t.unless))
        return (only is None or side in only) and (never is None or side not in never)

    return [s for s in work.steps(person, item) if is_its(s)]


def _side(person: Person, item: Item, names: dict[str, str]) -> dict[str, Any]:
    state = kind(KIND).states[item.state]
    home = str(item.payload.get("home_org_code", item.org_code))
    return {
        "item_id": item.item_id,
        "side_zh": "迁出机构" if item.payload.get("side") == "from" else "迁入机构",
        "org_zh": names.get(home, home),
        "state_zh": state.zh,
        "is_done": state.terminal,
        "steps": [s.zh for s in _steps(person, item)] if work.sees(item, person) else [],
    }


def _evidence(told: list[dict[str, Any]], names: dict[str, str]) -> list[dict[str, Any]]:
    """What each rule says: its name, the institution it speaks for, since when, whether it decided."""
    return [
        {
            "rule_zh": RULES.get(e["rule"], e["rule"]),
            "org_zh": names.get(e["org_code"], e["org_code"]) if e["org_code"] else "不能决定",
            "on": e["on"],
            "basis": e["basis"],
            "is_tied": e["tied"],
            "decides": e["decides"],
        }
        for e in told
    ]


def write_back(person: Person) -> dict[str, Any]:
    """Write what was settled as import files of the sources' own layout; they lie beside those of corrections.

    Raises:
        MedlakeError: E905 not this role's; E363 and others of ``empi.archives.write_back``.
    """
    if person.role != "steward":
        raise MedlakeError("E905", role=person.role, action="write_back", allowed="steward")
    run = runs.latest_run()
    return archives.write_back(run.data_date if run else date.min)
