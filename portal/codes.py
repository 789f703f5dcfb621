"""Codes that sources write and nobody knows: the inbox with candidates, a map drafted and confirmed, its history.

Ingestion's functions decide; here are the person's reach, the masks, and what a map would do before it is confirmed.
Texts of fields that the policy does not show the person clear are counted, never shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import select

from ingestion import codemaps, codes, reviewed, units
from lake import access, contracts, duck, ops, registry, tables
from lake.access import Caller
from lake.errors import MedlakeError
from lake.log import logger
from portal.accounts import Person
from portal.corrections import names

_log = logger("portal")
_UNMAPPED = "ops/unmapped_code"
#: Longest inbox that is read; the page says so when there is more.
LIMIT = 200
#: Code systems with more codes than this are searched instead of chosen from.
CHOICES = 400


@dataclass(frozen=True)
class Draft:
    """A map as a person proposes it; empty ``feed`` or ``org_code``: of any."""

    code_system: str
    source_code: str
    code: str
    feed: str = ""
    org_code: str = ""
    valid_from: date | None = None
    note: str = ""


def caller(person: Person) -> Caller:
    return Caller(person.user, person.role, person.org_code, "quality")


def _reach(person: Person) -> frozenset[str] | None:
    return access.scope(caller(person))


def own(person: Person, org: str) -> str:
    """The institution whose codes are looked at: any for whoever sees all, else one in reach (the own by default)."""
    seen = _reach(person)
    if seen is None:
        return org if org in registry.org_codes() else ""
    return org if org in seen else person.org_code


def _is_open(asked: Caller, fields: str) -> bool:
    """Whether all fields (``feed.table.field, ...``) that hold a text are shown clear to the person."""
    for place in fields.split(", "):
        _, table, field = place.split(".")
        if access.columns(asked, table, [field])[field] != "clear":
            return False
    return True


def _places(fields: str) -> str:
    found = []
    for place in fields.split(", "):
        feed, table, field = place.split(".")
        known = contracts.contracts().get(feed)
        held = known.tables.get(table) if known else None
        label = next((f.label_zh for f in held.fields if f.name == field), field) if held else field
        found.append(f"{held.label_zh if held else table} · {label}")
    return "、".join(found)


def inbox(person: Person, system: str = "", org: str = "") -> dict[str, Any]:
    """Unmapped codes by volume, each with up to three candidates.

    Returns:
        rows: as ``codes.inbox`` with places, candidates (code, name_zh, score); closed: how many are left out since
        their fields are not shown to the person; systems: of the whole inbox; is_cut.
    """
    asked, where = caller(person), own(person, org)
    found = codes.inbox("", where, LIMIT)
    shown = [r for r in found if _is_open(asked, r["tables"])]
    wanted = [r for r in shown if system in ("", r["code_system"])]
    proposed: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for p in codes.propose(system, LIMIT) if wanted else []:
        proposed.setdefault((p["code_system"], p["source_code"]), []).append(p)
    rows = [
        r
        | {
            "places": _places(r["tables"]),
            "candidates": proposed.get((r["code_system"], r["source_code"]), []),
        }
        for r in wanted
    ]
    return {
        "rows": rows, "closed": len(found) - len(shown), "systems": sorted({r["code_system"] for r in shown}),
        "is_cut": len(found) >= LIMIT, "org": where,
    }  # fmt: skip


def one(person: Person, system: str, source_code: str) -> dict[str, Any] | None:
    """One code of the inbox: where it is written, what it may mean, all codes it could be mapped to.

    Returns:
        None when it is not in the inbox (any more) or not the person's to see; else the row of :func:`inbox` with
        ``writers`` (feed, feed_zh, org_code, org_short_name, records, first_on, last_on) and ``standard`` (code,
        name_zh).
    """
    asked, seen = caller(person), _reach(person)
    row = next((r for r in codes.inbox(system, "", 10_000) if r["source_code"] == source_code), None)
    if row is None or not _is_open(asked, row["tables"]):
        return None
    writers = [w for w in _writers(system, source_code) if seen is None or w["org_code"] in seen]
    if not writers:
        return None
    near = [p for p in codes.propose(system, LIMIT) if p["source_code"] == source_code]
    return row | {
        "places": _places(row["tables"]),
        "writers": writers,
        "candidates": near,
        "standard": standard(system),
    }


def standard(system: str) -> list[dict[str, str]]:
    """Codes that a text may be mapped to: code, name_zh."""
    if system == "ucum":
        return [{"code": code, "name_zh": ""} for code in sorted(units.units())]
    return [{"code": r["code"], "name_zh": r.get("name_zh", "")} for r in codemaps.standard_codes(system)]


def _writers(system: str, source_code: str) -> list[dict[str, Any]]:
    if not tables.exists(_UNMAPPED):
        return []
    short, labels = names(), {n: c.label_zh for n, c in contracts.contracts().items()}
    with duck.connect() as con:
        rows = (
            con.execute(
                f"""SELECT feed, org_code, sum(records)::BIGINT AS records, min(data_date) AS first_on,
                    max(data_date) AS last_on FROM {tables.scan_sql(_UNMAPPED)}
                WHERE code_system = ? AND source_code = ? GROUP BY ALL ORDER BY records DESC, org_code, feed""",
                [system, source_code],
            )
            .to_arrow_table()
            .to_pylist()
        )
    return [
        r
        | {
            "feed_zh": labels.get(r["feed"], r["feed"]),
            "org_short_name": short.get(r["org_code"], r["org_code"]),
        }
        for r in rows
    ]


def check(person: Person, draft: Draft) -> dict[str, Any]:
    """What a draft would do, before it is confirmed: ``records`` that came with this text within its scope so far,
    ``institutions`` they are of, ``name_zh`` of the code.

    Raises:
        MedlakeError: E676 not in the inbox; E260 no such code; E681 a scope beyond the person's reach.
    """
    seen = _reach(person)
    found = one(person, draft.code_system, draft.source_code)
    if found is None:
        raise MedlakeError("E676", place=draft.code_system)
    if seen is not None and draft.org_code not in seen:
        raise MedlakeError("E681", place=draft.code_system, table="code_map")
    if draft.org_code and draft.org_code not in registry.org_codes():
        raise MedlakeError("E681", place=draft.code_system, table="code_map")
    name = next((r["name_zh"] for r in found["standard"] if r["code"] == draft.code), None)
    if name is None:
        raise MedlakeError(
            "E260",
            place=draft.code_system,
            standard=draft.code[:40],
            code_system=draft.code_system,
            source_code=draft.source_code,
        )
    met = [
        w for w in found["writers"] if draft.feed in ("", w["feed"]) and draft.org_code in ("", w["org_code"])
    ]
    return {
        "records": sum(w["records"] for w in met),
        "institutions": len({w["org_code"] for w in met}),
        "name_zh": name,
    }


def accept(person: Person, draft: Draft, reviewed_on: date) -> None:
    """Record a confirmed draft; it counts from the next delivery on. See ``ingestion.codes.accept``.

    Raises:
        MedlakeError: as :func:`check` raises.
    """
    check(person, draft)
    codes.accept(
        draft.code_system, draft.source_code, draft.code, reviewer=person.user, reviewed_on=reviewed_on, feed=draft.feed,
        org_code=draft.org_code, valid_from=draft.valid_from, note=draft.note,
    )  # fmt: skip


def reconform(system: str) -> None:
    """Give rows that are in silver already today's codes; what it did is in :func:`history`."""
    try:
        codes.reconform(system)
    except MedlakeError as error:  # held by a long delivery: pressing again does it
        _log.warning("reconform_failed", code=error.code, codes=system)


