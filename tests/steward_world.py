"""A checked city for the steward's pages: findings, tickets, scores, gates, and two stewards who may log in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from starlette.testclient import TestClient

import worklist
from lake import access_scope, tables
from portal import sessions
from portal.accounts import Person
from portal.app import create_app
from quality import daily, tickets
from quality.rule import rulebook
from tests import quality_world as world
from tests import worklist_world

RULES = ("HTN-001", "HTN-003", "HTN-004", "HTN-009", "HTN-019", "HTN-022", "ARC-001", "ARC-002")
CHECKED = world.DAY_3


def make(*, days: int = 1) -> None:
    """All of it under the home that the settings name. Blood pressures are swapped at C201 and C204."""
    world.city(200)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        swapped = connection.sql(
            f"""SELECT * REPLACE (
                CASE WHEN org_code IN ('C201', 'C204') THEN 80 ELSE sbp_mmhg END AS sbp_mmhg,
                CASE WHEN org_code IN ('C201', 'C204') THEN 128 ELSE dbp_mmhg END AS dbp_mmhg
            ) FROM {tables.scan_sql("silver/htn_visit")}"""
        ).to_arrow_table()
    tables.overwrite("silver/htn_visit", world.silver("htn_visit", swapped))
    for data_date in (world.DAY_2, world.DAY_3)[-days:]:
        world.deliver(data_date)
        daily.check(data_date, rulebook().only(*RULES))
    worklist.migrate()
    tickets.ask(CHECKED)
    worklist.take_requests(datetime.now(UTC))


def word_of(user: str, role: str = "steward", org: str = "") -> str:
    """The session cookie of a person who has logged in completely."""
    return sessions.begin(Person(user, role, org or access_scope.root(), user), "full", "127.0.0.1")


def logged_in(user: str, role: str = "steward", org: str = "") -> TestClient:
    made = TestClient(create_app(), raise_server_exceptions=False, follow_redirects=False)
    made.cookies.set(sessions.COOKIE, word_of(user, role, org))
    return made


def copied(made: Path, to: Path) -> Path:
    """A home like one that was made, for tests that change it."""
    return Path(shutil.copytree(made, to / "var", symlinks=True))


@contextmanager
def at_home(home: Path) -> Iterator[Path]:
    """Settings of that home, until the end."""
    with worklist_world.home(home):
        yield home
