"""Files for the sources: what waits for them in their own layout, to be imported instead of typed again.

A file holds whole records, so it leaves only to whoever the policy shows every field of its table clear.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lake import access, audit, contracts
from lake.errors import MedlakeError
from lake.settings import settings
from portal.accounts import Person
from portal.corrections import PURPOSE, caller, delivery_day, is_in_reach, labels, names, reach
from quality import corrections
from quality.tickets import counting


def write_back(person: Person) -> dict[str, Any]:
    """Write what waits in the layout of the sources, for the institutions in reach; see ``quality.corrections.write``.

    Raises:
        MedlakeError: E430, nothing was checked yet.
    """
    at = counting.newest()
    if at is None:
        raise MedlakeError("E430", data_date="—", org_code=person.org_code)
    access.check_purpose(caller(person), "silver/correction")
    return corrections.write(delivery_day(), org_codes=reach(person), actor=person.user)


def files(person: Person) -> list[dict[str, Any]]:
    """Files written for the sources, newest first: name (its path), org_code, feed, table_zh, bytes, is_open (whether
    the person sees all fields of the table clear)."""
    root, found = settings().folder("write_back"), []
    for path in sorted(root.glob("*/*/*/*"), reverse=True)[:500]:
        on, feed, org, name = path.relative_to(root).parts
        if name.startswith(".") or not is_in_reach(person, org):
            continue
        table = name.rsplit("_", 2)[0]
        found.append(
            {"name": f"{on}/{feed}/{org}/{name}", "on": on, "feed": feed, "org_code": org, "file": name,
             "org_short_name": names().get(org, org), "table_zh": labels(table)[0], "bytes": path.stat().st_size,
             "is_open": _is_open(person, table)}
        )  # fmt: skip
    return found


def _is_open(person: Person, table: str) -> bool:
    try:
        fields = [f.name for f in contracts.table_contract(table).fields]
    except KeyError:
        return False
    return set(access.columns(caller(person), table, fields).values()) == {"clear"}


def file_of(person: Person, name: str) -> Path | None:
    """One of these files to download, told to the audit; None when it is not in reach.

    Raises:
        MedlakeError: E675, it holds fields that the policy does not show the person clear.
    """
    row = next((f for f in files(person) if f["name"] == name), None)
    if row is None:
        return None
    if not row["is_open"]:
        raise MedlakeError("E675", place=row["file"])
    audit.record(
        "correction.write_back", actor=person.user, purpose=PURPOSE, tables=["silver/correction"], fields=["*"], rows=0,
        result="ok", actor_role=person.role, org_code=row["org_code"],
    )  # fmt: skip
    return settings().folder("write_back") / name
