"""``medlake status``: where the platform stands."""

from __future__ import annotations

from typing import Any

from lake import ledger, runs
from medlake.demo import processes, servers


def overview() -> dict[str, Any]:
    """Ledger by feed and date, publication with gates, demo processes, and what to do next."""
    entries = [
        {
            "data_date": str(e["data_date"]),
            "feed": e["feed"],
            **{k: int(e[k]) for k in ("received", "loaded", "duplicate", "quarantined")},
            "state": e["state"],
        }
        for e in ledger.by_feed()
    ]
    published = [
        {k: str(p[k] or "") for k in ("product", "label_zh", "data_date", "gate", "reason_zh")}
        for p in servers.publication()
    ]
    alive = [{"name": n, "pid": p.pid} for n, p in processes.running().items()]
    last = runs.latest_run()
    if not entries:
        following = "make demo"
    elif not published:
        following = f"medlake empi link --date {entries[0]['data_date']}"
    else:
        following = "medlake quality evaluate"
    return {
        "ledger": entries,
        "run": {"run_id": last.run_id, "data_date": str(last.data_date)} if last else None,
        "publication": published,
        "processes": alive,
        "next": following,
    }
