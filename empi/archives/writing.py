"""What institutions agreed on, as files that their own systems import: archives closed at one, taken over at the other.

A row is the source's own last row with what changed in it, in the layout the institution delivers (columns, codes,
dates, CSV or workbook). Nothing is overwritten: a file's name has its content's fingerprint, so writing again without
news leaves all as it is. When the sources deliver the change, silver shows it and there is nothing left to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb

from empi.archives import files
from empi.archives.layout import SAME_ROW, Layout, learn
from empi.archives.outcome import FROM, cases
from lake import audit, duck, ledger, runs, tables
from lake.contracts import TableContract, table_contract
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings

ARCHIVE, RAW = "silver/ph_archive", "bronze/public_health/ph_archive"
#: Why an archive was cancelled (dbt/seeds/codes/ph_archive_v3__cancel_reason.csv): moved away; something else.
MOVED, OTHER = "2", "9"
ACTIVE, CANCELLED = "0", "1"
#: Columns of a cancelled row that an institution may never have delivered before.
_TOLD = ("cancel_reason_code", "moved_to_org_code", "merged_into_archive_id")
#: What the institution that takes over fills in itself: its own numbers and people.
_OWN = ("archive_no", "doctor_id", "family_id")
_log = logger("empi")


@dataclass(frozen=True)
class Agreed:
    """A move that both institutions have done. ``at``: when the new institution took over, UTC."""

    org_code: str
    archive_id: str
    action: str
    to_org_code: str
    new_archive_id: str
    at: datetime


def agreed() -> list[Agreed]:
    """All of them, those first that move the archive that stays: a new archive is made from it."""
    found = []
    for case in cases().values():
        item = case.items[FROM]
        done = [a for a in item.answers if a.action == "take_over"]
        if case.state != "moved" or not done:
            continue
        told = dict(item.payload) | {k: v for a in item.answers for k, v in a.data.items()}
        found.append(
            Agreed(
                org_code=str(told["org_code"]),
                archive_id=str(told["archive_id"]),
                action=str(told["action"]),
                to_org_code=str(told["to_org_code"]),
                new_archive_id=str(told["new_archive_id"]).strip(),
                at=done[-1].answered_at,
            )
        )
    return sorted(found, key=lambda a: (a.action != "move", a.at, a.org_code, a.archive_id))


def _connect(data_date: date) -> duckdb.DuckDBPyConnection:
    """A connection with views ``archive`` and ``raw``.

    Raises:
        MedlakeError: E106, the date was not linked; E363, one of the tables is not there.
    """
    run, visible = runs.get_run(data_date), ledger.visible("")
    connection = duck.connect()
    for view, name, at in (
        ("archive", ARCHIVE, run.versions.get(ARCHIVE)),
        ("raw", RAW, visible.get(RAW)),
    ):
        if at is None:
            connection.close()
            raise MedlakeError("E363", place=name, org_code="—")
        connection.execute(f"CREATE VIEW {view} AS SELECT * FROM {tables.scan_sql(name, at)}")
    return connection


def _rows(connection: duckdb.DuckDBPyConnection, cells: list[tuple[str, str]]) -> dict[Any, dict[str, Any]]:
    """(institution, archive) -> ``{"silver": ..., "raw": ... or None}`` of those archives that silver has."""
    connection.execute("CREATE OR REPLACE TEMP TABLE asked (org_code VARCHAR, archive_id VARCHAR)")
    connection.execute(
        "INSERT INTO asked SELECT DISTINCT unnest(?::VARCHAR[]), unnest(?::VARCHAR[])",
        [[c[0] for c in cells], [c[1] for c in cells]],
    )
    mine = "SELECT s.* FROM archive s SEMI JOIN asked a ON a.org_code = s.org_code AND a.archive_id = s.archive_id"
    silver = connection.execute(mine).to_arrow_table().to_pylist()
    raw = connection.execute(
        f"SELECT s.archive_id AS key_archive_id, r.* FROM ({mine}) s JOIN raw r ON {SAME_ROW}"
    )
    texts = {(r["org_code"], r["key_archive_id"]): r for r in raw.to_arrow_table().to_pylist()}
    keys = [(r["org_code"], r["archive_id"]) for r in silver]
    return {k: {"silver": r, "raw": texts.get(k)} for k, r in zip(keys, silver, strict=True)}


def closing(contract: TableContract, way: Layout, raw: Mapping[str, Any], case: Agreed) -> dict[str, str]:
    """The archive's own row, cancelled: as it was delivered but for what changed."""
    reason = MOVED if case.to_org_code != case.org_code else OTHER
    return {f.name: raw[f.name] or "" for f in contract.fields} | {
        "status_code": way.code(contract, "status_code", CANCELLED),
        "cancel_reason_code": way.code(contract, "cancel_reason_code", reason),
        "moved_to_org_code": case.to_org_code if case.to_org_code != case.org_code else "",
        "merged_into_archive_id": case.new_archive_id,
        "source_updated_at": way.instant(case.at),
    }


