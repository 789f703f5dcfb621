"""What waits in quarantine, for whoever sees to it: groups by reason, records with their values as the policy shows them,
running them again. The functions are ingestion's; here are the person's reach and the masks."""

from __future__ import annotations

from typing import Any

import duckdb
from sqlalchemy import func, select

import ingestion
from ingestion import replaying
from ingestion.readers.base import FILE_TABLE
from lake import access, audit, contracts, duck, ops
from lake.access import Caller
from lake.access_masks import mask_sql
from lake.access_policy import ORDER, Act, role
from lake.errors import MedlakeError
from lake.log import logger
from portal.accounts import Person
from portal.corrections import names

_log = logger("portal")
PAGE_ROWS = 20
#: A line that no reader could take apart is shown so far, to whoever may see all that its table can hold.
_RAW_SHOWN = 600


def caller(person: Person, purpose: str) -> Caller:
    """The person asking, for quality work or (values clear) for a correction where the role has that purpose."""
    known = role(person.role)
    allowed = known.purposes if known else {}
    return Caller(person.user, person.role, person.org_code, purpose if purpose in allowed else "quality")


def _reach(person: Person) -> frozenset[str] | None:
    return access.scope(caller(person, "quality"))


def _label(feed: str, table: str) -> tuple[str, str]:
    """Chinese names of a feed and of its table; a refused file as a whole is 整个文件."""
    known = contracts.contracts().get(feed)
    found = known.tables.get(table) if known else None
    return (known.label_zh if known else feed), (
        "整个文件" if table == FILE_TABLE else found.label_zh if found else table
    )


def _field(feed: str, table: str, field: str) -> str:
    known = contracts.contracts().get(feed)
    found = known.tables.get(table) if known else None
    return next((f.label_zh for f in found.fields if f.name == field), field) if found else field


def groups(person: Person, feed: str = "", org: str = "", code: str = "") -> list[dict[str, Any]]:
    """What waits, by reason, most records first; without a value of any record.

    Returns:
        as ``ingestion.quarantine_list``, with feed_zh, table_zh, field_zh and org_short_name.
    """
    seen, short = _reach(person), names()
    found = []
    for row in ingestion.quarantine_list(feed, "", code):  # reasons: hundreds at most
        name = short.get(row["org_code"], row["org_code"] or "未知机构")
        if (seen is not None and row["org_code"] not in seen) or (
            org and org not in row["org_code"] and org not in name
        ):
            continue
        feed_zh, table_zh = _label(row["feed"], row["table_name"])
        said = {"feed_zh": feed_zh, "table_zh": table_zh, "org_short_name": name}
        found.append(row | said | {"field_zh": _field(row["feed"], row["table_name"], row["field"])})
    return found


def _path(key: str) -> str:
    return "'$.\"" + key.replace("'", "''") + "\"'"


def _shown(act: Act, field: str, expression: str) -> str | None:
    if act == "hide":
        return None
    return expression if act == "clear" else mask_sql(access.mask_of(field), expression)


def _payload(asked: Caller, feed: str, table: str) -> tuple[str, str]:
    """SQL of a record's fields (a list of {field, value}) and of its raw text, each as the person may see it."""
    known = contracts.contracts().get(feed)
    found = known.tables.get(table) if known else None
    whole = [f for t in ([found] if found else known.tables.values() if known else []) for f in t.fields]
    acts = {
        f.name: act
        for f in whole
        for act in access.columns(asked, found.name if found else feed, [f.name]).values()
    }
    worst: Act = min(acts.values(), key=ORDER.index, default="hide")
    parts = []
    for f in found.fields if found else ():
        value = _shown(acts[f.name], f.name, f"(j ->> {_path(f.physical_name)})")
        if value:
            parts.append(f"{{'field': '{f.name}', 'value': {value}}}")
    fields = f"list_filter([{', '.join(parts)}], lambda x: coalesce(x.value, '') <> '')" if parts else "[]"
    text = f"left(raw, {_RAW_SHOWN})" if worst == "clear" else "NULL"
    return f"CASE WHEN j IS NOT NULL THEN {fields} END", text


