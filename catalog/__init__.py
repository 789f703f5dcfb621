"""The directory of data assets. Verbs: ``build`` (writes it into the candidate file), ``assets``, ``fields``.

``source_tables`` is the dictionary of every table that building may read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

    from catalog.model import TableInfo
    from lake.runs import Run

__all__ = ["assets", "build", "fields", "source_tables"]


def source_tables() -> dict[str, TableInfo]:
    """Every table that building may read, by asset id: all contracts' silver tables and the derived ones."""
    from catalog.model import source_tables as found

    return found()


def build(con: duckdb.DuckDBPyConnection, run: Run, manifest: dict[str, Any]) -> dict[str, int]:
    """Write ``gold.catalog_asset`` and ``gold.catalog_field`` into the open candidate file; returns their row counts."""
    from catalog.entries import write

    return write(con, run, manifest)


def assets(layer: str | None = None) -> list[dict[str, Any]]:
    """The catalogue's assets as published, or of the last candidate before the first publication.

    Raises:
        MedlakeError: E505, nothing was built yet.
    """
    from catalog.read import assets as found

    return found(layer)


def fields(asset_id: str) -> list[dict[str, Any]]:
    """The fields of one asset, in their order.

    Raises:
        MedlakeError: E505, nothing was built yet; E507, there is no such asset.
    """
    from catalog.read import fields as found

    return found(asset_id)
