"""``make bench-empi``: link the registrations of a simulated city and measure how right and how fast.

The city is made in a process of its own, so that memory is that of linking. Reading the register tables from
Delta and writing persons, crosswalk and events is part of the time, and so are the imports.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from bench.harness import Measure, measured, report, say

RESIDENTS = 100_000
SEED = 20261122
DAY = date(2026, 11, 20)


def use_home(home: str) -> None:
    """Point this process at a scratch lake."""
    os.environ["MEDLAKE_HOME"] = home
    from lake.settings import settings

    settings.cache_clear()


def prepare(home: str, residents: int, seed: int) -> None:
    """Make a city and put its registrations where ingestion would, with the columns of each table's contract."""
    use_home(home)
    import pyarrow as pa
    import pyarrow.compute as pc

    from lake import ledger, ops, tables
    from lake.contracts import table_contract
    from lake.truth import truth_dir
    from simulator.people import make_city

    city = make_city(residents=residents, seed=seed)
    registrations = city.delivered(None, city.as_of)
    # system -> table, and what its own columns are called in the simulator
    systems = {
        "his": ("patient", {"patient_local_id": "local_id"}),
        "public_health": ("ph_archive", {"archive_id": "local_id"}),
        "lis": (
            "lab_report",
            {"patient_local_id": "local_id", "report_id": "local_id", "requesting_org_code": "org_code"},
        ),
        "pacs": ("imaging_instance", {"patient_local_id": "local_id", "sop_instance_uid": "local_id"}),
    }
    for system, (name, renamed) in systems.items():
        rows = registrations.filter(pc.equal(registrations["source_system"], system))
        given = {c: rows[c] for c in rows.column_names} | {c: rows[of] for c, of in renamed.items()}
        schema = table_contract(name).silver_schema()
        columns = [
            given[f.name].cast(f.type) if f.name in given else pa.nulls(rows.num_rows, f.type) for f in schema
        ]
        tables.overwrite(f"silver/{name}", pa.table(columns, schema=schema))
        with ops.engine().begin() as connection:
            ledger.set_visible(connection, f"silver/{name}", tables.version(f"silver/{name}"), None)
    city.write_truth(truth_dir())


def floor() -> Measure:
    """The least that linking could be: a plain self-join of the same records on the id number as given."""
    from lake import duck, tables

    connection = duck.connect()
    with measured() as least:
        connection.execute(
            f"""CREATE TABLE r AS SELECT row_number() OVER () AS n, id_no FROM (
                SELECT id_no FROM {tables.scan_sql("silver/patient")}
                UNION ALL SELECT id_no FROM {tables.scan_sql("silver/ph_archive")})"""
        )
        connection.execute(
            "CREATE TABLE pairs AS SELECT l.n AS l, r.n AS r FROM r l JOIN r r ON l.id_no = r.id_no AND l.n < r.n"
        )
    connection.close()
    return least


def main(residents: int = RESIDENTS, seed: int = SEED) -> dict[str, Any]:
    """Measure; prints one JSON object as its last line."""
    with tempfile.TemporaryDirectory(prefix="medlake-bench-empi-") as folder:
        home = str(Path(folder) / "var")
        say(f"city of {residents:,} residents …")
        maker = multiprocessing.get_context("spawn").Process(target=prepare, args=(home, residents, seed))
        maker.start()
        maker.join()
        if maker.exitcode:
            raise SystemExit(maker.exitcode)
        use_home(home)
        say("link …")
        with measured() as ours:
            import empi

            linked = empi.link(DAY)
        found = empi.evaluate()
        say(json.dumps({k: found[k] for k in ("by_source", "by_age")}, ensure_ascii=False, indent=1))
        kept = (
            "records",
            "persons",
            "precision",
            "recall",
            "f1",
            "exact_clusters",
            "false_pairs",
            "missed_pairs",
        )
        facts = {k: found[k] for k in kept} | {"residents": residents, "pairs": linked["pairs"]}
        return report("empi", ours, floor(), floor_is="self-join on id_no", **facts)


if __name__ == "__main__":
    main(int(os.environ.get("BENCH_RESIDENTS", sys.argv[1] if len(sys.argv) > 1 else RESIDENTS)))
