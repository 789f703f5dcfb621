"""The same tickets on PostgreSQL: asked, answered, waived, measured by a field of their payload."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

import worklist
from lake import ops
from portal import tickets as doors
from quality import tickets
from tests.servers.postgres import Postgres
from tests.tickets_world import checked, finding
from tests.worklist_world import home

DAY = date(2026, 11, 18)


@pytest.fixture
def place(tmp_path: Path, postgres_server: Postgres) -> Iterator[None]:
    with home(tmp_path / "var", postgres_server.create("tickets")):
        worklist.migrate()
        yield
        ops.engine().dispose()


@pytest.mark.usefixtures("place")
def test_a_ticket_lives_on_postgresql() -> None:
    assert ops.engine().dialect.name == "postgresql"
    checked(DAY, [finding("V1"), finding("V2", org_code="C202")])
    assert tickets.ask(DAY)["asked"] == 2
    worklist.take_requests()
    rows = {r["org_code"]: r["item_id"] for r in doors.listed()}
    doors.fix(rows["C201"], "entry_error", by="D1")
    doors.ask_waiver(rows["C202"], "true_exception", by="D1", reason="属实")
    doors.decide(rows["C202"], by="lead", reason="同意", agree=True)
    checked(DAY + timedelta(days=1), [finding("V2", org_code="C202")])
    told = tickets.ask(DAY + timedelta(days=1))
    worklist.take_requests()
    assert (told["closed"], told["waived"], told["reopened"]) == (1, 1, 0)
    by_reason = {r["value"]: (r["items"], r["open"], r["done"]) for r in doors.stats()["reasons"]}
    assert by_reason == {"entry_error": (1, 0, 1), "true_exception": (1, 0, 0)}
    assert {r["value"] for r in doors.stats("C202")["states"]} == {"waived"}
