"""What all writers share: the drop folder, the codes of a source system, rows per file."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import yaml

from lake.errors import MedlakeError

MARKER = ".simulated.json"  # in the drop folder: which dates a simulation wrote
HERE = Path(__file__).parent


@cache
def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((HERE / name).read_text(encoding="utf-8"))
    return loaded


@dataclass
class Drop:
    """The folder that sources deliver to: `<root>/<data_date>/<feed>/<org_code>/<file>`.

    `damage`: (data date, org, table) -> records to put into that file besides the good ones, already as the
    text of one record each. Feeds in `silent` deliver nothing on that date. On `bulk` dates the county
    platform dumps CSV, as it does for the history.
    """

    root: Path
    dates: frozenset[date]
    silent: frozenset[tuple[date, str]] = frozenset()
    damage: Mapping[tuple[date, str, str], list[str]] = field(default_factory=dict)
    bulk: frozenset[date] = frozenset()
    files: int = 0

    @property
    def _marker(self) -> Path:
        return self.root / MARKER

    def _simulated(self) -> set[str]:
        """Dates that a simulation has written here."""
        return set(json.loads(self._marker.read_text())) if self._marker.is_file() else set()

    def replace(self) -> None:
        """Remove what an earlier simulation wrote; never touch a folder that another hand filled."""
        earlier = self._simulated()
        for day in sorted(self.dates):
            if day.isoformat() not in earlier and (self.root / day.isoformat()).exists():
                raise MedlakeError("E804", place=str(self.root / day.isoformat()))
        for name in sorted(earlier):
            shutil.rmtree(self.root / name, ignore_errors=True)
        self._mark(set())

    def extend(self) -> None:
        """Write the wanted dates anew beside the others."""
        for day in sorted(self.dates):
            if day.isoformat() in self._simulated():
                shutil.rmtree(self.root / day.isoformat(), ignore_errors=True)
            elif (self.root / day.isoformat()).exists():
                raise MedlakeError("E804", place=str(self.root / day.isoformat()))
        self._mark(self._simulated())

    def _mark(self, others: set[str]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self._marker.write_text(json.dumps(sorted(others | {day.isoformat() for day in self.dates})) + "\n")

    def path(self, data_date: date, feed: str, org: str, name: str) -> Path:
        folder = self.root / data_date.isoformat() / feed / org
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def write(self, data_date: date, feed: str, org: str, name: str, content: bytes) -> Path:
        path = self.path(data_date, feed, org, name)
        path.write_bytes(content)
        self.files += 1
        return path

    def wants(self, data_date: date, feed: str) -> bool:
        return data_date in self.dates and (data_date, feed) not in self.silent


def connect() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB with the source systems' codes as table `source_code`."""
    con = duckdb.connect()
    con.execute("SET preserve_insertion_order = true")
    con.register("source_code", _source_codes())
    con.execute(
        "CREATE MACRO csv_cell(x) AS CASE WHEN x IS NULL THEN '' "
        "WHEN regexp_matches(x, '[\",\\n]') THEN '\"' || replace(x, '\"', '\"\"') || '\"' ELSE x END"
    )
    # A whole number keeps no decimal point: that is how people's systems print it.
    con.execute(
        "CREATE MACRO number_text(x) AS CASE WHEN x = floor(x) AND abs(x) < 1e15 "
        "THEN CAST(CAST(x AS BIGINT) AS VARCHAR) ELSE CAST(x AS VARCHAR) END"
    )
    con.execute(
        "CREATE MACRO hl7_text(x) AS coalesce(replace(replace(replace(replace(replace(x, '\\', '\\E\\'), '|', '\\F\\'), "
        "'^', '\\S\\'), '&', '\\T\\'), '~', '\\R\\'), '')"
    )
    return con


def systems() -> dict[tuple[str, str], str]:
    """(feed, org_code) -> source system, ranges of the YAML written out."""
    out: dict[tuple[str, str], str] = {}
    for feed, spans in load("source_codes.yaml")["orgs"].items():
        for span, system in spans.items():
            first, _, last = span.partition("-")
            for code in _between(first, last or first):
                out[feed, code] = system
    return out


