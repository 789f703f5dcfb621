"""Which records of a table differ between two of its versions: exactly, and cheaply where the table's log proves it."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from lake import tables
from lake.contracts import table_contract
from quality.compile import name

#: Commits that touch as many rows as they say; any other kind proves nothing.
_COUNTED = {
    "MERGE": ("num_target_rows_inserted", "num_target_rows_updated"),
    "WRITE": ("num_added_rows",),
    "OPTIMIZE": (),
}


def touched_table(table: str) -> str:
    """Name of the table of a table's touched keys."""
    return name(f"touched_{table}")


def _rows_touched(full: str, old: int, new: int) -> int | None:
    """How many rows the commits between two versions inserted or updated, by Delta's log; None where it does not say."""
    commits = {c["version"]: c for c in tables.open_table(full, new).history(new - old)}
    rows = 0
    for number in range(old + 1, new + 1):
        commit = commits.get(number)
        if commit is None or (counted := _COUNTED.get(commit.get("operation", ""))) is None:
            return None
        if commit["operation"] == "WRITE" and commit.get("operationParameters", {}).get("mode") != "Append":
            return None
        metrics = commit.get("operationMetrics") or {}
        if metrics.get("num_target_rows_deleted", 0) or not all(c in metrics for c in counted):
            return None
        rows += sum(int(metrics[c]) for c in counted)
    return rows


def _by_batch(connection: duckdb.DuckDBPyConnection, full: str, old: int, new: int) -> str | None:
    """Condition of the rows whose batch the old version did not know, where these are all that was touched.

    A row of a batch that is new was touched. Where as many rows were touched as there are such rows, there are no
    others: a correction or a changed code list, which rewrite rows under their old batch, do not pass here.
    """
    rows = _rows_touched(full, old, new)
    if rows is None or not {"batch_id"} <= set(tables.columns(full, old)) & set(tables.columns(full, new)):
        return None
    before, after = tables.scan_sql(full, old), tables.scan_sql(full, new)
    known = [b for (b,) in connection.execute(f"SELECT DISTINCT batch_id FROM {before}").fetchall()]
    if None in known:
        return None
    listed = ", ".join("'" + b.replace("'", "''") + "'" for b in known) or "''"
    is_new = f"batch_id NOT IN ({listed})"
    found = connection.execute(f"SELECT count(*) FROM {after} WHERE {is_new}").fetchone()
    return is_new if found is not None and found[0] == rows else None


def _by_value(full: str, old: int, new: int, keys: str, columns: list[str]) -> str | None:
    """Keys of the rows that lie in files of one version only and differ; None where files cannot tell."""
    scans = tables.changes_sql(full, old, new)
    if scans is None:
        return None
    picked = ", ".join(name(c) for c in columns)
    added, removed = (f"(SELECT {picked} FROM {s})" if s else "" for s in scans)
    if added and removed:
        return (
            f"SELECT {keys} FROM ((FROM {added} EXCEPT ALL FROM {removed}) UNION ALL "
            f"(FROM {removed} EXCEPT ALL FROM {added}))"
        )
    return (
        f"SELECT {keys} FROM {added or removed}"
        if added or removed
        else f"SELECT {keys} FROM (SELECT {picked} FROM {tables.scan_sql(full, new)} LIMIT 0)"
    )


@dataclass(frozen=True)
class Touched:
    """How many records were touched; ``is_new``: the condition that tells them in the new version, where there is one."""

    count: int
    is_new: str = ""


def find(
    connection: duckdb.DuckDBPyConnection, table: str, old: int | None, new: int | None
) -> Touched | None:
    """Make ``touched_<table>``, the full keys of all records that were added, changed or removed between two versions.

    Returns:
        How many; None where that cannot be told (columns differ, old files are gone, a version is missing). A table
        that neither lake has did not change, and has no such keys.
    """
    if old is None and new is None:
        return Touched(0)
    keys = ", ".join(name(k) for k in table_contract(table).full_key)
    full, is_new = f"silver/{table}", ""
    if old is None or new is None:
        return None
    if old == new:
        sql: str | None = f"SELECT {keys} FROM {tables.scan_sql(full, new)} LIMIT 0"
    elif tables.changes_sql(full, old, new) is None:
        return None
    else:
        is_new = (_by_batch(connection, full, old, new) if new > old else None) or ""
        sql = f"SELECT {keys} FROM {tables.scan_sql(full, new)} WHERE {is_new}" if is_new else ""
        sql = sql or _by_value(full, old, new, keys, list(tables.columns(full, new)))
    if sql is None:
        return None
    connection.execute(f"CREATE OR REPLACE TABLE {touched_table(table)} AS SELECT DISTINCT * FROM ({sql})")
    row = connection.execute(f"SELECT count(*) FROM {touched_table(table)}").fetchone()
    return Touched(int(row[0]) if row else 0, is_new)


def entries(old: int | None, new: int | None) -> str | None:
    """SELECT of the index entries (source_system, org_code, identifier_value) that differ between two versions of
    ``silver/person_identifier``; None where that cannot be told."""
    full, columns = (
        "silver/person_identifier",
        "source_system, org_code, identifier_value, empi_id, identifier_type, valid_to",
    )
    nothing = "SELECT NULL::VARCHAR AS source_system, NULL::VARCHAR AS org_code, NULL::VARCHAR AS identifier_value WHERE false"
    if old == new:
        return nothing
    if old is None or new is None or tables.changes_sql(full, old, new) is None:
        return None

    def open_ones(at: int) -> str:
        return f"SELECT {columns} FROM {tables.scan_sql(full, at)} WHERE identifier_type = 'MR' AND valid_to IS NULL"

    before, after = open_ones(old), open_ones(new)
    return (
        "SELECT DISTINCT source_system, org_code, identifier_value FROM "
        f"((({after}) EXCEPT ({before})) UNION ALL (({before}) EXCEPT ({after})))"
    )
