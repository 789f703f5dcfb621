"""On a real lake: check, tickets, gates taken apart and due lists belong together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

import worklist
from lake import registry, tables
from lake.errors import MedlakeError
from quality import daily, due, tickets
from quality.gates_explained import _allowed, explain
from quality.rule import rulebook
from quality.tickets import counting
from tests import quality_world as world
from tests.worklist_world import home


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A checked date of a small city with faults, with tickets and due lists; at C201 blood pressures are swapped."""
    with home(tmp_path_factory.mktemp("tickets") / "var"):
        world.city(240)
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            swapped = connection.sql(
                f"""SELECT * REPLACE (
                    CASE WHEN org_code IN ('C201', 'C204') THEN 80 ELSE sbp_mmhg END AS sbp_mmhg,
                    CASE WHEN org_code IN ('C201', 'C204') THEN 128 ELSE dbp_mmhg END AS dbp_mmhg
                ) FROM {tables.scan_sql("silver/htn_visit")}"""
            ).to_arrow_table()
        tables.overwrite("silver/htn_visit", world.silver("htn_visit", swapped))
        world.deliver(world.DAY_2)
        rules = [
            r.id for r in rulebook().rules if r.domain == "HTN" or r.id in ("ARC-001", "ARC-002", "EXM-020")
        ]
        checked = daily.check(world.DAY_2, rulebook().only(*rules))
        asked = tickets.ask(world.DAY_2)
        worklist.take_requests(datetime(2026, 11, 19, 4, tzinfo=UTC))
        listed = due.build(world.DAY_2)
        yield {"checked": checked, "asked": asked, "listed": listed}


def rows(sql: str) -> list[Any]:
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def test_every_open_finding_is_on_one_ticket(city: dict[str, Any]) -> None:
    items = worklist.items(kind="quality_ticket", limit=10_000)
    (open_findings,) = rows(
        f"SELECT count(*), count(DISTINCT (rule_id, org_code)) FROM {tables.scan_sql('quality/finding')} WHERE state = 'open'"
    )
    assert sum(i.payload["findings"] for i in items) == open_findings[0] > 0
    assert len(items) == open_findings[1] == city["asked"]["asked"]


def test_a_gate_says_what_would_open_it(city: dict[str, Any]) -> None:
    gates = {e.product: e for e in explain()}
    assert {e.product: e.gate for e in gates.values()} == city["checked"]["gates"]
    closed = next(e for e in gates.values() if e.gate == "closed" and e.to_mend)
    assert closed.since == world.DAY_2
    left = closed.excluded - closed.to_mend
    assert (
        round(100 * left / closed.eligible, 2)
        <= closed.limit_pct
        < round(100 * (left + 1) / closed.eligible, 2)
    )
    assert sum(s.records for s in closed.steps) + closed.also >= closed.to_mend
    first = closed.steps[0]
    (alone,) = rows(
        f"""SELECT count(DISTINCT record_key) FROM {tables.scan_sql("quality/finding")}
        WHERE rule_id = '{first.rule_id}' AND org_code = '{first.org_code}' AND state = 'open'"""
    )
    assert first.records <= alone[0]
    assert f"mend {first.records} of {first.rule_id} at {first.org_code}" in closed.advice_en
    assert first.org_code in closed.advice_zh


def test_a_gate_of_one_product_and_of_none(city: dict[str, Any]) -> None:
    (one,) = explain("chronic_disease", world.DAY_2)
    assert one.product == "chronic_disease"
    with pytest.raises(MedlakeError, match="E424"):
        explain("no_such")


@pytest.mark.parametrize(
    ("eligible", "limit"), [(0, 5.0), (1, 5.0), (3, 5.0), (777, 3.0), (2000, 0.5), (100_000, 5.0)]
)
def test_how_many_may_stay_is_the_gates_own_arithmetic(eligible: int, limit: float) -> None:
    most = _allowed(eligible, limit)
    if eligible:
        assert round(100 * most / eligible, 2) <= limit
        assert most == eligible or round(100 * (most + 1) / eligible, 2) > limit
    assert registry.products()


def test_the_due_list_is_kept_and_filtered(city: dict[str, Any]) -> None:
    listed = city["listed"]
    assert listed["due"] == len(due.rows(world.DAY_2)) > 0
    assert set(listed["by_rule"]) <= {r.id for r in rulebook().rules if r.targets[0].due}
    org = due.rows(world.DAY_2)[0]["org_code"]
    of_org = due.rows(world.DAY_2, org_code=org)
    assert {r["org_code"] for r in of_org} == {org}
    assert all(r["fails_on"] >= world.DAY_2 for r in of_org)
    soon = due.rows(world.DAY_2, within=7)
    assert all((r["due_on"] - world.DAY_2).days <= 7 for r in soon)
    again = due.build(world.DAY_2)
    assert again == listed, "again gives the same table"
    with pytest.raises(MedlakeError, match="E106"):
        due.rows(world.DAY_1)


