"""``make bench-empi``: link the registrations of a simulated city and measure how right and how fast.

Four acts on one city: all records linked at once; a day's new registrations against the full index; the rest of
the held-back records and a full run again (do ids stay?); the online service asked by four clients. Reading the
registers from Delta and writing persons, crosswalk and events is part of the times, and so are the imports.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench import empi_city
from bench.harness import Measure, measured, report, say

RESIDENTS = 6_000_000
SEED = 20261122
#: A day's new registrations.
NEW_RECORDS = 10_000
#: Memory of one DuckDB connection here; the process has more of its own, and must stay below 10 GB.
DUCKDB_MEMORY = "6500MB"


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


def _scan(name: str) -> str:
    from lake import ledger, tables

    return tables.scan_sql(name, ledger.visible("silver/")[name])


def _ids_unchanged(before: str) -> float:
    from empi import registry
    from lake import duck

    connection = duck.connect()
    try:
        return round(registry.ids_unchanged(connection, before, _scan("silver/person_identifier")), 6)
    finally:
        connection.close()


def main(residents: int = RESIDENTS, seed: int = SEED) -> dict[str, Any]:
    """Measure; prints one JSON object as its last line."""
    os.environ.setdefault("MEDLAKE_DUCKDB_MEMORY", DUCKDB_MEMORY)
    with tempfile.TemporaryDirectory(prefix="medlake-bench-empi-") as folder:
        home = str(Path(folder) / "var")
        say(f"city of {residents:,} residents …")
        empi_city.prepare(home, residents, seed, empi_city.HELD_SHARE)
        empi_city.use_home(home)
        return measure(home, residents, seed)


def measure(home: str, residents: int, seed: int) -> dict[str, Any]:
    """The acts, in a scratch lake that holds the city's registrations."""
    say("1 link everybody …")
    with measured() as ours:
        import empi

        linked = empi.link(empi_city.DAY, mode="full")
    stages = linked["stages"]
    standardised = round(stages["collect"] + stages["standardise"], 2)
    say(json.dumps(stages))
    say("2 against the truth …")
    found = empi.evaluate()
    say(json.dumps({k: found[k] for k in ("by_source", "by_age")}, ensure_ascii=False, indent=1))
    least = floor()

    held = empi_city.held_back(home)
    share = min(NEW_RECORDS / held, 1.0)
    say(f"3 {NEW_RECORDS:,} new registrations …")
    arrived = empi_city.deliver(home, 0, share)
    with measured() as day:
        added = empi.link(empi_city.DAY + timedelta(days=1), mode="incremental")
    say(json.dumps(added["stages"]))
    before = _scan("silver/person_identifier")
    say("4 the rest of one percent, and everybody again …")
    empi_city.deliver(home, share, 1)
    with measured() as again:
        empi.link(empi_city.DAY + timedelta(days=2), mode="full")
    unchanged = _ids_unchanged(before)
    say("5 four clients ask …")
    from bench import match

    asked = match.measure(home, residents, seed)
    kept = (
        "records",
        "persons",
        "precision",
        "precision_interval",
        "recall",
        "recall_interval",
        "f1",
        "exact_clusters",
    )
    more = ("right_person", "false_pairs", "missed_pairs", "trusted_id_conflicts", "review_pairs")
    facts = {k: found[k] for k in (*kept, *more)}
    facts |= {k: found[k] for k in ("precision_after_review", "recall_after_review")}
    facts |= {
        "residents": residents,
        "pairs": linked["pairs"],
        "seconds_standardise": standardised,
        # until persons, crosswalk and events are written; what only tomorrow's incremental run needs comes after that
        "seconds_to_persons": round(ours.seconds - standardised - stages["keep"], 2),
        "seconds_keep": stages["keep"],
        "stages": stages,
        "new_records": arrived,
        "incremental_seconds": day.seconds,
        "incremental_peak_rss_mb": day.peak_rss_mb,
        "incremental_stages": added["stages"],
        "rerun_seconds": again.seconds,
        "ids_unchanged": unchanged,
        **asked,
        "by_source": found["by_source"],
        "by_age": found["by_age"],
        "review_bands": found["review_bands"],
    }
    return report("empi", ours, least, floor_is="self-join on id_no", **facts)


if __name__ == "__main__":
    main(int(os.environ.get("BENCH_RESIDENTS", sys.argv[1] if len(sys.argv) > 1 else RESIDENTS)))
