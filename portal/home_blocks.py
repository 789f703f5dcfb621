"""What the blocks of home show: aggregates and the person's own lines, never a resident.

Each returns None while there is nothing to show yet, and may raise: home shows that block as failed. What a check or a
publication made is kept by its version: it is computed once, and never stale. Instants are UTC, days are local.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import func, select

import products
import worklist
from lake import access, audit_alerts, registry
from lake.settings import settings
from portal import account_store, glass_review, serving
from portal import due as due_list
from portal import work as my_work
from portal.accounts import Person
from products.cohorts import saved
from products.exports import jobs
from quality import scorecards
from quality.tickets import KIND as TICKET
from quality.tickets import counting
from worklist import store
from worklist.machine import kind
from worklist.tables import item

#: Numbered errors that only say that nothing was made yet.
NOTHING_YET = frozenset({"E103", "E106", "E423", "E450", "E608"})

#: Lines of a list on home; the room itself has all.
LINES = 5
_DAYS = 30


def _scope(person: Person) -> frozenset[str] | None:
    return access.scope(my_work.caller(person))


def _names() -> dict[str, str]:
    orgs = registry.orgs()
    return dict(zip(orgs["org_code"].to_pylist(), orgs["org_short_name"].to_pylist(), strict=True))


def _late(person: Person, now: datetime, **only: Any) -> int:
    """Open items past their clock, of the person's institutions (and roles, unless a kind is named)."""
    seen = _scope(person)
    terms = [item.c.is_open.is_(True), item.c.due_at < now]
    if "kind" in only:
        terms.append(item.c.kind == only["kind"])
    else:
        terms.append(item.c.owner_role.in_(my_work.duties(person.role)))
    if seen is not None:
        terms.append(item.c.org_code.in_(sorted(seen)))
    with store.begin() as connection:
        return int(connection.execute(select(func.count()).select_from(item).where(*terms)).scalar() or 0)


def work(person: Person, now: datetime) -> dict[str, Any] | None:
    """What waits: counts by kind, how many are late, the most urgent."""
    counts = my_work.waiting(person)
    if not counts:
        return None
    kinds = sorted(counts.items(), key=lambda x: -x[1])
    return {
        "waiting": sum(counts.values()),
        "late": _late(person, now),
        "kinds": [(code, kind(code).zh, n) for code, n in kinds[:6]],
        "lines": my_work.mine(person, limit=LINES, at=now),
    }


def spark(values: list[float], width: int = 240, height: int = 48) -> str:
    """Points of a polyline over equal steps; the lowest value lies at the bottom, a level line in the middle."""
    low, span = min(values), max(values) - min(values)
    step = width / max(1, len(values) - 1)
    places = (height - 4 - (v - low) / span * (height - 8) if span else height / 2 for v in values)
    return " ".join(f"{n * step:.1f},{y:.1f}" for n, y in enumerate(places))


@lru_cache(maxsize=256)
def _scores(home: str, occasion: str, org: str) -> dict[str, Any] | None:
    """Scores of an institution, or of the city for ``org`` empty; ``home`` and ``occasion`` name the check."""
    line = scorecards.trend(org or None, days=_DAYS)
    values = [float(r["score"]) for r in line if r["score"] is not None]
    made: dict[str, Any] = {"trend": spark(values) if len(values) > 1 else "", "days": len(values)}
    if values:
        made["change"] = round(values[-1] - values[0], 1)
    if not org:
        lowest = [r for r in scorecards.ranking() if r["score"] is not None][::-1][:LINES]
        return made | {"score": values[-1], "card": None, "lowest": lowest} if values else None
    card = scorecards.card(org)
    whole, *domains = card["domains"]
    if whole["score"] is None:
        return None
    worst = sorted((d for d in domains if d["score"] is not None), key=lambda d: d["score"])[:3]
    return made | {"score": whole["score"], "card": whole, "worst": worst, "data_date": card["data_date"]}


