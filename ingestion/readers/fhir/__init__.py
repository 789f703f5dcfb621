"""FHIR R4: Bundles, bulk NDJSON and single resources, each kept whole and read into typed rows where there are."""

from __future__ import annotations

from ingestion.readers.fhir.read import read, read_many

__all__ = ["read", "read_many"]
