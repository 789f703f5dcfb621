"""Tables as readers may see them: the version that the ledger made visible, never one that is being written."""

from __future__ import annotations

from lake import ledger, tables


def is_there(name: str) -> bool:
    """Whether a table such as ``silver/htn_card`` exists and was made visible."""
    return tables.exists(name) and (name in _versions(name) or not _versions(""))


def scan(name: str) -> str:
    """A FROM item of the visible version (the newest where this lake keeps no versions, as a benchmark's)."""
    return tables.scan_sql(name, _versions(name).get(name))


def columns(name: str) -> dict[str, str]:
    """Columns and their DuckDB types at the visible version."""
    return tables.column_types(name, _versions(name).get(name))


def _versions(prefix: str) -> dict[str, int]:
    return ledger.visible(prefix)
