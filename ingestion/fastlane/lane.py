"""``offer``: judge rows as they come and ask for work, outside any gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from ingestion.fastlane import TABLES, cold_chain, state
from ingestion.fastlane.found import CRITICAL, Result, episode_request, result_request
from ingestion.fastlane.lab import judge
from ingestion.fastlane.rules import rules
from ingestion.fastlane.text import instant, plain
from lake import work
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from lake.log import logger
from lake.work import Request

_log = logger("fastlane")
ORIGIN = "fast_lane"

Rows = Sequence[Mapping[str, str | None]]


def told_by_lab(row: Mapping[str, str | None], org_code: str, received_at: datetime) -> Result | None:
    """A critical value that an institution's own system found (laboratory, ECG, imaging) and did not settle yet."""

    def told(name: str) -> str:
        return (row.get(name) or "").strip()

    source = told("report_id") or told("exam_no") or told("event_id")
    if not source or plain(told("status_code")) in rules().reading.settled_event_status:
        return None
    at = instant(row.get("detected_at")) or received_at
    return Result(
        kind=CRITICAL,
        rule_id="LIS_EVENT",
        item="",
        item_zh=told("item_name"),
        org_code=org_code,
        report_id=source,
        seq="",
        item_code=told("item_code") or told("event_id"),
        at=min(at, received_at).astimezone(UTC),
        value_text=told("value_text"),
        unit=told("unit"),
        encounter_id=told("encounter_id"),
        patient_local_id=told("patient_local_id"),
        requesting_org_code=told("requesting_org_code"),
        dept_code=told("dept_code"),
    )


def requests(table: str, rows: Rows, org_code: str, received_at: datetime) -> list[Request]:
    """What the rows call for; the same request is in it once."""
    known = rules()
    made: list[Request] = []
    if table == "lab_result":
        for row in rows:
            made += [result_request(r, received_at, ORIGIN) for r in judge(row, org_code, received_at, known)]
    elif table == "critical_value_event":
        found = [told_by_lab(row, org_code, received_at) for row in rows]
        made = [result_request(r, received_at, ORIGIN) for r in found if r]
    elif table == "cold_chain_reading":
        made = [
            episode_request(e, received_at, ORIGIN)
            for e in cold_chain.take(rows, org_code, received_at, known)
        ]
    return list({r.request_key: r for r in reversed(made)}.values())[::-1]


def offer(table: str, rows: Rows, org_code: str, received_at: datetime) -> int:
    """See ``ingestion.fastlane.offer``."""
    if table not in TABLES:
        raise MedlakeError("E921", table=table, known="、".join(TABLES))
    if not rows:
        return 0
    asked = work.ask(requests(table, rows, org_code, received_at))
    state.mark_offered(table, org_code, received_at.astimezone(SHANGHAI).date())
    if asked:
        _log.info("asked", table=table, org_code=org_code, rows=len(rows), count=asked)
    return asked
