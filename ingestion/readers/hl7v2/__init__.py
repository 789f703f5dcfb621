"""HL7 v2 messages to rows: each message whole (feed ``hl7v2``) and as typed rows of the tables its segments speak of."""

from ingestion.readers.hl7v2.reader import read, results_with_report

__all__ = ["read", "results_with_report"]
