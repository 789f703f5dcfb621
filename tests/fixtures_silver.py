"""Small silver tables for tests: rows as dictionaries, everything else filled from the contracts.

``write(day, {"htn_card": [{"archive_id": "A1", ...}], ...})`` makes real Delta tables under the scratch home of the
``lake_home`` fixture, makes them visible and opens the run. Missing columns are null, but for the envelope and the
instants that every source stamps, which get a plain value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from catalog.model import source_tables
from lake import ledger, ops, runs, tables
from lake.crypto import token

Rows = Sequence[Mapping[str, Any]]

_ARROW = {
    "VARCHAR": pa.string(),
    "TINYINT": pa.int8(),
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
}


def _arrow_type(kind: str) -> pa.DataType:
    """``STRUCT(name VARCHAR, ...)``, a list (``VARCHAR[]``) or one of the plain ones."""
    if kind.endswith("[]"):
        return pa.list_(_arrow_type(kind[:-2]))
    if not kind.startswith("STRUCT("):
        return _ARROW[kind]
    parts = (part.split() for part in kind.removeprefix("STRUCT(").removesuffix(")").split(","))
    return pa.struct([(name, _ARROW[plain]) for name, plain in parts])


def shanghai(day: date, hour: int = 9, minute: int = 0) -> datetime:
    """A local wall-clock time as an instant in UTC."""
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC) - timedelta(hours=8)


def arrow(asset_id: str, rows: Rows, day: date) -> pa.Table:
    """Rows of ``silver.x`` or ``quality.x`` as its contract types them. An unknown column raises KeyError."""
    info = source_tables()[asset_id]
    kinds = {f.name: f.type for f in info.fields}
    for row in rows:
        if unknown := set(row) - set(kinds):
            raise KeyError(f"{asset_id} has no column {sorted(unknown)}")
    stamp = shanghai(day, 20)
    usual: dict[str, Any] = {
        "org_code": "C201",
        "data_date": day,
        "source_file": "fixture.csv",
        "source_line": 1,
        "batch_id": f"fixture-{day:%Y%m%d}",
        "raw_hash": "0" * 16,
        "received_at": stamp,
        "source_updated_at": stamp,
        "recorded_at": stamp,
        "status_code": {
            "silver.ph_archive": "0",
            "silver.htn_card": "active",
            "silver.dm_card": "active",
        }.get(asset_id),
    }
    columns = {
        name: pa.array([row.get(name, usual.get(name)) for row in rows], _arrow_type(kind))
        for name, kind in kinds.items()
    }
    return pa.table(columns)


def resident(key: str, **known: Any) -> dict[str, Any]:
    """A row of silver.person; the token is the real one."""
    return {
        "empi_id": key,
        "person_token": token("person", key),
        "name": f"姓名{key}",
        "sex_code": "1",
        "birth_date": date(1960, 1, 1),
        "id_no": f"42970119600101{key[-4:]:0>4}",
        "is_deceased": False,
        "record_count": 1,
        "has_trusted_id": True,
    } | known


def link(key: str, source_system: str, org_code: str, value: str, **known: Any) -> dict[str, Any]:
    """The crosswalk row of one source record."""
    return {
        "empi_id": key,
        "person_token": token("person", key),
        "source_system": source_system,
        "org_code": org_code,
        "identifier_type": "MR",
        "identifier_value": value,
        "valid_from": date(2023, 11, 18),
    } | known


def many(asset_id: str, day: date, count: int, **numbered: str) -> pa.Table:
    """``count`` rows of a table; ``numbered`` are columns as SQL over the row's number ``i``, the rest is usual."""
    from lake import duck

    one = arrow(asset_id, [{}], day)
    con = duck.connect()
    con.register("one", one)
    replaced = ", ".join(
        f'({sql})::{_duck(one.schema.field(name).type)} AS "{name}"' for name, sql in numbered.items()
    )
    made = con.execute(f"SELECT one.* REPLACE ({replaced}) FROM one, range({count}) AS n(i)").to_arrow_table()
    con.close()
    return made.cast(one.schema)


def _duck(kind: pa.DataType) -> str:
    return next(name for name, known in _ARROW.items() if known == kind)


def write(day: date, content: Mapping[str, Rows | pa.Table]) -> runs.Run:
    """Overwrite tables (``htn_card`` or ``quality.finding``), publish their versions and open the day's run."""
    written: dict[str, int] = {}
    for name, rows in content.items():
        asset = name if "." in name else f"silver.{name}"
        made = rows if isinstance(rows, pa.Table) else arrow(asset, rows, day)
        written[asset.replace(".", "/")] = tables.overwrite(asset.replace(".", "/"), made)
    with ops.engine().begin() as connection:
        for table, at in written.items():
            ledger.set_visible(connection, table, at, None)
    run = runs.open_run(day)
    outputs = {n: v for n, v in ledger.visible("").items() if n not in run.versions}
    return runs.record_output(run, outputs)


def deliver(feed: str, day: date, orgs: Sequence[str]) -> None:
    """One committed batch of a feed with a file from each institution."""
    name = f"{feed}-{day:%Y%m%d}"
    files = [
        {
            "path": f"{o}/x.csv",
            "sha256": f"{name}{o}",
            "feed": feed,
            "org_code": o,
            "origin": "x.csv",
            "bytes": 1,
        }
        for o in orgs
    ]
    batch = ledger.begin(name, feed, day, contract_version="1.0.0", writes=[], files=files)
    ledger.commit(batch, [ledger.Line("encounter", o, f"{o}/x.csv", 1, 1, 0, 0) for o in orgs])
