"""The schema's history: Alembic revisions over SQLite and PostgreSQL, and over databases made before there were any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

if TYPE_CHECKING:
    from alembic.config import Config

_HERE = Path(__file__).parent / "migrations"

#: Serialises migrations of several processes on PostgreSQL (any constant number will do, but it must stay).
_LOCK = 7_261_901


def config() -> Config:
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(_HERE))
    return made


def current(engine: Engine) -> str | None:
    """The revision that a database is at; None when it has no history yet."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(engine: Engine, revision: str = "head") -> str:
    """Bring a database to a revision, in one transaction. Returns the revision it is at.

    A database that already has tables of an older release (made without a history) is taken over as it is.
    """
    from worklist import store

    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        _run(connection, revision)
    store.forget()
    return current(engine) or ""


def _run(connection: Connection, revision: str) -> None:
    from alembic import command

    made = config()
    made.attributes["connection"] = connection
    command.upgrade(made, revision)
