"""A large Delta table of which little changes at a time: its rows, and beside them the rows that stand in their place.

Both lie in one table, in two partitions of ``amends__<key>`` (false: the rows as last written whole; true: the newest
form of each row that changed since, and the new ones), so that one version says all and one commit moves it. Whoever
reads through ``tables.scan_sql`` sees the table as it is now; a day's change costs its own rows, not a rewrite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: Before the name of the key: the column that says which part a row lies in.
PREFIX = "amends__"


def key_of(partition_columns: Iterable[str]) -> str | None:
    """The column that identifies a row, if a table is kept this way."""
    return next((c.removeprefix(PREFIX) for c in partition_columns if c.startswith(PREFIX)), None)


def is_own(column: str) -> bool:
    """Whether a column only says which part a row lies in."""
    return column.startswith(PREFIX)


def files(uris: Iterable[str], *, amends: bool) -> list[str]:
    """The data files of one part."""
    return sorted(u for u in uris if (f"/{PREFIX}" in u and "=true/" in u) is amends)


def read(uris: list[str], columns: Mapping[str, str]) -> str:
    """FROM text of the named columns (with their DuckDB types) of data files; none: no rows of that shape."""
    picked = ", ".join(f'"{c}"' for c in columns)
    if not uris:
        picked = ", ".join(f'NULL::{kind} AS "{c}"' for c, kind in columns.items())
        return f"(SELECT {picked} WHERE false)"
    listed = ", ".join("'" + u.replace("'", "''") + "'" for u in uris)
    return f"(SELECT {picked} FROM read_parquet([{listed}], union_by_name = true, hive_partitioning = false))"


def scan(uris: list[str], key: str, columns: Mapping[str, str]) -> str:
    """FROM text of the rows that hold: those amended, and the others as last written whole."""
    base, amendments = (files(uris, amends=side) for side in (False, True))
    if not amendments:
        return read(base, columns)
    newer = read(amendments, columns)
    return (
        f'(SELECT * FROM {read(base, columns)} AS base ANTI JOIN (SELECT "{key}" FROM {newer}) AS newer USING ("{key}") '
        f"UNION ALL SELECT * FROM {newer})"
    )
