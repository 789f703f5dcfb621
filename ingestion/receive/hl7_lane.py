"""From the MLLP door's journal to the fast lane: laboratory results of messages that are on disk.

The same reader as the batch's takes them apart, a stretch of the journal at once. The batch finds again whatever this
passes over, with the same keys.
"""

from __future__ import annotations

from itertools import groupby

from ingestion.receive.segment import Record
from lake.errors import MedlakeError
from lake.log import logger

_log = logger("receive")
_TYPES = (b"ORU", b"OUL")

#: Seconds between two looks: messages are read column by column, many at once cost little more than one.
PAUSE = 0.25


def _has_results(record: Record) -> bool:
    """By the message type in its first segment; a false hit costs a look, no more."""
    head = record.payload[:400].split(b"\r", 1)[0]
    return any(kind in head for kind in _TYPES)


def results(records: list[Record]) -> None:
    """Offer the results among some records, in the order they came, those of one institution together.

    Raises:
        sqlalchemy.exc.OperationalError, OSError: the operational database does not answer; show them again.
    """
    wanted = [r for r in records if _has_results(r)]
    for org, group in groupby(wanted, key=lambda r: r.org_code):
        _offer(org, list(group))


def _offer(org_code: str, records: list[Record]) -> None:
    """A record that no rule can take must not hold up those behind it: halves find it, and it is passed over."""
    from sqlalchemy.exc import DBAPIError

    from ingestion import fastlane
    from ingestion.readers import hl7v2

    try:
        rows = hl7v2.results_with_report(b"\r".join(r.payload for r in records))
        if rows:
            fastlane.offer("lab_result", rows, org_code, records[0].received_at)
    except (DBAPIError, OSError):
        raise
    except Exception as error:
        if len(records) > 1:
            half = len(records) // 2
            _offer(org_code, records[:half])
            return _offer(org_code, records[half:])
        code = error.code if isinstance(error, MedlakeError) else type(error).__name__
        _log.error("fast_lane_passed_over", org_code=org_code, reason=code, line=records[0].seq)