def scores(person: Person, _now: datetime) -> dict[str, Any] | None:
    """The institution's score with its interval and rank; of the city for who answers for all of it."""
    at = counting.newest()
    if at is None or person.org_code not in _names():
        return None
    return _scores(str(settings().home), at.occasion, "" if _scope(person) is None else person.org_code)


def tickets(person: Person, now: datetime) -> dict[str, Any] | None:
    """Open quality tickets of the institutions in reach, by state."""
    seen = _scope(person)
    terms = [item.c.is_open.is_(True), item.c.kind == TICKET]
    if seen is not None:
        terms.append(item.c.org_code.in_(sorted(seen)))
    query = select(item.c.state, func.count().label("n")).where(*terms).group_by(item.c.state)
    with store.begin() as connection:
        counts = {str(row.state): int(row.n) for row in connection.execute(query)}
    if not counts:
        return None
    states = kind(TICKET).states
    return {
        "open": sum(counts.values()),
        "late": _late(person, now, kind=TICKET),
        "states": [(states[s].zh, counts[s]) for s in states if s in counts],
        "soonest": [
            (
                i.item_id if my_work.sees(i, person) else "",
                str(i.payload.get("title_zh") or i.payload.get("rule_id") or ""),
                i.due_at,
            )
            for i in worklist.items(kind=TICKET, org_codes=seen, limit=3)
        ],
    }


def due(person: Person, _now: datetime) -> dict[str, Any] | None:
    """What falls due within seven days at the institutions in reach, and what is past due and not yet a finding."""
    found = due_list.of_person(person)
    if found is None or not found[0]:
        return None
    rows, day = found
    total = {name: sum(r[name] for r in rows) for name in ("due", "late")}
    return total | {"rows": rows[:LINES], "more": max(0, len(rows) - LINES), "day": day}


@lru_cache(maxsize=2)
def _nodes(_home: str, at: datetime) -> tuple[dict[str, Any], ...]:
    """All nodes, looked at once a minute: it opens the centre's spool anew."""
    from ingestion.edge import centre_store, pki, watch

    if not (centre_store.folder() / "centre.db").is_file() or not pki.folder().is_dir():
        return ()
    return tuple(watch.nodes(at))


def edge(person: Person, now: datetime) -> dict[str, Any] | None:
    """Edge nodes of the institutions in reach: last contact, what waits there, troubles; the worst first."""
    seen = _scope(person)
    at = now.astimezone(UTC).replace(second=0, microsecond=0)
    nodes = [n for n in _nodes(str(settings().home), at) if seen is None or n["org_code"] in seen]
    if not nodes:
        return None
    order = {"troubled": 0, "silent": 1, "new": 2, "ok": 3, "revoked": 4}
    nodes.sort(key=lambda n: (order[n["state"]], -(n["waiting_records"] or 0), n["node"]))
    words = {"troubled": "故障", "silent": "失联", "new": "待接入", "ok": "正常", "revoked": "已停用"}
    names = _names()
    return {
        "nodes": [
            n | {"state_zh": words[n["state"]], "org_name": names.get(n["org_code"], n["org_code"])}
            for n in nodes[:LINES]
        ],
        "total": len(nodes),
        "bad": sum(n["state"] in ("troubled", "silent") for n in nodes),
        "waiting": sum(n["waiting_records"] or 0 for n in nodes),
    }


def exports(person: Person, _now: datetime) -> dict[str, Any] | None:
    found = jobs.jobs(person.user, LINES)
    return {"jobs": found} if found else None


def publication(_person: Person, _now: datetime) -> dict[str, Any] | None:
    """What is published, per data product, and which gates are closed."""
    rows = serving.rows("FROM ops.publication")
    return {"rows": rows, "blocked": sum(r["gate"] != "open" for r in rows)} if rows else None


def city(_person: Person, _now: datetime) -> dict[str, Any] | None:
    """The city's key figures, those of the wall."""
    if not serving.has("gold", "wall_kpi"):
        return None
    rows = serving.rows("SELECT label_zh, value, data_date FROM gold.wall_kpi ORDER BY ord")
    return {"figures": rows} if rows else None