def records(
    person: Person, feed: str, table: str, org: str, code: str, page: int, purpose: str, source_ip: str = ""
) -> dict[str, Any] | None:
    """Records of one reason with file, place, reason and remedy, values by the policy; a line of the audit.

    Returns:
        None when nothing (in reach) waits so; else rows, total, page, last, files (source_file, records: those of most
        records first), feed_zh, table_zh, org_short_name, is_replayable, is_masked.

    Raises:
        MedlakeError: E683, the role has no purpose to look.
    """
    seen, asked = _reach(person), caller(person, purpose)
    if seen is not None and org not in seen:
        return None
    access.check_purpose(asked, f"quarantine/{feed}")
    fields, raw = _payload(asked, feed, table)
    where = "WHERE table_name = ? AND org_code = ? AND error_code = ?"
    values = [table, org, code]
    with duck.connect() as con:
        if feed not in contracts.contracts() or not replaying.waiting_view(con, feed):
            return None
        files = _rows(
            con,
            f"""SELECT source_file, batch_id, count(*) AS records, max(data_date) AS data_date FROM waiting {where}
            GROUP BY ALL ORDER BY records DESC, source_file LIMIT 20""",
            values,
        )
        total = con.execute(f"SELECT count(*) FROM waiting {where}", values).fetchall()[0][0]
        if not total:
            return None
        last = max(1, -(-total // PAGE_ROWS))
        page = min(max(page, 1), last)
        rows = _rows(
            con,
            f"""SELECT place, source_file, source_sheet, source_line, errors, field, reason_zh, remedy_zh, batch_id,
                   data_date, length(raw) AS raw_length, {fields} AS payload,
                   CASE WHEN j IS NULL THEN {raw} END AS raw
            FROM (SELECT *, CASE WHEN json_valid(raw) THEN raw::JSON END AS j FROM waiting {where}
                  ORDER BY data_date DESC, place LIMIT {PAGE_ROWS} OFFSET {(page - 1) * PAGE_ROWS})""",
            values,
        )
    for row in rows:
        wrong = {e.partition(":")[2] for e in (row["errors"] or "").split(",")} | {row["field"]}
        row["payload"] = [
            {"label": _field(feed, table, p["field"]), "value": p["value"], "is_wrong": p["field"] in wrong}
            for p in row["payload"] or []
        ]
    audit.record(
        "quarantine.show", actor=person.user, purpose=asked.purpose, tables=[f"quarantine/{feed}"], fields=["raw"],
        rows=len(rows), result="shown", actor_role=person.role, org_code=org, source_ip=source_ip,
    )  # fmt: skip
    feed_zh, table_zh = _label(feed, table)
    return {
        "rows": rows, "total": total, "page": page, "last": last, "files": files, "feed_zh": feed_zh,
        "table_zh": table_zh, "org_short_name": names().get(org, org), "is_masked": asked.purpose == "quality",
        "is_replayable": code in replaying.BY_CONTRACT or table == FILE_TABLE,
    }  # fmt: skip


def _rows(con: duckdb.DuckDBPyConnection, sql: str, values: list[Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = con.execute(sql, values).to_arrow_table().to_pylist()
    return rows


def may_replay(person: Person, feed: str, org: str) -> bool:
    """Whether a person may run an institution's records of a feed again."""
    seen = _reach(person)
    return feed in contracts.contracts() and bool(org) and (seen is None or org in seen)


def replay(person: Person, feed: str, table: str, org: str, code: str) -> None:
    """Run one reason's records again; what became of them is in :func:`replays`. See ``ingestion.replay``."""
    try:
        ingestion.replay(feed, actor=person.user, table=table, org_code=org, code=code)
    except MedlakeError as error:  # held by a long delivery: the records wait as before
        _log.warning("replay_failed", code=error.code, feed=feed)


def replays(person: Person, limit: int = 8) -> list[dict[str, Any]]:
    """The latest replays of the institutions in reach, from the ledger: batch_id, feed_zh, state, received_at, received,
    loaded, duplicate, quarantined."""
    seen = _reach(person)
    head, line = ops.batch.c, ops.ledger_line.c
    counts = ("received", "loaded", "duplicate", "quarantined")
    query = (
        select(
            head.batch_id,
            head.feed,
            head.state,
            head.received_at,
            *[func.coalesce(func.sum(line[n]), 0).label(n) for n in counts],
        )
        .select_from(ops.batch.outerjoin(ops.ledger_line, head.batch_id == line.batch_id))
        .where(head.batch_id.like("replay-%"))
        .group_by(head.batch_id, head.feed, head.state, head.received_at)
        .order_by(head.received_at.desc())
        .limit(limit)
    )
    if seen is not None:
        query = query.where(line.org_code.in_(sorted(seen)))
    with ops.engine().begin() as connection:
        rows = [dict(r._mapping) for r in connection.execute(query)]
    return [r | {n: int(r[n]) for n in counts} | {"feed_zh": _label(r["feed"], "")[0]} for r in rows]
