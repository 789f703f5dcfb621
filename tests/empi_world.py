"""Registrations made by hand for tests of the room ``empi``: valid ids on demand, ugly values on purpose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import pyarrow as pa

from empi import sources
from lake import duck

TODAY = date(2026, 11, 20)
WEIGHTS = [2 ** (17 - i) % 11 for i in range(17)]  # ISO 7064 MOD 11-2, from its definition


def check_digit(first_17: str) -> str:
    """The oracle for the check digit, written from the standard's formula and not from our table."""
    total = sum(int(c) * w for c, w in zip(first_17, WEIGHTS, strict=True))
    value = (12 - total % 11) % 11
    return "X" if value == 10 else str(value)


def id_number(born: date, serial: int, region: str = "429701") -> str:
    """A valid 18-digit number; an odd serial is a man's."""
    first = f"{region}{born:%Y%m%d}{serial:03d}"
    return first + check_digit(first)


def registration(local_id: str, name: str | None, **given: Any) -> dict[str, Any]:
    """One row of ``source_record``; what is not given is null (system: his at H101, updated in 2026)."""
    row: dict[str, Any] = dict.fromkeys(sources.RAW_COLUMNS)
    row |= {"source_system": "his", "org_code": "H101", "identifier_value": local_id, "name": name}
    row |= {"is_dead": False, "updated_at": datetime(2026, 1, 1, tzinfo=UTC)}
    return row | given


def world(
    rows: Iterable[Mapping[str, Any]], decisions: Iterable[tuple[str, str, str]] = ()
) -> tuple[duckdb.DuckDBPyConnection, dict[str, int]]:
    """A connection with ``source_record``, ``decision``, ``death``, and local id -> ``rec_no``.

    ``decisions``: (local id, local id, ``must_link`` or ``cannot_link``).
    """
    connection = duck.connect()
    sources.create_source_record(connection)
    keys = ("source_system", "org_code", "identifier_value")
    ordered = sorted(rows, key=lambda r: tuple(str(r[k]) for k in keys))
    numbered = [{"rec_no": i} | dict(r) for i, r in enumerate(ordered)]
    schema = pa.schema(
        [
            pa.field("rec_no", pa.int32()),
            *[pa.field(k, pa.string()) for k in keys],
            *[
                pa.field(
                    n,
                    {
                        "VARCHAR": pa.string(),
                        "DATE": pa.date32(),
                        "BOOLEAN": pa.bool_(),
                        "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
                    }[t],
                )
                for n, t in sources.RAW_COLUMNS.items()
            ],
        ]
    )
    connection.register("given", pa.Table.from_pylist(numbered, schema=schema))
    connection.execute("INSERT INTO source_record BY NAME SELECT * FROM given")
    number = {r["identifier_value"]: r["rec_no"] for r in numbered}
    connection.execute("CREATE TABLE decision (rec_l INTEGER, rec_r INTEGER, decision VARCHAR)")
    for one, other, what in decisions:
        low, high = sorted((number[one], number[other]))
        connection.execute("INSERT INTO decision VALUES (?, ?, ?)", [low, high, what])
    connection.execute("CREATE TABLE death (id_no VARCHAR, name VARCHAR, birth_date DATE, died_on DATE)")
    return connection, number