def cohorts(person: Person, _now: datetime) -> dict[str, Any] | None:
    """The person's own saved cohorts, then the others'."""
    found = saved.listed()
    found.sort(key=lambda c: c["saved_by"] != person.user)
    return {"cohorts": found[:LINES], "total": len(found)} if found else None


#: Gaps of an asset -> SQL over ``gold.catalog_asset AS a``. What is stale lies a week behind the newest asset.
_GAPS = {
    "缺责任人": "coalesce(a.owner, '') = ''",
    "缺中文名": "coalesce(a.name_zh, '') = '' OR a.name_zh = a.asset_id",
    "缺说明": "coalesce(a.description, '') = ''",
    "缺粒度": "coalesce(a.grain_zh, '') = ''",
    "有记录未评分": "a.quality_score IS NULL AND a.layer <> 'quality' AND a.row_count > 0",
    "没有记录": "coalesce(a.row_count, 0) = 0",
    "一周未更新": "a.freshness < (SELECT max(freshness) FROM gold.catalog_asset) - 7",
    "字段缺中文标签": "EXISTS (FROM gold.catalog_field f WHERE f.asset_id = a.asset_id AND coalesce(f.label_zh, '') = '')",
}


@lru_cache(maxsize=4)
def _gaps(_published: str) -> dict[str, Any] | None:
    cases = ", ".join(f"CASE WHEN {sql} THEN '{zh}' END" for zh, sql in _GAPS.items())
    rows = serving.rows(
        f"""SELECT asset_id, name_zh, layer, gaps FROM (
            SELECT a.asset_id, a.name_zh, a.layer, list_filter([{cases}], x -> x IS NOT NULL) AS gaps
            FROM gold.catalog_asset AS a) WHERE len(gaps) > 0 ORDER BY len(gaps) DESC, asset_id"""
    )
    total = serving.rows("SELECT count(*) AS n FROM gold.catalog_asset")[0]["n"]
    counts = {zh: sum(zh in r["gaps"] for r in rows) for zh in _GAPS}
    return {"rows": rows[: 2 * LINES], "assets": total, "wanting": len(rows),
            "counts": [(zh, n) for zh, n in counts.items() if n]}  # fmt: skip


def gaps(_person: Person, _now: datetime) -> dict[str, Any] | None:
    """Assets of the catalogue that lack something."""
    if products.published_path() is None or not serving.has("gold", "catalog_asset"):
        return None
    return _gaps(str(products.serving_path().resolve()))


def accounts(_person: Person, _now: datetime) -> dict[str, Any] | None:
    """How many accounts there are in each state, and those that wait."""
    found = account_store.listed()
    if not found:
        return None
    states = {"waiting": "待启用", "active": "在用", "locked": "锁定", "closed": "已停用"}
    counts = [(zh, sum(a["state"] == code for a in found)) for code, zh in states.items()]
    return {
        "counts": [c for c in counts if c[1]],
        "waiting": [a for a in found if a["state"] == "waiting"][:LINES],
    }


def glass(person: Person, now: datetime) -> dict[str, Any] | None:
    """Break-glass that nobody has judged yet."""
    waiting, _ = glass_review.to_review(person, now)
    return {"waiting": waiting[:LINES], "total": len(waiting)} if waiting else None


@lru_cache(maxsize=4)
def _alerts(_home: str, until: datetime) -> tuple[dict[str, Any], ...]:
    return tuple(audit_alerts.alerts(until - timedelta(hours=24), until))


def alerts(_person: Person, now: datetime) -> dict[str, Any] | None:
    """What the audit of the last 24 hours asks about; looked at once a minute, since it reads each entry."""
    found = _alerts(str(settings().home), now.astimezone(UTC).replace(second=0, microsecond=0))
    return {"alerts": found[: 2 * LINES], "total": len(found)} if found else None
