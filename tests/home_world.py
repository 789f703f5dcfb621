"""A lake that every block of home has something to say about: published, checked, with work, nodes, exports, accounts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import products
import worklist
from ingestion.edge import centre_store, pki
from ingestion.edge.centre_store import Heard
from lake import access, runs, tables
from portal import account_store
from products.cohort_definition import parse
from products.cohorts import saved
from products.exports import jobs
from quality.due.daily import TABLE
from quality.scorecards.read import CARD, RULE
from tests import products_world
from tests.edge_world import issue

DAY, CHECKED = products_world.DAY_1, products_world.DAY_2


def checked() -> None:
    """Two checks as they leave the lake: scores of eight institutions in two domains, rising by a point, and rules."""
    import pyarrow as pa

    rules = [{"rule_id": f"{domain}-001", "version": 1, "table_name": "htn_visit", "title_zh": zh, "domain": domain,
              "domain_zh": zh} for domain, zh in (("ARC", "健康档案"), ("HTN", "高血压"))]  # fmt: skip
    rows = [
        {"data_date": day, "org_code": f"C20{n}", "domain": domain, "score": 90.0 + n + later, "shrunk_score": 91.0 + n + later,
         "group_score": 94.0, "score_low": 88.0 + n, "score_high": 93.0 + n, "eligible": 100, "findings": 10 - n, "rules": 5,
         "is_small": False, "rank": 9 - n, "rank_best": max(1, 8 - n), "rank_worst": min(8, 10 - n), "ranked": 8}
        for later, day in enumerate((DAY, CHECKED)) for n in range(1, 9) for domain in ("ALL", "ARC", "HTN")
    ]  # fmt: skip
    made = {CARD: rows, RULE: rules, "quality/finding": [{"finding_id": "f1", "state": "open"}]}
    versions = {name: tables.overwrite(name, pa.Table.from_pylist(found)) for name, found in made.items()}
    runs.record_output(runs.open_run(CHECKED), versions)


def work(now: datetime) -> None:
    """A critical value on its way to its doctor, tickets (one late), a referral and a move at C201; one more elsewhere."""
    worklist.migrate()
    ticket = {"rule_id": "HTN-022", "title_zh": "同一天重复随访", "findings": 4}
    late = {"rule_id": "ARC-002", "title_zh": "身份证校验位错误", "findings": 9}
    made: list[tuple[str, str, str, dict[str, Any], str]] = [
        ("critical_value", "C201", "lab_result/C201|R17|3", {"report_id": "R17"}, "lab_technician"),
        ("quality_ticket", "C201", "quality_rule/HTN-022", ticket, "data_steward"),
        ("quality_ticket", "C202", "quality_rule/ARC-002", late, "data_steward"),
        ("referral_down", "C201", "referral/1", {}, "referral_center"),
        ("archive_move", "C201", "archive/1", {"side": "from"}, "archive_clerk"),
    ]
    for number, (kind, org, subject, payload, role) in enumerate(made):
        asked = now - timedelta(days=20 if org == "C202" else 0)
        worklist.create(
            kind, org_code=org, subject=subject, actor="world", role=role, request_key=f"home|{number}",
            payload=payload, severity="error", occurred_at=asked, at=asked,
        )  # fmt: skip


def falls_due() -> None:
    """The due list of the newest check: three at C201 within a week, one of them past due, one later; one at C202."""
    import pyarrow as pa

    days = [(-2, "C201"), (3, "C201"), (7, "C201"), (8, "C201"), (1, "C202")]
    rows = [
        {"data_date": CHECKED, "rule_id": "HTN-031", "rule_version": "1", "severity": "warn", "table_name": "htn_card",
         "record_key": f"K{n}", "org_code": org, "doctor_id": "D1", "empi_id": f"E0000{n}", "what_zh": "高血压季度随访",
         "due_on": CHECKED + timedelta(days=in_days), "fails_on": CHECKED + timedelta(days=in_days + 14)}
        for n, (in_days, org) in enumerate(days)
    ]  # fmt: skip
    runs.record_output(runs.get_run(CHECKED), {TABLE: tables.overwrite(TABLE, pa.Table.from_pylist(rows))})


def nodes(now: datetime, folder: Path) -> None:
    """Three nodes: one that speaks, one silent for three days with records waiting, one never heard."""
    authority = pki.init()
    for node in ("C201", "C202", "C203"):
        issue(authority, folder, node)
    store = centre_store.open_store()
    waiting = {"waiting_chunks": 4, "waiting_records": 1280, "waiting_bytes": 2_000_000}
    centre_store.heard(store, [Heard("C202", "C202", "centre", now - timedelta(hours=80), "", 0, waiting)])
    centre_store.heard(store, [Heard("C201", "C201", "centre", now - timedelta(minutes=3), "", 0, {})])
    store.close()


def make(folder: Path, now: datetime | None = None) -> None:
    """All of it under the home that the settings name."""
    at = now or datetime.now(UTC)
    products_world.day(products_world.DAY_1)
    products.publish(products_world.DAY_1)
    checked()
    falls_due()
    work(at)
    nodes(at, folder)
    account_store.create("zhang", "张医生", "doctor", "C201", by="system_admin", state="waiting")
    cohort = {"cohort": "htn_all", "title_zh": "在管高血压", "where": {"all": [{"managed": "htn"}]}}
    saved.save(parse(cohort, "htn_all"), actor="researcher")
    jobs.run("hypertension", access.Caller("officer", "officer", "H001", "public_health"))
