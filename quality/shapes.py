"""The tables that rules may judge or read: those of the contracts, and a few derived ones (``quality/derived.yaml``).

A derived table is made for the check alone: one row per doctor and quarter, per institution and quarter, per batch.
It gives facts about many records a place of their own, so that their findings live as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from lake import contracts
from lake.contracts import ENVELOPE, TableContract

#: A table as it was received, all versions: its key, ``raw_hash`` and ``newest_by`` (the update time, as text).
BRONZE = "bronze_"

_FILE = Path(__file__).parent / "derived.yaml"


@dataclass(frozen=True)
class Shape:
    """What the engine must know of a table. ``columns`` maps names to DuckDB types; without the tables that it
    ``requires`` a derived table is not there.

    ``sql`` makes a derived table's rows; ``builder`` names the function that does where SQL depends on what the lake
    has; neither: the rows are given as ``silver.<name>``.
    """

    name: str
    label_zh: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    reads: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    sql: str = ""
    builder: str = ""
    is_derived: bool = False
    is_kept: bool = True


@lru_cache(maxsize=1)
def derived() -> Mapping[str, Shape]:
    """The derived tables, each after those it reads."""
    node: dict[str, dict[str, Any]] = yaml.safe_load(_FILE.read_text("utf-8"))
    return {
        name: Shape(
            name,
            entry["label_zh"],
            tuple(entry["key"]),
            entry["columns"],
            tuple(entry.get("reads", ())),
            tuple(entry.get("requires", ())),
            entry.get("sql", ""),
            entry.get("builder", ""),
            True,
            bool(entry.get("is_kept", True)),
        )
        for name, entry in node.items()
    }


def contract_tables() -> dict[str, TableContract]:
    """Tables of all contracts by name."""
    return {t.name: t for feed in contracts.contracts().values() for t in feed.tables.values()}


def shape(name: str) -> Shape:
    """The shape of a table.

    Raises:
        KeyError: neither a contract nor ``derived.yaml`` has it.
    """
    if (known := derived().get(name)) is not None:
        return known
    if name.startswith(BRONZE):
        table = contracts.table_contract(name.removeprefix(BRONZE))
        columns = dict.fromkeys((*table.key, "raw_hash", "newest_by"), "VARCHAR")
        return Shape(name, table.label_zh, tuple(table.key), columns, is_derived=True, is_kept=False)
    table = contracts.table_contract(name)
    return Shape(name, table.label_zh, tuple(table.key), table.silver_columns)


def known_tables() -> dict[str, Mapping[str, str]]:
    """Columns of every table that a rule may name."""
    plain = contract_tables()
    found: dict[str, Mapping[str, str]] = {n: t.silver_columns for n, t in plain.items()}
    found |= {n: {**s.columns, **ENVELOPE} for n, s in derived().items()}
    found |= {f"{BRONZE}{n}": {} for n, t in plain.items() if t.feed == "public_health"}
    return found