def history(person: Person, limit: int = 100) -> dict[str, Any]:
    """What people accepted, newest first (``maps``: rows of ``ingestion.reviewed`` with ``name_zh``), and the batches
    that brought it to rows in silver (``batches``: batch_id, feed, state, received_at, committed_at)."""
    seen = _reach(person)
    rows = [
        dict(r) | {"kind": kind}
        for kind in ("code_map", "unit_spelling")
        for r in reviewed.overlay(kind)
        if seen is None or not r.get("org_code") or r["org_code"] in seen
    ]
    maps = []
    for r in sorted(rows, key=lambda r: r["reviewed_on"], reverse=True)[:limit]:
        if r["kind"] == "unit_spelling":
            r |= {
                "code_system": "ucum",
                "source_code": r["spelling"],
                "code": r["ucum"],
                "feed": "",
                "org_code": "",
            }
            r["valid_from"] = ""
        maps.append(
            r
            | {
                "name_zh": next(
                    (s["name_zh"] for s in standard(r["code_system"]) if s["code"] == r["code"]), ""
                )
            }
        )
    head = ops.batch.c
    query = (
        select(head.batch_id, head.feed, head.state, head.received_at, head.committed_at)
        .where(head.batch_id.like("reconform-%"))
        .order_by(head.received_at.desc())
        .limit(10)
    )
    with ops.engine().begin() as connection:
        batches = [dict(r._mapping) for r in connection.execute(query)]
    return {"maps": maps, "batches": batches}


def coverage(person: Person, system: str) -> list[dict[str, Any]]:
    """Per institution in reach, how many coded values of a system in silver are standard codes, worst first."""
    seen, short = _reach(person), names()
    return [
        r | {"org_short_name": short.get(r["org_code"], r["org_code"])}
        for r in codes.coverage(system)
        if seen is None or r["org_code"] in seen
    ]
