"""The fast lane: from receipt to a request for work at once, past no gate; the batch reconciles with it.

``offer`` takes rows as receivers get them, ``reconcile`` recomputes a batch from silver with the same rules and asks
for what the lane did not see. Both are idempotent: a request is the same one by its key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime

__all__ = ["TABLES", "offer", "reconcile"]

#: Tables whose rows may be offered. ``vital_reading`` has no rule of its own yet and asks for nothing.
TABLES = ("lab_result", "critical_value_event", "cold_chain_reading", "vital_reading")


def offer(table: str, rows: Sequence[Mapping[str, str | None]], org_code: str, received_at: datetime) -> int:
    """Ask for work where rows call for it. Returns how many new requests that made.

    Args:
        rows: contract field names with values as text, as received. ``lab_result`` rows carry the fields of their
            ``lab_report`` too: ``patient_local_id``, ``requesting_org_code``, ``birth_date``, ``sex_code``,
            ``encounter_id``, ``panel_name``, ``dept_code``, as far as they are known.
        received_at: receipt by the platform, with its zone.

    Raises:
        MedlakeError: E921 the table is none of ``TABLES``; E920 a rule's parameter is wrong.
    """
    from ingestion.fastlane.lane import offer as run

    return run(table, rows, org_code, received_at)


def reconcile(data_date: date | None = None, *, batch_id: str | None = None) -> dict[str, int]:
    """Ask for what a day's (or a batch's) silver rows call for and nobody asked for yet.

    Returns:
        ``found`` by the rules, ``known`` before, ``asked`` now, and ``missed_by_lane``: those of ``asked`` whose
        institution delivers this table through the fast lane.
    """
    from ingestion.fastlane.batch import reconcile as run

    return run(data_date, batch_id)
