"""From proposals to items at both institutions, and what a later run finds out about them. Through ``lake.work`` only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from empi.archives import rules
from empi.archives.deciding import CONFIDENCE
from empi.archives.outcome import FROM, KIND, ORIGIN, TO, Case, Item, case_of, cases, request_key
from empi.archives.proposing import PROPOSAL
from lake import ledger, runs, tables, work
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from lake.log import logger

_log = logger("empi")
_TOLD = (
    "proposal_id", "action", "org_code", "archive_id", "keeper_org_code", "keeper_archive_id", "active_archives",
    "decided_by", "confidence", "is_contradicted", "has_tie",
)  # fmt: skip


def read(version: int | None = None) -> list[dict[str, Any]]:
    """Archives to be moved or closed, surest first and newest evidence first, each with its ``case``.

    A loop over rows: each becomes requests or a line on a screen, and they are as many as residents with several
    archives.

    Raises:
        MedlakeError: E361, nothing was proposed yet.
    """
    import pyarrow.compute as pc

    at = ledger.visible("silver/").get(PROPOSAL) if version is None else version
    if at is None:
        raise MedlakeError("E361")
    rows = tables.read(PROPOSAL, at).to_table(filter=pc.field("action") != "keep").to_pylist()
    for row in rows:
        row["case"] = case_of(row)
    oldest = date.min
    rows.sort(key=lambda r: str(r["proposal_id"]))
    rows.sort(key=lambda r: r["address_on"] or r["contract_on"] or r["service_on"] or oldest, reverse=True)
    rows.sort(key=lambda r: CONFIDENCE.index(r["confidence"]))
    return rows


def _requests(row: Mapping[str, Any], at: datetime) -> list[work.Request]:
    """Both requests of a case; one alone where an institution has two archives of a resident."""
    giver, taker = row["from_org_code"], row["managing_org_code"]
    payload = {name: row[name] for name in _TOLD} | {
        "from_org_code": giver,
        "to_org_code": taker,
        "evidence": json.loads(row["evidence"]),
    }
    if row["action"] == "close" and row["keeper_org_code"] == taker:
        payload["new_archive_id"] = row["keeper_archive_id"]  # it is there already: services go on in it
    severity = "info" if row["confidence"] == CONFIDENCE[-1] else "warn"
    return [
        work.Request(
            request_key=request_key(row["case"], side),
            kind=KIND,
            org_code=org,
            severity=severity,
            subject=f"archive_proposal/{row['proposal_id']}",
            occurred_at=at,
            origin=ORIGIN,
            payload=payload | {"side": side, "home_org_code": org},
        )
        for side, org in ((FROM, giver), (TO, taker))
        if side == FROM or giver != taker
    ]


def _settlement(item: Item, action: str, why: str, run_id: str, at: datetime) -> work.Settlement:
    return work.Settlement(item.request_key, action, f"{run_id}#{item.settled}", why, at, ORIGIN)


def _settle(known: Iterable[Case], standing: set[str], run_id: str, at: datetime) -> list[work.Settlement]:
    """Items that the other institution or new evidence has settled, and those that are asked again."""
    found: list[work.Settlement] = []
    for case in known:
        state = case.state
        for item in case.items.values():
            if item.is_open and state == "moved":
                found.append(_settlement(item, "finish", "档案已迁入", run_id, at))
            elif item.is_open and state == "refused":
                found.append(_settlement(item, "withdraw", "另一机构已拒绝", run_id, at))
            elif item.is_open and case.case not in standing:
                found.append(_settlement(item, "withdraw", "依据已变化，不再建议", run_id, at))
            elif item.state == state == "withdrawn" and case.case in standing:
                found.append(_settlement(item, "ask_again", "依据恢复，再次建议", run_id, at))
    return found


def ask(data_date: date) -> dict[str, Any]:
    """See :func:`empi.archives.ask`."""
    run_id = runs.get_run(data_date).run_id
    now = rules.in_force(data_date)
    at = datetime.combine(data_date, time(), SHANGHAI).astimezone(UTC)
    rows = read()
    known = cases()
    settled = _settle(known.values(), {r["case"] for r in rows}, run_id, at)
    items = [i for c in known.values() for i in c.items.values()]
    waiting = Counter(i.org_code for i in items if i.is_open)
    today = Counter(i.org_code for i in items if i.occurred_at == at)
    chosen: list[work.Request] = []
    held_back = 0
    for row in rows:
        if row["case"] in known:
            continue
        both = _requests(row, at)
        if any(
            waiting[r.org_code] >= now.open_per_org or today[r.org_code] >= now.new_per_org_and_day
            for r in both
        ):
            held_back += 1
            continue
        chosen += both
        waiting.update(r.org_code for r in both)
        today.update(r.org_code for r in both)
    counts = {
        "data_date": data_date.isoformat(),
        "proposed": len(rows),
        "asked": work.ask(chosen),
        "held_back": held_back,
        "settled": work.settle(settled),
    }
    _log.info("archives_asked", data_date=data_date, created=counts["asked"], persons=counts["proposed"])
    return counts