def test_a_due_entry_that_does_not_run_is_named(city: dict[str, Any]) -> None:
    book = rulebook().only("HTN-006")
    rule = book.rule("HTN-006")
    entry = rule.targets[0].due
    assert entry is not None
    broken = replace(rule.targets[0], due=replace(entry, due_on="no_such_column"))
    wrong = replace(
        book, rules=tuple(replace(r, targets=(broken,)) if r.id == rule.id else r for r in book.rules)
    )
    with pytest.raises(MedlakeError, match="HTN-006"):
        due.build(world.DAY_2, wrong)


def invoke(*words: str) -> dict[str, Any]:
    import typer

    from medlake.commands import quality_gates, quality_tickets

    app = typer.Typer()
    quality_tickets.register(app)
    quality_gates.register(app)
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.output.strip().splitlines()[-1]))


def test_the_command_line_walks_a_ticket(city: dict[str, Any]) -> None:
    listed = invoke("tickets", "list", "--limit", "3")["rows"]
    assert len(listed) == 3
    item = listed[0]["item_id"]
    shown = invoke("tickets", "show", item[:12])
    assert len(shown["findings"]) == min(20, listed[0]["findings"])
    assert all(f["source_file"] for f in shown["findings"] if f["source_line"])
    assert invoke("tickets", "assign", item, "--to", "D1", "--by", "steward")["assignee"] == "D1"
    asked = invoke("tickets", "waive", item, "--by", "D2", "--code", "source_limit", "--reason", "改不了")
    assert asked["state"] == "waiver_asked"
    assert invoke("tickets", "refuse", item, "--by", "lead", "--reason", "可以改")["state"] == "assigned"
    assert invoke("tickets", "fix", item, "--by", "D1", "--code", "entry_error")["state"] == "fixed"
    stats = invoke("tickets", "stats")
    assert {r["value"] for r in stats["reasons"]} == {None, "entry_error"}
    assert invoke("tickets", "waivers")["rows"] == []
    assert invoke("tickets", "ask", "--date", "2026-11-19")["asked"] == 0
    assert invoke("gates")["gates"][0]["gate"] == "closed"
    assert len(invoke("due", "--limit", "5")["rows"]) == 5
    assert invoke("due", "--as-of", "2026-11-19", "--rule", "HTN-002")["rows"]


def test_for_people_it_is_tables(city: dict[str, Any]) -> None:
    import typer

    from medlake.commands import quality_gates, quality_tickets

    app = typer.Typer()
    quality_tickets.register(app)
    quality_gates.register(app)
    for words in (["gates"], ["due"], ["tickets", "list"], ["tickets", "stats"], ["tickets", "reasons"]):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        assert "Traceback" not in done.output
    item = worklist.items(kind="quality_ticket", limit=1)[0].item_id
    shown = CliRunner().invoke(app, ["tickets", "show", item])
    assert "问题位置" in shown.output or shown.exit_code == 0
    assert CliRunner().invoke(app, ["tickets", "show", "W-no-such"]).exit_code == 1
    assert date(2026, 11, 19) == world.DAY_2


def browser(user: str) -> Any:
    import base64

    from starlette.testclient import TestClient

    from portal import accounts
    from portal.app import create_app

    made = TestClient(create_app(), raise_server_exceptions=False, follow_redirects=False)
    word = json.loads(accounts.ensure().read_text("utf-8"))[user]
    made.headers["authorization"] = "Basic " + base64.b64encode(f"{user}:{word}".encode()).decode()
    return made


def test_the_page_of_findings_masks_for_quality_and_shows_for_a_correction(city: dict[str, Any]) -> None:
    at = counting.newest()
    assert at is not None
    source = tables.scan_sql("quality/finding", at.finding)
    key, file, line = rows(
        f"SELECT record_key, source_file, source_line FROM {source} WHERE state = 'open' AND table_name = 'ph_archive' "
        "AND source_line IS NOT NULL ORDER BY first_seen_on DESC, finding_id LIMIT 1"
    )[0]
    steward = browser("steward")
    masked = steward.get("/findings", params={"state": "open"}).text
    shown = steward.get("/findings", params={"state": "open", "purpose": "correction"}).text
    assert file in masked and f"第 {line} 行" in masked and key not in masked
    assert key in shown
    assert steward.get("/findings", params={"rule": "HTN-999"}).text.count("没有符合条件的问题") == 1


def test_a_doctor_sees_findings_of_the_own_institution_only(city: dict[str, Any]) -> None:
    page = browser("doctor").get("/findings", params={"purpose": "care"}).text
    others = {org for (org,) in rows(f"SELECT DISTINCT org_code FROM {tables.scan_sql('quality/finding')}")}
    assert not any(f">{org} ·" in page for org in others if org and not org.startswith("C201"))
    assert browser("executive").get("/findings").status_code == 403
