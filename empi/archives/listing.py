"""Proposals as people look at them: what to do with which archive, why, and what became of it."""

from __future__ import annotations

import json
from typing import Any

from empi.archives.outcome import FROM, TO, cases
from empi.archives.proposing import PROPOSAL
from empi.archives.requests import read
from lake import ledger, tables
from lake.errors import MedlakeError

#: State of a case that nobody was asked about yet.
NOT_ASKED = "not_asked"
_SHOWN = (
    "proposal_id", "action", "org_code", "archive_id", "from_org_code", "managing_org_code", "keeper_org_code",
    "keeper_archive_id", "decided_by", "confidence",
)  # fmt: skip


def proposals(*, org_code: str | None, state: str | None, limit: int) -> list[dict[str, Any]]:
    """See :func:`empi.archives.proposals`. ``org_code`` gives or takes; ``state`` as in ``empi.archives.outcome``."""
    known = cases()
    found: list[dict[str, Any]] = []
    for row in read():
        if org_code is not None and org_code not in (row["from_org_code"], row["managing_org_code"]):
            continue
        now = known[row["case"]].state if row["case"] in known else NOT_ASKED
        if state is None or now == state:
            found.append({name: row[name] for name in _SHOWN} | {"state": now})
        if len(found) >= limit:
            break
    return found


def show(proposal_id: str) -> dict[str, Any]:
    """See :func:`empi.archives.show`."""
    import pyarrow.compute as pc

    at = ledger.visible("silver/").get(PROPOSAL)
    if at is None:
        raise MedlakeError("E361")
    table = tables.read(PROPOSAL, at)
    begins = pc.starts_with(pc.field("proposal_id"), proposal_id)
    chosen = table.to_table(filter=begins).to_pylist() if proposal_id else []
    if len(chosen) != 1:
        raise MedlakeError("E362", proposal_id=proposal_id)
    mine = table.to_table(filter=pc.field("empi_id") == chosen[0]["empi_id"]).to_pylist()
    known, by_id = cases(), {r["proposal_id"]: r["case"] for r in read(at)}

    def told(row: dict[str, Any]) -> dict[str, Any]:
        case = known.get(by_id.get(row["proposal_id"], ""))
        asked = {s: case.items[s].state for s in (FROM, TO) if case and s in case.items}
        return {n: row[n] for n in ("proposal_id", "action", "org_code", "archive_id")} | {"items": asked}

    first = chosen[0]
    return {
        **{name: first[name] for name in ("proposal_id", "managing_org_code", "decided_by", "confidence")},
        "is_contradicted": first["is_contradicted"],
        "has_tie": first["has_tie"],
        "archives": [told(r) for r in sorted(mine, key=lambda r: (r["org_code"], r["archive_id"]))],
        "evidence": json.loads(first["evidence"]),
    }
