"""The schema's history: whatever a database was before, after the migrations it is the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData, inspect, text
from sqlalchemy.engine import Connection

import worklist
from lake import audit, ledger, ops
from lake.errors import MedlakeError
from lake.settings import settings
from tests.servers.postgres import Postgres
from tests.worklist_world import ask, home
from worklist import schema, store, tables

#: The tables of the first release, made by ``create_all`` before there were migrations.
FIRST = ["batch", "ledger_line", "landing_file", "visible_version", "run", "audit_entry"]


def shape(engine: Engine) -> dict[str, object]:
    """Columns, keys, indexes and constraints of every table, as the database itself tells them."""
    told = inspect(engine)
    return {
        name: {
            "columns": [(c["name"], str(c["type"]), c["nullable"]) for c in told.get_columns(name)],
            "key": told.get_pk_constraint(name)["constrained_columns"],
            "indexes": sorted(
                (i["name"], i["column_names"], bool(i["unique"])) for i in told.get_indexes(name)
            ),
            "unique": sorted(u["column_names"] for u in told.get_unique_constraints(name)),
            "foreign": sorted(
                (f["constrained_columns"], f["referred_table"]) for f in told.get_foreign_keys(name)
            ),
        }
        for name in sorted(told.get_table_names())
    }


def first_release(engine: Engine) -> None:
    """A database of the first release with something in it."""
    old = MetaData()
    for name in FIRST:
        ops.metadata.tables[name].to_metadata(old)
    old.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO batch (batch_id, feed, data_date, state, received_at, contract_version, pinned)"
                " VALUES ('b1', 'his', '2026-11-18', 'committed', '2026-11-18 00:00:00', '1', '{}')"
            )
        )


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, postgres_server: Postgres) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ops.db'}"
    else:
        yield postgres_server.create("migrations")


def drift(engine: Engine) -> list[object]:
    """Differences between the database and the tables that the code declares."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    wanted = MetaData()
    for table in (*ops.metadata.sorted_tables, *tables.metadata.sorted_tables):
        table.to_metadata(wanted)

    def compare(connection: Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": False}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), wanted))

    with engine.connect() as connection:
        return compare(connection)


def test_an_empty_database_gets_what_the_code_declares(url: str) -> None:
    """If this fails after a change of a table: add a revision under worklist/migrations/versions."""
    engine = ops.connect(url)
    assert schema.upgrade(engine) == store.HEAD
    assert drift(engine) == []
    engine.dispose()


def test_a_database_of_the_first_release_and_one_made_by_create_all_end_up_equal(
    url: str, tmp_path: Path, postgres_server: Postgres
) -> None:
    def other(name: str) -> str:
        return (
            f"sqlite:///{tmp_path / name}.db"
            if url.startswith("sqlite")
            else postgres_server.create(f"mig_{name}")
        )

    fresh, old, made = (ops.connect(u) for u in (url, other("old"), other("made")))
    first_release(old)
    ops.metadata.create_all(made)
    for engine in (fresh, old, made):
        schema.upgrade(engine)
    shapes = [shape(engine) for engine in (fresh, old, made)]
    assert shapes[0] == shapes[1] == shapes[2]
    assert {"worklist_item", "batch", "alembic_version"} <= set(shapes[0])
    with old.connect() as connection:
        assert connection.execute(text("SELECT feed FROM batch WHERE batch_id = 'b1'")).scalar() == "his"
    for engine in (fresh, old, made):
        engine.dispose()


def test_upgrading_twice_changes_nothing(url: str) -> None:
    engine = ops.connect(url)
    schema.upgrade(engine)
    before = shape(engine)
    assert schema.upgrade(engine) == store.HEAD and shape(engine) == before
    engine.dispose()


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import op

    engine = ops.connect(url)
    schema.upgrade(engine, "0002")
    before = shape(engine)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("power")

    monkeypatch.setattr(op, "execute", fails)
    with pytest.raises(RuntimeError, match="power"):
        schema.upgrade(engine)
    assert shape(engine) == before and schema.current(engine) == "0002"
    monkeypatch.undo()
    assert schema.upgrade(engine) == store.HEAD
    engine.dispose()


def test_the_head_is_the_newest_revision() -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory.from_config(schema.config()).get_heads() == [store.HEAD]


def test_todays_embedded_home_is_taken_over_by_the_first_use(lake_home: Path) -> None:
    """A home that the released version made: its SQLite has the ledger and no history."""
    path = Path(settings().ops_url.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True)
    old = ops.connect(f"sqlite:///{path}")
    first_release(old)
    old.dispose()
    ops._engine.cache_clear()
    assert ledger.get("b1") is not None  # the lake alone: no history needed
    item = ask("silent_feed", "k1")
    assert worklist.items() == [item]
    assert schema.current(ops.engine()) == store.HEAD
    assert ledger.get("b1") is not None and audit.verify() == 0


def test_a_servers_database_is_migrated_only_when_asked(tmp_path: Path, postgres_server: Postgres) -> None:
    with home(tmp_path / "var", postgres_server.create("asked")):
        with pytest.raises(MedlakeError) as told:
            worklist.items()
        assert told.value.code == "E916" and "medlake worklist migrate" in told.value.remedy_zh
        assert worklist.migrate() == store.HEAD
        assert worklist.items() == []


def test_the_log_is_appended_only_in_both_databases(url: str) -> None:
    engine = ops.connect(url)
    schema.upgrade(engine)
    values = (
        "'W1','k','silent_feed','s','H001','warn','silent',true,1,'r',false,'o','{}',"
        + "'2026-11-18 00:00:00'," * 4
    )
    columns = (
        "item_id, request_key, kind, subject, org_code, severity, state, is_open, priority, owner_role, is_anonymous,"
        " origin, payload, occurred_at, received_at, created_at, entered_at, reopened, seconds_to_item, version"
    )
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO worklist_item ({columns}) VALUES ({values} 0, 0, 1)"))
        connection.execute(
            text(
                "INSERT INTO worklist_item_event (item_id, seq, action, to_state, actor, role, at, evidence, data,"
                " is_decision) VALUES ('W1', 1, 'create', 'silent', 'a', 'r', '2026-11-18 00:00:00', '[]', '{}', false)"
            )
        )
    for statement in ("UPDATE worklist_item_event SET reason = 'x'", "DELETE FROM worklist_item_event"):
        with pytest.raises(Exception, match="appended only"), engine.begin() as connection:
            connection.execute(text(statement))
    engine.dispose()


def test_sqlite_has_the_triggers_after_the_upgrade_of_an_embedded_home(lake_home: Path) -> None:
    ask("silent_feed", "k1")
    with sqlite3.connect(settings().ops_url.removeprefix("sqlite:///")) as connection:
        found = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY 1"
        ).fetchall()
    assert [name for (name,) in found] == ["worklist_item_event_no_delete", "worklist_item_event_no_update"]
