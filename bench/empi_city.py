"""The registrations of a simulated city as ingestion would leave them: silver tables in a scratch lake, and the truth.

A share of the registers' records may be held back: the first ones come as a day's new registrations, the rest
before the re-run that asks how many ids stay.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa

#: The day whose registrations are linked: the last one that the simulator knows.
DAY = date(2026, 11, 20)

#: System -> its table, and what the table's columns are called in the simulator.
SYSTEMS: dict[str, tuple[str, dict[str, str]]] = {
    "his": ("patient", {"patient_local_id": "local_id"}),
    "public_health": ("ph_archive", {"archive_id": "local_id"}),
    "lis": (
        "lab_report",
        {"patient_local_id": "local_id", "report_id": "local_id", "requesting_org_code": "org_code"},
    ),
    "pacs": ("imaging_instance", {"patient_local_id": "local_id", "sop_instance_uid": "local_id"}),
}
#: A record's place among all, 0..999,999, from its key alone.
_PLACE = (
    "(('0x' || left(md5(concat_ws('|', source_system, org_code, local_id)), 12))::UBIGINT % 1000000)::INTEGER"
)
#: What the benchmark holds back of the registers.
HELD_SHARE = 0.01


def use_home(home: str) -> None:
    """Point this process, and those it starts, at a scratch lake."""
    os.environ["MEDLAKE_HOME"] = home
    from lake.settings import settings

    settings.cache_clear()


def _file(home: str) -> Path:
    return Path(home) / "city" / "registration.parquet"


def _rows(home: str, system: str, where: str) -> pa.RecordBatchReader:
    """Registrations of one system with the columns and types of its silver table, in batches."""
    from lake import duck
    from lake.contracts import table_contract

    name, renamed = SYSTEMS[system]
    schema = table_contract(name).silver_schema()
    connection = duck.connect()
    source = f"read_parquet('{_file(home)}')"
    present = {r[0] for r in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    of = {f.name: renamed.get(f.name, f.name) for f in schema if renamed.get(f.name, f.name) in present}
    wanted = ", ".join(f'"{column}" AS "{field}"' for field, column in of.items())
    found = connection.execute(
        f"SELECT {wanted} FROM {source} WHERE source_system = '{system}' AND {where}"
    ).to_arrow_reader(200_000)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in found:
            columns = [
                batch[f.name].cast(f.type) if f.name in of else pa.nulls(len(batch), f.type) for f in schema
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def show(name: str) -> None:
    from lake import ledger, ops, tables

    with ops.engine().begin() as connection:
        ledger.set_visible(connection, f"silver/{name}", tables.version(f"silver/{name}"), None)


def make(home: str, residents: int, seed: int, held_share: float = 0.0) -> None:
    """Make the city in this process; ``held_share`` of the registers' records is held back."""
    use_home(home)
    from lake import tables
    from lake.truth import truth_dir
    from simulator.people import write_registrations
    from simulator.profile import Profile

    folder = _file(home).parent
    folder.mkdir(parents=True)
    write_registrations(Profile.load(), residents, seed, folder, with_residents=True)
    truth_dir().parent.mkdir(parents=True, exist_ok=True)
    (folder / "truth").rename(truth_dir())
    for system, (name, _) in SYSTEMS.items():
        held = "false" if system in ("lis", "pacs") else f"{_PLACE} < {held_share * 1_000_000:.0f}"
        tables.overwrite(f"silver/{name}", _rows(home, system, f"NOT ({held})"))
        show(name)


def prepare(home: str, residents: int, seed: int, held_share: float = 0.0) -> None:
    """As :func:`make`, in a process of its own, so that the memory measured later is linking's."""
    arguments = (home, residents, seed, held_share)
    maker = multiprocessing.get_context("spawn").Process(target=make, args=arguments)
    maker.start()
    maker.join()
    if maker.exitcode:
        raise SystemExit(maker.exitcode)


def held_back(home: str) -> int:
    """How many registrations were held back."""
    from lake import duck

    connection = duck.connect()
    sql = f"SELECT count(*) FROM read_parquet('{_file(home)}') WHERE {_held(0, 1)}"
    return int(connection.execute(sql).fetchall()[0][0])


def _held(first: float, last: float) -> str:
    """The held-back records from one share of them to another."""
    low, high = (int(HELD_SHARE * 1_000_000 * share) for share in (first, last))
    return f"source_system IN ('his', 'public_health') AND {_PLACE} >= {low} AND {_PLACE} < {high}"


def deliver(home: str, first: float, last: float) -> int:
    """Deliver the held-back registrations from one share of them to another; returns how many."""
    from lake import tables

    delivered = 0
    for system in ("his", "public_health"):
        name = SYSTEMS[system][0]
        before = tables.row_count(f"silver/{name}")
        tables.append(f"silver/{name}", _rows(home, system, _held(first, last)))
        show(name)
        delivered += tables.row_count(f"silver/{name}") - before
    return delivered
