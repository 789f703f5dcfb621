"""Source databases for the extract tests: a hospital's tables in a real PostgreSQL or MariaDB, and their register."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow.parquet as pq
import sqlalchemy as sa
import yaml
from sqlalchemy.pool import NullPool

from ingestion.pull import database, database_sources
from lake.settings import settings

DAY = date(2026, 11, 18)
NAME = "his-c201"

TABLES = {
    "postgresql": [
        """CREATE TABLE person (pid varchar(20) PRIMARY KEY, name text, sex_code char(1), birth_date date,
            addr_detail text, changed timestamptz, note bytea)""",
        """CREATE TABLE dx (encounter_id varchar(20), seq int, icd10_code varchar(20), dx_at timestamp,
            weight numeric(24,6), PRIMARY KEY (encounter_id, seq))""",
    ],
    "mysql": [
        """CREATE TABLE person (pid varchar(20) PRIMARY KEY, name text, sex_code char(1), birth_date date,
            addr_detail text, changed timestamp(6) NULL, note blob)""",
        """CREATE TABLE dx (encounter_id varchar(20), seq int, icd10_code varchar(20), dx_at datetime,
            weight decimal(24,6), PRIMARY KEY (encounter_id, seq))""",
    ],
}


@dataclass
class SourceDatabase:
    """``url`` is the reader's; ``admin`` writes."""

    kind: str
    url: str
    admin: sa.Engine

    def do(self, *statements: str) -> None:
        with self.admin.begin() as connection:
            if self.kind == "mysql":
                connection.exec_driver_sql("SET time_zone = '+00:00'")
            for statement in statements:
                connection.exec_driver_sql(statement.replace("%", "%%"))

    @contextmanager
    def open_transaction(self) -> Iterator[sa.Connection]:
        with self.admin.connect() as connection:
            if self.kind == "mysql":
                connection.exec_driver_sql("SET time_zone = '+00:00'")
            yield connection

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.admin.begin() as connection:
            return [tuple(r) for r in connection.exec_driver_sql(query)]

    def patient(self, pid: str, name: str, changed: str | None, note: str = "NULL") -> str:
        at = "NULL" if changed is None else f"'{changed}+00'" if self.kind == "postgresql" else f"'{changed}'"
        verb = "INSERT INTO person VALUES" if self.kind == "postgresql" else "REPLACE INTO person VALUES"
        update = (
            " ON CONFLICT (pid) DO UPDATE SET name = excluded.name, changed = excluded.changed"
            if self.kind == "postgresql"
            else ""
        )
        return f"{verb} ('{pid}', '{name}', '1', '1958-03-12', NULL, {at}, {note}){update}"


def make(kind: str, url: str, admin_url: str | sa.URL) -> SourceDatabase:
    engine = sa.create_engine(admin_url, poolclass=NullPool)
    made = SourceDatabase(kind, url, engine)
    made.do(*TABLES[kind])
    return made


def register(source: SourceDatabase, *tables: dict[str, Any], **more: Any) -> None:
    """Write the register of one source; the password goes into a file of its own."""
    url = sa.make_url(source.url)
    folder = settings().folder("secrets")
    node: dict[str, Any] = {
        "name": NAME,
        "url": url.set(password=None, drivername=source.kind).render_as_string(),
        "feed": "his",
        "org_code": "C201",
        "tables": list(tables) or [PATIENT, DIAGNOSIS],
        **more,
    }
    if url.password:
        node["password_file"] = "his-c201.password"
        _private(folder / "his-c201.password", str(url.password))
    _private(database_sources.path(), yaml.safe_dump({"databases": [node]}, allow_unicode=True))


def _private(path: Any, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(0o600)


PATIENT: dict[str, Any] = {
    "table": "patient",
    "relation": "person",
    "columns": {"patient_local_id": "pid", "source_updated_at": "changed"},
    "watermark": "changed",
    "overlap": 600,
}
DIAGNOSIS: dict[str, Any] = {"table": "diagnosis", "relation": "dx"}


def run(table: str, day: date = DAY, **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Extract one table; what it told and the rows of its drop files in order."""
    told = database.run(NAME, day, table=table, **options)[0]
    folder = settings().sources_dir / day.isoformat() / "his" / "C201"
    rows = [row for name in told["files"] for row in pq.read_table(folder / name).to_pylist()]
    return told, rows


def dropped(day: date = DAY) -> list[dict[str, Any]]:
    """Rows of every drop file of the day."""
    folder = settings().sources_dir / day.isoformat() / "his" / "C201"
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
