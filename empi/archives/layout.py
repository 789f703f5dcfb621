"""How an institution writes its archives, learned from what it delivered: columns, codes, dates, kind of file.

Bronze keeps every delivery as text, so a file written after this fits the system that made the deliveries, and a column
that it never delivers is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import PurePosixPath

import duckdb

from lake.contracts import TableContract
from lake.local_time import SHANGHAI
from lake.settings import settings

#: Rows of an institution that are looked at to learn how it writes a code.
_SAMPLE = 5000
_WORKBOOKS = (".xlsx", ".xls", ".xlsm")
#: A silver row ``s`` and the bronze row ``r`` that it was made from.
SAME_ROW = (
    "(r.org_code, r.batch_id, r.source_file, r.source_line) = (s.org_code, s.batch_id, s.source_file, s.source_line) "
    "AND r.source_sheet IS NOT DISTINCT FROM s.source_sheet"
)


@dataclass(frozen=True)
class Layout:
    """One institution's way of writing ``ph_archive``.

    Args:
        org_code: the institution.
        columns: fields of the contract that it delivers, in the contract's order.
        is_workbook: whether its newest delivery was one.
        texts: (field, standard code) -> what it writes.
        writes_labels: whether it writes names in place of codes, for a code that it has not written yet.
        slashed: dates as 2026/1/5 in place of 2026-01-05.
    """

    org_code: str
    columns: tuple[str, ...]
    is_workbook: bool
    texts: dict[tuple[str, str], str]
    writes_labels: bool
    slashed: bool

    def code(self, contract: TableContract, field: str, value: str) -> str:
        """A standard code as the institution writes it."""
        if (known := self.texts.get((field, value))) is not None:
            return known
        system = contract.field(field).code_system
        return names_of(system).get(value, value) if self.writes_labels and system else value

    def day(self, value: date) -> str:
        return f"{value.year}/{value.month}/{value.day}" if self.slashed else value.isoformat()

    def instant(self, value: datetime) -> str:
        """An instant as local wall-clock time."""
        local = value.astimezone(SHANGHAI)
        if self.slashed:
            return f"{self.day(local.date())} {local.hour}:{local:%M:%S}"
        return f"{local:%Y-%m-%d %H:%M:%S}"


def names_of(system: str) -> dict[str, str]:
    """Chinese names of a code system's codes; empty for one that has no register of its own."""
    import csv

    path = settings().seeds_dir / "codes" / f"{system}.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        return {r["code"]: r["name_zh"] for r in csv.DictReader(file)}


def learn(
    connection: duckdb.DuckDBPyConnection, contract: TableContract, org_codes: list[str]
) -> dict[str, Layout]:
    """Layouts of institutions, from ``silver`` and ``bronze`` rows of the table (views ``archive`` and ``raw``).

    An institution that delivered nothing has none.
    """
    connection.execute("CREATE OR REPLACE TEMP TABLE learnt (org_code VARCHAR)")
    connection.execute("INSERT INTO learnt SELECT unnest(?::VARCHAR[])", [org_codes])
    names = [f.name for f in contract.fields]
    counted = ", ".join(f"count(r.{n})" for n in names)
    about = connection.execute(
        f"""SELECT r.org_code, arg_max(r.source_file, r.received_at),
                   coalesce(bool_or(contains(r.source_updated_at, '/')), false), {counted}
            FROM raw r SEMI JOIN learnt USING (org_code) GROUP BY r.org_code"""
    ).fetchall()
    texts = _texts(connection, contract)
    found = {}
    for org, newest, slashed, *counts in about:
        mine = {(field, code): text for o, field, code, text in texts if o == org}
        found[str(org)] = Layout(
            org_code=str(org),
            columns=tuple(n for n, count in zip(names, counts, strict=True) if count),
            is_workbook=PurePosixPath(str(newest)).suffix.lower() in _WORKBOOKS,
            texts=mine,
            writes_labels=mine.get(("status_code", "0"), "0") != "0",
            slashed=bool(slashed),
        )
    return found


def _texts(connection: duckdb.DuckDBPyConnection, contract: TableContract) -> list[tuple[str, str, str, str]]:
    """(institution, field, standard code, its text), the text that it writes most often for the code."""
    coded = [f for f in contract.fields if f.name == "status_code" or f.code_system or f.type == "boolean"]
    pairs = ", ".join(f"CAST(s.{f.name} AS VARCHAR) AS s_{f.name}, r.{f.name} AS r_{f.name}" for f in coded)
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE written AS SELECT s.org_code, {pairs}
            FROM archive s SEMI JOIN learnt USING (org_code) JOIN raw r ON {SAME_ROW}
            QUALIFY row_number() OVER (PARTITION BY s.org_code, s.status_code ORDER BY s.archive_id) <= {_SAMPLE}"""
    )
    parts = [
        f"""SELECT org_code, '{f.name}' AS field, s_{f.name} AS code, mode(r_{f.name}) AS text FROM written
            WHERE s_{f.name} IS NOT NULL AND r_{f.name} <> '' GROUP BY ALL"""
        for f in coded
    ]
    return connection.execute(" UNION ALL ".join(parts)).fetchall()
