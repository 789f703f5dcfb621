"""How the nodes are, and whom to ask about: lag and backlog per node, silent nodes, chains that stand still."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from ingestion.edge import centre_store
from ingestion.edge.identity import CENTRE
from ingestion.edge.parameters import parameter
from ingestion.edge.pki import Authority
from ingestion.edge.spool import Spool
from lake import work
from lake.local_time import SHANGHAI
from lake.work import Request


def nodes(now: datetime) -> list[dict[str, Any]]:
    """One row a node, issued or heard of: state, lag, backlog at the node and here, clock, troubles.

    ``lag_seconds`` counts from the last contact; ``state`` is ``new`` (never heard), ``ok``, ``silent``, ``troubled`` or
    ``revoked``. ``waiting_*`` is the node's own word at its last contact.
    """
    store = centre_store.open_store()
    db = store.reading()
    calls = {r[0]: r[1:] for r in db.execute("SELECT node, last_at, through, offset_ms, status FROM contact")}
    pending = dict(db.execute("SELECT node, count(*) FROM chunk GROUP BY node").fetchall())
    done: dict[str, tuple[int, int]] = {
        n: (files, failed)
        for n, files, failed in db.execute(
            "SELECT node, count(*) FILTER (WHERE state = 'done'), count(*) FILTER (WHERE state = 'failed')"
            " FROM delivery GROUP BY node"
        )
    }
    troubles = {s.node: s.trouble for s in store.streams() if s.trouble}
    silent_after = parameter("silent_after_hours", now.astimezone(SHANGHAI).date()) * 3600
    found = []
    for name, member in Authority().register.members().items():
        if name == CENTRE:
            continue
        last_at, through, offset_ms, text = calls.get(name, (None, "", None, "{}"))
        status = json.loads(text)
        lag = round((now - datetime.fromisoformat(last_at)).total_seconds()) if last_at else None
        trouble = troubles.get(name) if _is_newest(store, name, member.epoch) else None
        state = (
            "revoked"
            if member.revoked_at
            else "new"
            if lag is None
            else "silent"
            if lag > silent_after
            else "ok"
        )
        found.append(
            {
                "node": name,
                "org_code": member.org_code,
                "parent": member.parent,
                "state": "troubled" if trouble and state in ("ok", "silent") else state,
                "trouble": trouble or "",
                "last_contact": last_at,
                "lag_seconds": lag,
                "through": through,
                "offset_ms": offset_ms,
                "waiting_chunks": status.get("waiting_chunks"),
                "waiting_records": status.get("waiting_records"),
                "waiting_mb": round(status.get("waiting_bytes", 0) / 1e6, 1),
                "oldest_at": status.get("oldest_at", ""),
                "pending_chunks": pending.get(name, 0),
                "deliveries": done.get(name, (0, 0))[0],
                "failed": done.get(name, (0, 0))[1],
                "refused": " ".join(sorted(status.get("refused", {}))),
                "pack_version": status.get("pack_version", 0),
            }
        )
    store.close()
    return found


def _is_newest(store: Spool, node: str, epoch: int) -> bool:
    """Whether the chain with trouble is the one in use: a readmitted node's old chain stays as it was."""
    return any(s.trouble and s.epoch == epoch for s in store.streams(node))


def ask_about(now: datetime) -> dict[str, int]:
    """Ask people for work on nodes that are silent or stand still (kind ``silent_feed``); asking again changes nothing."""
    asked = []
    for one in nodes(now):
        if one["state"] not in ("silent", "troubled"):
            continue
        since = datetime.fromisoformat(one["last_contact"]) if one["last_contact"] else now
        mark = one["trouble"] or since.astimezone(UTC).isoformat(timespec="seconds")
        asked.append(
            Request(
                request_key=f"edge_{one['state']}|{one['node']}|{mark}",
                kind="silent_feed",
                org_code=one["org_code"],
                severity="error" if one["trouble"] else "warn",
                subject=f"edge_node/{one['node']}",
                occurred_at=since,
                origin="edge",
                payload={
                    k: one[k]
                    for k in ("node", "state", "trouble", "last_contact", "waiting_chunks", "waiting_records")
                },
            )
        )
    return {"silent": len(asked), "new": work.ask(asked)}


def absences(since: datetime) -> list[tuple[str, str, datetime, datetime]]:
    """Times apart that ended after ``since``: node, institution, from, to (UTC)."""
    store = centre_store.open_store()
    rows = (
        store.reading()
        .execute("SELECT node, org_code, from_at, to_at FROM absence ORDER BY node, from_at")
        .fetchall()
    )
    store.close()
    found = [(n, o, datetime.fromisoformat(f), datetime.fromisoformat(t)) for n, o, f, t in rows]
    return [f for f in found if f[3] >= since]
