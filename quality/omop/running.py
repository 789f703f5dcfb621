"""Run the checks on a folder of OMOP tables (Parquet or CSV, one file a table, or a zip of them)."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from lake import duck
from lake.errors import MedlakeError
from quality.compile import name, text
from quality.omop.checks import TYPES, Check, checks, fields, thresholds

_READERS = {".parquet": "read_parquet", ".csv": "read_csv"}


@contextmanager
def _files(folder: Path) -> Iterator[dict[str, Path]]:
    """The file of each table; what a zip holds is unpacked for the time of the check."""
    with tempfile.TemporaryDirectory(prefix="medlake-omop-") as unpacked:
        if not folder.exists():
            raise MedlakeError("E458", place=folder.name)
        zips = [folder] if folder.suffix == ".zip" else sorted(folder.glob("*.zip"))
        for packed in zips:
            with zipfile.ZipFile(
                packed
            ) as archive:  # extract() keeps members below the folder whatever they are called
                for member in archive.namelist():
                    if Path(member).suffix in _READERS and not member.startswith("__MACOSX"):
                        archive.extract(member, unpacked)
        found: dict[str, Path] = {}
        for root in (Path(unpacked), folder):
            if root.is_dir():
                found |= {p.stem.lower(): p for p in sorted(root.rglob("*")) if p.suffix in _READERS}
        if not found:
            raise MedlakeError("E458", place=folder.name)
        yield found


def _release(connection: duckdb.DuckDBPyConnection, present: dict[str, dict[str, str]]) -> date | None:
    """The day the source was drawn, as the data say it themselves: no rule reads a clock."""
    if "source_release_date" not in present.get("cdm_source", {}):
        return None
    row = connection.execute("SELECT max(source_release_date)::DATE FROM cdm_source").fetchone()
    return row[0] if row else None


def _outcome(check: Check, rows: int, violated: int, about: dict[str, str]) -> dict[str, Any]:
    share = 100 * violated / rows if rows else None
    limit = float(about["threshold_pct"])
    status = "not_applicable" if share is None else "passed" if share <= limit else "failed"
    return {
        "check": check.check,
        "level": check.level,
        "context": about["context"],
        "category": about["category"],
        "subcategory": about["subcategory"],
        "table": check.table,
        "field": check.field,
        "concept_id": check.concept_id,
        "rows": rows,
        "violated": violated,
        "pct": None if share is None else round(share, 3),
        "threshold_pct": limit,
        "status": status,
        "title_zh": about["title_zh"],
    }


def _failing(connection: duckdb.DuckDBPyConnection, check: Check, keys: dict[str, str]) -> None:
    """Add the rows that a check found to ``failing_row``: the table's key and the value, one a row and check."""
    key = keys.get(check.table)
    has_key = key and check.rows.startswith(f"{name(check.table)} AS t")
    shown_key = f"t.{name(str(key))}::VARCHAR" if has_key else "NULL"
    shown = f"t.{name(check.field)}::VARCHAR" if check.field and has_key else "NULL"
    connection.execute(
        f"INSERT INTO failing_row SELECT {text(check.check)}, {text(check.table)}, {text(check.field)}, "
        f"{text(check.concept_id)}, {shown_key}, {shown} FROM {check.rows} WHERE {check.where} AND ({check.violated})"
    )


def check_omop(folder: Path, *, as_of: date | None = None, out: Path | None = None) -> dict[str, Any]:
    """Run every check that the tables in a folder allow.

    Args:
        folder: with ``<table>.parquet`` or ``<table>.csv``, or a zip of them (or in it).
        as_of: nothing may be dated later; default: ``cdm_source.source_release_date``, and without it not asked.
        out: Parquet file for every failing row (check, table, field, concept_id, key, value).

    Returns:
        ``tables``, ``checks``, ``passed``, ``failed``, ``not_applicable``, ``by_category`` and ``results``, a row a check.

    Raises:
        MedlakeError: E458, there is no OMOP table in the folder.
    """
    about = thresholds()
    keys = {f.table: f.field for f in fields() if f.key}
    with _files(folder) as files, duck.connect() as connection:
        present: dict[str, dict[str, str]] = {}
        for table, path in files.items():
            reader = f"{_READERS[path.suffix]}({text(str(path))})"
            connection.execute(f"CREATE TABLE {name(table)} AS SELECT * FROM {reader}")
            described = connection.execute(f"DESCRIBE {name(table)}").fetchall()
            present[table] = {row[0].lower(): row[1] for row in described}
        for f in fields():  # a field that is not there is told by cdmField; to the others it is empty
            if f.table in present and f.field not in present[f.table]:
                connection.execute(
                    f"ALTER TABLE {name(f.table)} ADD COLUMN {name(f.field)} {TYPES[f.type][0]}"
                )
        if not set(keys) & set(present):
            raise MedlakeError("E458", place=folder.name)
        connection.execute(
            "CREATE TABLE failing_row (check_name VARCHAR, table_name VARCHAR, field VARCHAR, concept_id VARCHAR, "
            "record_key VARCHAR, value VARCHAR)"
        )
        results = []
        for check in checks(present, as_of or _release(connection, present)):
            if check.said:
                rows, violated = check.said
            else:
                counted = connection.execute(
                    f"SELECT count(*), count(*) FILTER ({check.violated}) FROM {check.rows} WHERE {check.where}"
                ).fetchone()
                rows, violated = (int(n) for n in counted or (0, 0))
                if violated and out:
                    _failing(connection, check, keys)
            results.append(_outcome(check, rows, violated, about[check.check]))
        if out:
            connection.execute(f"COPY failing_row TO {text(str(out))} (FORMAT parquet)")
            out.chmod(0o600)
    by_category: dict[str, dict[str, int]] = {}
    for row in results:
        counts = by_category.setdefault(row["category"], {"passed": 0, "failed": 0, "not_applicable": 0})
        counts[row["status"]] += 1
    return {
        "tables": len(present),
        "checks": len(results),
        **{s: sum(r["status"] == s for r in results) for s in ("passed", "failed", "not_applicable")},
        "by_category": by_category,
        "results": results,
    }
