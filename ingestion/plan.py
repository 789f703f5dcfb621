"""What a batch will do, written down before it does any of it: a killed batch is finished from its plan."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from lake.contracts import TableContract, table_contract
from lake.ledger import Announced, Line
from lake.settings import settings

_NAME = "plan.json"


@dataclass
class TablePlan:
    """One table of the batch. ``mode``: how its current rows enter silver (none, append, merge); ``laid``, ``settles``:
    fields with corrections to lay over, and whether it settles any (``ingestion.overlay``)."""

    table: str
    parts: list[str]
    mapped: list[str]
    plain: list[str]
    loaded: int
    quarantined: int
    mode: str
    laid: list[str] = field(default_factory=list)
    settles: bool = False

    @property
    def contract(self) -> TableContract:
        """The table's contract, whichever feed's it is."""
        return table_contract(self.table)

    @property
    def bronze(self) -> str:
        return f"bronze/{self.contract.feed}/{self.table}"

    @property
    def refused(self) -> str:
        return f"quarantine/{self.contract.feed}/{self.table}"


@dataclass
class Plan:
    """One batch. Paths are relative to its staging folder; ``files`` are rows of the ledger's landing files.

    ``delivery_id`` follows from what is delivered and names the staging folder; ``batch_id`` is the same, unless
    an earlier attempt was undone and the ledger numbers this one. ``places`` says where files of their own layout
    (``own_places`` in ``files``) hold the fields; ``corrected`` are the tables that hand-ins change.
    """

    delivery_id: str
    batch_id: str
    feed: str
    data_date: date
    received_at: datetime
    contract_version: str
    tables: list[TablePlan] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    notices: list[dict[str, Any]] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    reject_tables: list[str] = field(default_factory=list)
    unmapped: bool = False
    announced: list[Announced] = field(default_factory=list)
    corrected: list[str] = field(default_factory=list)

    def writes(self) -> list[str]:
        """Delta tables that applying the plan writes and that go back when the batch is undone."""
        found = set()
        for t in self.tables:
            if t.loaded:
                found.add(t.bronze)
            if t.quarantined:
                found.add(t.refused)
            if t.mode != "none":
                found.add(f"silver/{t.table}")
            if t.settles:
                found.add(f"overlay/{t.table}")
        for name in self.corrected:
            found |= {f"silver/{name}", f"overlay/{name}"}
        return sorted(found | {reject_table(self.feed, t) for t in self.reject_tables})

    def totals(self) -> dict[str, int]:
        names = ("received", "loaded", "duplicate", "quarantined")
        return {n: sum(getattr(line, n) for line in self.lines) for n in names}


def reject_table(feed: str, table: str) -> str:
    """Where a reader's rejects of a table go: to the table's feed, those of whole files to the door's."""
    try:
        return f"quarantine/{table_contract(table).feed}/{table}"
    except KeyError:
        return f"quarantine/{feed}/{table}"


def root(feed: str) -> Path:
    """Folder of a feed's staged batches."""
    return settings().home / "staging" / feed


def folder(plan: Plan) -> Path:
    return root(plan.feed) / plan.delivery_id


def save(plan: Plan) -> None:
    """Write the plan with one rename: it is there whole or not at all."""
    directory = folder(plan)
    draft = directory / (_NAME + ".draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(asdict(plan), file, ensure_ascii=False, default=lambda v: v.isoformat())
        file.flush()
        os.fsync(file.fileno())
    draft.rename(directory / _NAME)


def load(directory: Path) -> Plan | None:
    """The plan in a staging folder; None when the batch was killed before it had one."""
    try:
        node = json.loads((directory / _NAME).read_text("utf-8"))
    except FileNotFoundError:
        return None
    node["data_date"] = date.fromisoformat(node["data_date"])
    node["received_at"] = datetime.fromisoformat(node["received_at"])
    node["tables"] = [TablePlan(**t) for t in node["tables"]]
    node["lines"] = [Line(**line) for line in node["lines"]]
    node["announced"] = [Announced(**a) for a in node.get("announced", [])]
    return Plan(**node)


def discard(directory: Path) -> None:
    """Remove a staging folder; its plan first, so that half a removal is no plan."""
    (directory / _NAME).unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
