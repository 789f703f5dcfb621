"""Codes that nobody knows yet: the inbox, how well each institution is covered, proposals, and what people accept.

The verbs: ``inbox``, ``coverage``, ``propose``, ``accept``, ``accept_header``, ``accept_zone``, ``reconform``. What is
accepted goes to the overlay below home (``ingestion.reviewed``), counts from the next delivery on, and for rows that
are in silver already when ``reconform`` is asked to.
"""

from __future__ import annotations

from datetime import date
from typing import Any

__all__ = ["accept", "accept_header", "accept_zone", "coverage", "inbox", "propose", "reconform"]


def inbox(code_system: str = "", org_code: str = "", limit: int = 100) -> list[dict[str, Any]]:
    """Unmapped codes, those of most records first; what was accepted since is not among them.

    Returns:
        code_system, source_code, records, institutions, tables, first_on, last_on (days of delivery).
    """
    from ingestion.codes.backlog import inbox as run

    return run(code_system, org_code, limit)


def coverage(code_system: str = "") -> list[dict[str, Any]]:
    """Per institution and code system, how many coded values in silver are standard codes, worst first.

    Returns:
        org_code, code_system, recorded, mapped, unmapped, share (0 to 1).
    """
    from ingestion.codes.backlog import coverage as run

    return run(code_system)


def propose(code_system: str = "", limit: int = 20) -> list[dict[str, Any]]:
    """For the inbox's codes, up to three standard codes each that may be meant: a hint for the reviewer, no more.

    Returns:
        code_system, source_code, records, code, name_zh, score (0 to 1), because.
    """
    from ingestion.codes.proposals import propose as run

    return run(code_system, limit)


def accept(
    code_system: str,
    source_code: str,
    code: str,
    *,
    reviewer: str,
    reviewed_on: date,
    feed: str = "",
    org_code: str = "",
    valid_from: date | None = None,
    valid_to: date | None = None,
    note: str = "",
) -> dict[str, Any]:
    """Record that a source's code means a standard code, for everybody or one feed or institution, audited.

    For ``ucum`` the source code is a unit's spelling and the code a UCUM code of ``units/unit.csv``.

    Raises:
        MedlakeError: E260, no such standard code, or the source code is one itself and the map has no scope.
    """
    from ingestion.codes.acceptance import accept as run

    return run(
        code_system,
        source_code,
        code,
        reviewer=reviewer,
        reviewed_on=reviewed_on,
        feed=feed,
        org_code=org_code,
        valid_from=valid_from,
        valid_to=valid_to,
        note=note,
    )


def accept_header(
    feed: str, table: str, header: str, field: str, *, reviewer: str, reviewed_on: date, note: str = ""
) -> dict[str, Any]:
    """Record that a column's header means a field of the contract.

    Raises:
        MedlakeError: E102 no such feed; E260 no such table or field in its contract.
    """
    from ingestion.codes.acceptance import accept_header as run

    return run(feed, table, header, field, reviewer=reviewer, reviewed_on=reviewed_on, note=note)


def accept_zone(
    feed: str,
    zone: str,
    *,
    reviewer: str,
    reviewed_on: date,
    org_code: str = "",
    table: str = "",
    field: str = "",
    valid_from: date | None = None,
    valid_to: date | None = None,
    note: str = "",
) -> dict[str, Any]:
    """Record the zone of a source's local times (tz database's name).

    Raises:
        MedlakeError: E102 no such feed; E229 no such zone.
    """
    from ingestion.codes.acceptance import accept_zone as run

    return run(
        feed,
        zone,
        reviewer=reviewer,
        reviewed_on=reviewed_on,
        org_code=org_code,
        table=table,
        field=field,
        valid_from=valid_from,
        valid_to=valid_to,
        note=note,
    )


def reconform(code_system: str = "", table: str = "") -> dict[str, Any]:
    """Give rows that are in silver already the codes and canonical units that today's maps say. Run twice, the
    second changes nothing.

    Returns:
        tables: {table: rows changed}, rows, batches.
    """
    from ingestion.codes.reconforming import reconform as run

    return run(code_system, table)
