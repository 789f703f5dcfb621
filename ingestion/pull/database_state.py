"""How far each table of a source was read, in the operational database: moved on only when the drop has the rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, insert, select

from ingestion.pull.database_sql import Frontier
from lake import ops


@dataclass
class State:
    """``columns``: column -> type as last read. ``run``: number of the run, counted up at its start."""

    source: str
    table: str
    run: int = 0
    frontier: Frontier | None = None
    columns: dict[str, str] = field(default_factory=dict)

    def save(self) -> None:
        """Write it down in one transaction."""
        position: dict[str, Any] = {}
        if self.frontier:
            position = {"watermark": self.frontier.watermark, "key": list(self.frontier.key)}
        where = ops.extract_state.c
        with ops.engine().begin() as connection:
            connection.execute(
                delete(ops.extract_state).where(where.source == self.source, where.table_name == self.table)
            )
            connection.execute(
                insert(ops.extract_state).values(
                    source=self.source,
                    table_name=self.table,
                    position=json.dumps(position),
                    columns=json.dumps(self.columns),
                    runs=self.run,
                    updated_at=datetime.now(UTC),
                )
            )


def load(source: str, table: str) -> State:
    """The state of one table; an empty one before its first run."""
    where = ops.extract_state.c
    query = select(ops.extract_state).where(where.source == source, where.table_name == table)
    with ops.engine().begin() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        return State(source, table)
    kept = json.loads(row.position)
    frontier = Frontier(kept["watermark"], tuple(kept["key"])) if kept else None
    return State(source, table, row.runs, frontier, json.loads(row.columns))


def updated_at(source: str, table: str) -> datetime | None:
    """When a table was last read (UTC)."""
    where = ops.extract_state.c
    query = select(where.updated_at).where(where.source == source, where.table_name == table)
    with ops.engine().begin() as connection:
        found = connection.execute(query).scalar_one_or_none()
    return found.replace(tzinfo=found.tzinfo or UTC) if found else None
