"""A table's rules over a file: read into a database of its own under ``home/tmp``, judged by the day's engine, thrown away."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from lake import duck, runs
from lake.contracts import TableContract, table_contract
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings
from quality.compile import name, text
from quality.engine import evaluate
from quality.entry.files import typing_sql, writing
from quality.entry.files.columns import read_mapping
from quality.entry.files.reading import Source, open_source, unreadable
from quality.entry.scope import of_table
from quality.generic import _AHEAD as AHEAD
from quality.rule import rulebook

_log = logger("quality")

#: Days that stand for "never" or "unknown"; they are no file's newest date.
_PLACEHOLDER_YEAR = 2099
#: Memory of the database; more is spilled to disk.
_MEMORY = "600MB"


@contextmanager
def _database() -> Iterator[duckdb.DuckDBPyConnection]:
    folder = settings().folder("tmp", "quality") / f"file-{time.monotonic_ns()}"
    folder.mkdir(mode=0o700)
    try:
        with duck.connect(folder / "file.duckdb", memory=_MEMORY) as connection:
            yield connection
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _load(connection: duckdb.DuckDBPyConnection, source: Source, path: Path) -> int:
    schema = pa.schema([("line", pa.int64()), *((f, pa.string()) for f in source.columns.at)])
    try:
        connection.register("arriving", pa.RecordBatchReader.from_batches(schema, source.batches))
        connection.execute("CREATE TABLE given AS SELECT * FROM arriving")
        connection.unregister("arriving")
    except duckdb.Error as error:  # an error of the reader comes through DuckDB as text that may quote a row
        raise unreadable(path, type(error).__name__) from error
    found = connection.execute("SELECT count(*) FROM given").fetchone()
    return int(found[0]) if found else 0


def _silver(
    connection: duckdb.DuckDBPyConnection, table: TableContract, source: Source, path: Path, org_code: str
) -> None:
    """``silver.<table>`` from the file's text; what delivery would say is said of the file."""
    has = source.columns.at
    columns = []
    for column, kind in table.silver_columns.items():
        field = next((f for f in table.fields if f.name == column), None)
        value = f"CAST(NULL AS {kind})"
        if field is not None and column in has:
            value = typing_sql.typed(field)
        elif column == "org_code":
            value = (
                f"coalesce({typing_sql.cleaned('org_code')}, {text(org_code)})"
                if column in has
                else text(org_code)
            )
        elif field is not None and field.is_key and field.type == "string":
            value = "'L' || g.line"  # a file without the key: the line is the record
        elif column == "source_file":
            value = text(path.name)
        elif column == "source_line":
            value = "g.line"
        columns.append(f"{value} AS {name(column)}")
    connection.execute("CREATE SCHEMA IF NOT EXISTS silver")
    connection.execute(
        f"CREATE TABLE silver.{name(table.name)} AS SELECT {', '.join(columns)} FROM given AS g"
    )


def _newest(connection: duckdb.DuckDBPyConnection, table: TableContract, has: set[str]) -> date | None:
    """The newest date in the data: of what the system stamped if it is there, else of any date that is not a plan."""
    stamped = [f for f in table.fields if f.name in has and f.name in ("source_updated_at", "recorded_at")]
    others = [
        f for f in table.fields if f.name in has and f.type in ("date", "timestamp") and f.name not in AHEAD
    ]
    for group in (stamped, others):
        days = [
            f"max({d}) FILTER (year({d}) < {_PLACEHOLDER_YEAR})"
            for f in group
            for d in (
                [name(f.name)]
                if f.type == "date"
                else [f"CAST({name(f.name)} AT TIME ZONE 'Asia/Shanghai' AS DATE)"]
            )
        ]
        if days:
            newest = f"list_max([{', '.join(days)}])"
            found = connection.execute(f"SELECT {newest} FROM silver.{name(table.name)}").fetchone()
            if found and found[0] is not None:
                return date.fromisoformat(str(found[0]))
    return None


def _with_lake(connection: duckdb.DuckDBPyConnection, table: str) -> date | None:
    """The other tables as of the newest run. Returns the run's date."""
    run = runs.latest_run()
    if run is None:
        return None
    held = {n: v for n, v in run.versions.items() if n.startswith("silver/") and n != f"silver/{table}"}
    duck.create_views(connection, held)
    return run.data_date


def check_file(
    path: Path,
    table: str,
    *,
    as_of: date | None = None,
    org_code: str | None = None,
    mapping: Path | None = None,
    with_lake: bool = False,
    out: Path | None = None,
) -> dict[str, Any]:
    """Run all rules of a table over a file.

    Args:
        as_of: the date being processed; the newest date in the data if not given, never the clock's.
        org_code: institution of rows that name none.
        with_lake: the other tables are the newest run's instead of empty.
        out: where every failing cell goes (.csv, .xlsx, .parquet).

    Returns:
        file, table, as_of, rows, skipped_rows, unread_cells, rules, evaluated (rule by record), findings, by_severity,
        by_rule, not_evaluated (rules that no row allowed), unknown_columns, cells and out where asked.

    Raises:
        MedlakeError: E440 no such table; E445 the file; E446 its header; E403 a rule does not run.
    """
    began = time.monotonic()
    book = of_table(rulebook(), table)
    contract = table_contract(table)
    if out is not None:
        writing.check_suffix(out)
    mapped = read_mapping(mapping, contract) if mapping else {}
    source = open_source(path, contract, mapped)
    with _database() as connection:
        rows = _load(connection, source, path)
        _silver(connection, contract, source, path, org_code or settings().default_org_code)
        found_on = _newest(connection, contract, set(source.columns.at))
        run_on = _with_lake(connection, table) if with_lake else None
        at = as_of or found_on or run_on
        if at is None:
            raise MedlakeError("E446", place=path.name, table=table, detail="日期列 / no date: --as-of")
        connection.execute("CREATE SCHEMA flags")
        evaluated = evaluate(connection, book, at, flags="flags")
        unread = writing.unread(connection, contract, set(source.columns.at))
        by_rule = _by_rule(connection)
        severities = dict(
            connection.execute("SELECT severity, count(*) FROM finding_now GROUP BY 1 ORDER BY 1").fetchall()
        )
        result: dict[str, Any] = {
            "file": path.name,
            "table": table,
            "as_of": at.isoformat(),
            "rows": rows,
            "skipped_rows": len(source.skipped),
            "unread_cells": unread,
            "rules": len(evaluated.book.of_table(table)),
            "evaluated": sum(r["evaluated"] for r in by_rule),
            "findings": sum(severities.values()),
            "by_severity": severities,
            "by_rule": {r["rule_id"]: r["failed"] for r in by_rule if r["failed"]},
            "not_evaluated": [r["rule_id"] for r in by_rule if not r["evaluated"]],
            "unknown_columns": list(source.columns.unknown),
        }
        if out is not None:
            result |= {
                "out": str(out),
                "cells": writing.write(connection, contract, book, set(source.columns.at), out),
            }
    _log.info(
        "file_checked",
        table=table,
        rows=rows,
        findings=result["findings"],
        seconds=round(time.monotonic() - began, 2),
    )
    return result


def _by_rule(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    found = connection.execute(
        "SELECT rule_id, sum(evaluated)::BIGINT, sum(failed)::BIGINT FROM rule_count GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return [{"rule_id": r, "evaluated": e, "failed": f} for r, e, f in found]
