"""The batch reconciles with the lane: the same rules over silver, and a request for whatever nobody asked for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

import duckdb

from ingestion.fastlane import cold_chain_sql, lab_sql, state
from ingestion.fastlane.found import (
    COLD_CHAIN,
    Episode,
    Result,
    episode_request,
    episode_subject,
    result_request,
)
from ingestion.fastlane.lane import told_by_lab
from ingestion.fastlane.rules import rules
from ingestion.fastlane.text import quoted
from lake import duck, ledger, tables, work
from lake.log import logger
from lake.work import Request

_log = logger("fastlane")
ORIGIN = "batch"

_EVENT = """org_code event_id report_id exam_no status_code item_code item_name value_text unit encounter_id patient_local_id
    requesting_org_code dept_code""".split()

#: Days of readings before the reconciled ones that an episode may have begun in.
_COLD_LOOKBACK_DAYS = 8


def _columns(table: str) -> set[str]:
    return set(tables.read(table).schema.names)


def _scan(table: str, seen: dict[str, int]) -> str:
    return tables.scan_sql(table, seen[table])


def _pick(columns: dict[str, str], given: dict[str, str], have: dict[str, set[str]]) -> str:
    """Each wanted column from the first alias that has it, NULL where none does."""
    parts = []
    for name, kind in columns.items():
        if name in given:
            parts.append(f"CAST({given[name]} AS {kind}) AS {name}")
            continue
        alias = next((a for a, names in have.items() if name in names), None)
        parts.append(
            f"CAST({alias}.{name} AS {kind}) AS {name}" if alias else f"CAST(NULL AS {kind}) AS {name}"
        )
    return ", ".join(parts)


def _current(alias: str, have: set[str]) -> str:
    return f"NOT coalesce({alias}.is_deleted, false)" if "is_deleted" in have else "true"


def _which(alias: str, data_date: date | None, batch_id: str | None) -> str:
    if batch_id is not None:
        return f"{alias}.batch_id = {quoted(batch_id)}"
    return f"{alias}.data_date = DATE '{data_date}'" if data_date else "true"


def _lab(con: duckdb.DuckDBPyConnection, seen: dict[str, int], which: str) -> list[Result]:
    if "silver/lab_result" not in seen:
        return []
    have = {"r": _columns("silver/lab_result")}
    join = ""
    if "silver/lab_report" in seen:
        have["p"] = _columns("silver/lab_report")
        join = f"LEFT JOIN {_scan('silver/lab_report', seen)} p ON p.org_code = r.org_code AND p.report_id = r.report_id"
    at = [f"{a}.{n}" for a, n in (("r", "observed_at"), ("p", "reported_at")) if n in have.get(a, ())]
    given = {"result_at": f"coalesce({', '.join([*at, 'r.received_at'])})"}
    con.execute(
        f"""CREATE OR REPLACE TEMP VIEW lab_rows AS SELECT {_pick(lab_sql.COLUMNS, given, have)}
        FROM {_scan("silver/lab_result", seen)} r {join} WHERE {which} AND {_current("r", have["r"])}"""
    )
    return lab_sql.find(con, rules())


def _events(con: duckdb.DuckDBPyConnection, seen: dict[str, int], which: str) -> list[Result]:
    """Critical values that laboratories' own systems told; all of them are findings."""
    name = "silver/critical_value_event"
    if name not in seen:
        return []
    have = {"r": _columns(name)}
    columns = dict.fromkeys(_EVENT, "VARCHAR") | {"detected_at": "TIMESTAMPTZ", "received_at": "TIMESTAMPTZ"}
    rows = con.execute(
        f"""SELECT {_pick(columns, {}, have)} FROM {_scan(name, seen)} r
        WHERE {which} AND {_current("r", have["r"])}"""
    ).to_arrow_table()
    made = []
    for row in rows.to_pylist():  # every row is a finding: a few hundred a day
        received, detected = row.pop("received_at"), row.pop("detected_at")
        made.append(told_by_lab(row | {"detected_at": str(detected or received)}, row["org_code"], received))
    return [r for r in made if r]


def _cold(
    con: duckdb.DuckDBPyConnection, seen: dict[str, int], data_date: date | None, batch_id: str | None
) -> list[Episode]:
    """Episodes that the reconciled readings are in or touch, with the days before to see how they began."""
    name = "silver/cold_chain_reading"
    if name not in seen:
        return []
    have = {"r": _columns(name)}
    scan, current = _scan(name, seen), _current("r", have["r"])
    which = _which("r", data_date, batch_id)
    days = con.execute(f"SELECT min(r.data_date), max(r.data_date) FROM {scan} r WHERE {which}").fetchone()
    if not days or days[0] is None:
        return []
    since = days[0] - timedelta(days=_COLD_LOOKBACK_DAYS)
    con.execute(
        f"""CREATE OR REPLACE TEMP VIEW cold_rows AS SELECT {_pick(cold_chain_sql.COLUMNS, {}, have)} FROM {scan} r
        WHERE r.data_date BETWEEN DATE '{since}' AND DATE '{days[1]}' AND {current}
            AND (r.org_code, r.sensor_id) IN (SELECT (r.org_code, r.sensor_id) FROM {scan} r WHERE {which})"""
    )
    return cold_chain_sql.find(con, rules())


def _unknown_episodes(episodes: list[Episode]) -> list[Episode]:
    """Episodes of which no earlier request tells: neither by name nor by a beginning within it."""
    asked = work.asked(COLD_CHAIN, {episode_subject(e.org_code, e.sensor_id) for e in episodes})
    return [
        e
        for e in episodes
        if not any(
            subject == episode_subject(e.org_code, e.sensor_id) and e.since <= at <= e.until
            for subject, at in asked
        )
    ]


def _ask(table: str, made: Iterable[Request]) -> dict[str, int]:
    wanted = {r.request_key: r for r in made}
    before = work.known(wanted)
    new = [r for k, r in wanted.items() if k not in before]
    asked = work.ask(new)
    through_lane = state.offering(table)
    missed = sum(r.org_code in through_lane for r in new)
    return {
        "found": len(wanted),
        "known": len(wanted) - asked,
        "asked": asked,
        "missed_by_lane": min(missed, asked),
    }


def reconcile(data_date: date | None = None, batch_id: str | None = None) -> dict[str, int]:
    """See ``ingestion.fastlane.reconcile``. Reads what the ledger lets readers see."""
    seen = ledger.visible("silver/")
    which = _which("r", data_date, batch_id)
    with duck.connect() as con:
        lab, events = _lab(con, seen, which), _events(con, seen, which)
        cold = _cold(con, seen, data_date, batch_id)
    parts = [
        _ask("lab_result", (result_request(r, None, ORIGIN) for r in lab)),
        _ask("critical_value_event", (result_request(r, None, ORIGIN) for r in events)),
    ]
    new = _unknown_episodes(cold)
    told = _ask("cold_chain_reading", (episode_request(e, None, ORIGIN) for e in new))
    known = len(cold) - len(new)
    parts.append(told | {"found": told["found"] + known, "known": told["known"] + known})
    total = {name: sum(p[name] for p in parts) for name in parts[0]}
    _log.info(
        "reconciled", data_date=data_date, batch_id=batch_id, count=total["asked"], findings=total["found"]
    )
    return total