def opening(contract: TableContract, way: Layout, row: Mapping[str, Any], case: Agreed) -> dict[str, str]:
    """A new archive at the institution that takes over, with what the old one says of the resident, in its own style."""
    cells: dict[str, str] = {}
    for field in contract.fields:
        value = row[field.name]
        if value is None or field.name in (*_OWN, *_TOLD):
            cells[field.name] = ""
        elif field.code_system or field.type == "boolean":
            cells[field.name] = way.code(
                contract, field.name, str(value).lower() if field.type == "boolean" else value
            )
        elif isinstance(value, datetime):
            cells[field.name] = way.instant(value)
        elif isinstance(value, date):
            cells[field.name] = way.day(value)
        else:
            cells[field.name] = str(value)
    return cells | {
        "archive_id": case.new_archive_id,
        "status_code": way.code(contract, "status_code", ACTIVE),
        "source_updated_at": way.instant(case.at),
    }


def write_back(data_date: date, *, out: Path | None = None) -> dict[str, Any]:
    """See :func:`empi.archives.write_back`."""
    contract = table_contract("ph_archive")
    everything = agreed()
    counts: dict[str, Any] = {"data_date": data_date.isoformat(), "agreed": len(everything)}
    counts |= dict.fromkeys(("closed", "opened", "done", "waiting", "files", "unchanged"), 0)
    lines: dict[str, dict[str, dict[str, str]]] = {}
    connection = _connect(data_date)
    try:
        cells = [(a.org_code, a.archive_id) for a in everything]
        cells += [(a.to_org_code, a.new_archive_id) for a in everything]
        rows = _rows(connection, cells)
        orgs = sorted({o for o, _ in cells})
        ways = learn(connection, contract, orgs) if orgs else {}
    finally:
        connection.close()
    for case in everything:
        here = rows.get((case.org_code, case.archive_id))
        there = (case.to_org_code, case.new_archive_id)
        opens = there not in rows and there[1] not in lines.get(there[0], {})
        closes = here is not None and here["silver"]["status_code"] == ACTIVE
        if not closes and (there in rows or here is None):
            counts["done"] += 1
            continue
        if (
            here is None
            or here["raw"] is None
            or case.org_code not in ways
            or (opens and there[0] not in ways)
        ):
            counts["waiting"] += 1
            continue
        if closes:
            way = ways[case.org_code]
            lines.setdefault(case.org_code, {})[case.archive_id] = closing(contract, way, here["raw"], case)
            counts["closed"] += 1
        if opens:
            way = ways[case.to_org_code]
            lines.setdefault(there[0], {})[there[1]] = opening(contract, way, here["silver"], case)
            counts["opened"] += 1
    folder = (out or settings().folder("write_back")) / data_date.isoformat() / contract.feed
    counts["by_org"] = {}
    for org, mine in sorted(lines.items()):
        written = files.write(folder, contract, ways[org], data_date, [mine[k] for k in sorted(mine)], _TOLD)
        counts["files" if written else "unchanged"] += 1
        counts["by_org"][org] = len(mine)
    counts["out"] = str(folder)
    if counts["files"]:
        audit.record(
            "archive_write_back",
            actor="system",
            purpose="archive_move",
            tables=[ARCHIVE],
            fields=["archive_id", "status_code", *_TOLD],
            rows=sum(counts["by_org"].values()),
            result="written",
            data_date=data_date.isoformat(),
        )
    _log.info("archives_written_back", data_date=data_date, files=counts["files"], written=counts["closed"])
    return counts