def _between(first: str, last: str) -> list[str]:
    every = ["H001", *(f"H{n}" for n in range(101, 106)), *(f"C{n}" for n in range(201, 219))]
    return every[every.index(first) : every.index(last) + 1]


def _source_codes() -> pa.Table:
    """feed, org_code, code_system, code, source: a row per code that a system writes differently."""
    table = load("source_codes.yaml")["systems"]
    rows: list[tuple[str, str, str, str, str]] = []
    for (feed, org), system in systems().items():
        maps = table[system]
        named = {name for name in maps if name != "*"}
        if maps.get("*") == "label":
            named |= set(seed_labels())
        for code_system in sorted(named):
            chosen = maps.get(code_system, maps.get("*"))
            pairs = seed_labels().get(code_system, {}) if chosen == "label" else chosen
            rows += [(feed, org, code_system, str(code), str(text)) for code, text in pairs.items()]
    names = ("feed", "org_code", "code_system", "code", "source")
    return pa.table(
        {n: pa.array(c, pa.string()) for n, c in zip(names, zip(*rows, strict=True), strict=True)}
    )


@cache
def seed_labels() -> dict[str, dict[str, str]]:
    """Code system -> {code: Chinese name} from dbt/seeds/codes."""
    folder = HERE.parents[1] / "dbt" / "seeds" / "codes"
    out = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8-sig", newline="") as file:
            out[path.stem] = {
                row["code"]: row["name_zh"] for row in csv.DictReader(file) if row.get("name_zh")
            }
    return out


def recoded(
    table: str, feed: str, columns: Mapping[str, str | None], booleans: list[str]
) -> tuple[str, list[str]]:
    """SQL for reading `table` with source codes: FROM clause and, per column, the expression of its text or value.

    Left joins on the small code table; an unmapped code is written as it is.
    """
    joins, expressions = [f"{table} AS t"], []
    for number, (column, code_system) in enumerate(columns.items()):
        system = "boolean" if column in booleans else code_system
        if system is None:
            expressions.append(f"t.{column}")
            continue
        joins.append(
            f"LEFT JOIN source_code AS m{number} ON m{number}.feed = '{feed}' AND m{number}.org_code = t.org_code "
            f"AND m{number}.code_system = '{system}' AND m{number}.code = CAST(t.{column} AS VARCHAR)"
        )
        expressions.append(f"coalesce(m{number}.source, CAST(t.{column} AS VARCHAR))")
    return " ".join(joins), expressions


def text_of(
    expression: str, kind: pa.DataType, date_format: str = "%Y-%m-%d", time_format: str = "%Y-%m-%d %H:%M:%S"
) -> str:
    """SQL text of a typed column; null stays null."""
    if pa.types.is_timestamp(kind):
        return f"strftime({expression}, '{time_format}')"
    if pa.types.is_date(kind):
        return f"strftime({expression}, '{date_format}')"
    if pa.types.is_floating(kind):
        return f"number_text({expression})"
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        return expression
    return f"CAST({expression} AS VARCHAR)"


def aggregated(
    con: duckdb.DuckDBPyConnection, source: str, line: str, order: str, separator: str, extra: str = "NULL"
) -> Iterator[tuple[str, date, str | None, str]]:
    """(org_code, data_date, `extra` as file part, records joined) per file, in a fixed order."""
    rows = con.execute(
        f"SELECT org_code, deliver_on, CAST(part AS VARCHAR) AS part, string_agg(line, '{separator}' ORDER BY ord) "
        f"FROM (SELECT t.org_code, t.deliver_on, {extra} AS part, {line} AS line, "
        f"row_number() OVER (ORDER BY {order}) AS ord FROM {source}) AS t "
        "GROUP BY ALL ORDER BY 1, 2, 3"
    )
    while batch := rows.fetchmany(64):
        yield from batch
