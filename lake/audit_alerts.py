"""What in the audit log an auditor should look at: unusual volume, night work, one's own record, colleagues, guessing,
break-glass. Thresholds are dated parameters (``audit_alerts.yaml``); an alert is a question, not a verdict."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import select

from lake import audit_search, ops
from lake.access_tables import audit_person, portal_account
from lake.local_time import SHANGHAI

LABELS = {
    "volume": "数据量异常",
    "night": "夜间访问",
    "own_record": "查看本人档案",
    "colleague": "查看同事档案",
    "guessing": "登录猜测",
    "break_glass": "紧急调阅",
}

#: Counting residents for a statutory report is looking at none of them.
COUNTS = frozenset({"report_fill", "report_differences"})


@lru_cache(maxsize=1)
def parameters() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("audit_alerts.yaml").read_text("utf-8"))
    return read


def _staff() -> dict[str, str]:
    """Resident -> the account that is this resident's."""
    with ops.reader().connect() as connection:
        known = portal_account.c.empi_id.is_not(None)
        rows = connection.execute(select(portal_account.c.empi_id, portal_account.c.user).where(known)).all()
    return {str(empi_id): str(user) for empi_id, user in rows}


def alerts(since: datetime, until: datetime) -> list[dict[str, Any]]:
    """Alerts of a window, newest first: ``kind, kind_zh, actor, day, count, seq`` (the last entry that it is about).

    One pass over the entries: each is JSON and speaks for itself.
    """
    rule, staff = parameters(), _staff()
    rows: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    last: dict[tuple[str, str, str], int] = {}
    limits = {
        "volume": rule["volume_rows"],
        "volume_persons": rule["volume_persons"],
        "guessing": rule["refused_logins"],
    }

    def count(kind: str, actor: str, day: str, by: int, seq: int) -> None:
        if not by:
            return
        rows[kind, actor, day] += by
        last[kind, actor, day] = max(seq, last.get((kind, actor, day), 0))

    watched: dict[int, tuple[str, str]] = {}
    archived: list[tuple[int, str, str, list[str]]] = []
    for entry in audit_search.entries(since, until):
        local = datetime.fromisoformat(entry["at"]).astimezone(SHANGHAI)
        day, actor, seq = local.date().isoformat(), str(entry.get("actor", "")), int(entry["seq"])
        amount = int(entry.get("rows") or 0)
        is_person, action = bool(entry.get("actor_role")), str(entry.get("action", ""))
        looked_at = 0 if action in COUNTS else int(entry.get("persons_count") or 0)
        if action.startswith("login"):
            if entry.get("result") == "refused":
                who = actor if actor != "unknown" else str(entry.get("source_ip", ""))
                count("guessing", who, day, 1, seq)
            continue
        if is_person:
            count("volume", actor, day, amount, seq)
            count("volume_persons", actor, day, looked_at, seq)
            start, end = rule["night"]
            if amount and (local.hour >= start or local.hour < end):
                count("night", actor, day, 1, seq)
        if action == "break_glass.open":
            count("break_glass", actor, day, 1, seq)
        if looked_at and staff:
            if entry["persons"] is None:
                watched[seq] = (actor, day)
            else:
                archived.append((seq, actor, day, entry["persons"]))
    if watched:
        with ops.reader().connect() as connection:
            of_staff = audit_person.c.empi_id.in_(sorted(staff))
            between = audit_person.c.seq.between(min(watched), max(watched))
            for seq, empi_id in connection.execute(select(audit_person).where(of_staff & between)):
                if seq in watched:
                    archived.append((seq, *watched[seq], [empi_id]))
    for seq, actor, day, persons in archived:
        for empi_id in staff.keys() & set(persons):
            count("own_record" if staff[empi_id] == actor else "colleague", actor, day, 1, seq)
    found = [
        {"kind": kind.removesuffix("_persons"), "kind_zh": LABELS[kind.removesuffix("_persons")], "actor": actor,
         "day": day, "count": number, "seq": last[kind, actor, day]}
        for (kind, actor, day), number in rows.items()
        if number >= limits.get(kind, 1)
    ]  # fmt: skip
    return sorted(found, key=lambda alert: -int(alert["seq"]))
