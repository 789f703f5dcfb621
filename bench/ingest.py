"""``make bench-ingest``: a tender day (:mod:`bench.tender_day`) from raw files to silver, in two worker processes.

The floor (:mod:`bench.tender_floor`) works on the same bytes with the same number of processes. With
``BENCH_DAYS=3`` three days follow one another, which shows whether the cost of a day grows. ``BENCH_SHARE=0.1`` makes
a tenth of a day.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from bench import tender_floor
from bench.harness import Measure, measured, report, say
from bench.tender_day import DAY, PARTS, write

PROCESSES = 2
_COUNTS = ("received", "loaded", "duplicate", "quarantined")

#: Longest first, so that the two workers end together.
_ORDER = ("pacs", "iot", "lis", "public_health", "his", "emr")


def _take(feed: str, day: date) -> dict[str, Any]:
    import ingestion

    return ingestion.ingest_feed(feed, day)


def _day(day: date) -> tuple[Measure, dict[str, dict[str, Any]]]:
    """Ingest one day's feeds in worker processes, as Airflow's tasks would; returns the time and what each told."""
    with (
        measured() as spent,
        ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        waiting = {feed: pool.submit(_take, feed, day) for feed in _ORDER}
        found = {feed: task.result() for feed, task in waiting.items()}
    return spent, found


def _prepared(root: Path, share: float, days: list[date]) -> None:
    context = multiprocessing.get_context("spawn")
    for day in days:
        maker = context.Process(target=write, args=(str(root), share, day))
        maker.start()
        maker.join()
        if maker.exitcode:
            raise SystemExit(maker.exitcode)


def main(share: float = 1.0, count: int = 1) -> dict[str, Any]:
    """Measure; prints one JSON object as its last line."""
    assert set(_ORDER) == set(PARTS)
    days = [DAY + timedelta(days=n) for n in range(count)]
    with tempfile.TemporaryDirectory(prefix="medlake-bench-ingest-") as folder:
        home, root = Path(folder) / "var", Path(folder) / "sources"
        say(f"writing {count} tender day(s), share {share:g} …")
        _prepared(root, share, days)
        size = sum(p.stat().st_size for p in root.rglob("*") if p.is_file())
        os.environ |= {"MEDLAKE_HOME": str(home), "MEDLAKE_SOURCES": str(root)}
        from lake.settings import settings

        settings.cache_clear()
        say("floor …")
        with measured() as least:
            tender_floor.run(root / days[0].isoformat(), Path(folder) / "floor", PROCESSES)
        spent: list[Measure] = []
        found: dict[str, dict[str, Any]] = {}
        for day in days:
            say(f"ingest {day} …")
            took, found = _day(day)
            spent.append(took)
            say(f"  {took.seconds} s, {took.peak_rss_mb:,.0f} MB")
        total = {n: sum(f[n] for f in found.values()) for n in _COUNTS}
        if total["received"] != total["loaded"] + total["duplicate"] + total["quarantined"]:
            raise SystemExit("the ledger does not balance")
        _, again = _day(days[-1])
        if total != {n: sum(f[n] for f in again.values()) for n in _COUNTS}:
            raise SystemExit("a second run changed the ledger")
        facts: dict[str, Any] = {
            "rows": total["received"],
            "megabytes": round(size / 2**20 / count, 1),
            "ledger": total,
            "by_feed": {feed: {n: f[n] for n in _COUNTS} for feed, f in found.items()},
            "seconds_by_feed": {feed: f["seconds"] for feed, f in found.items()},
            "rows_per_second": round(total["received"] / spent[0].seconds),
            "processes": PROCESSES,
        }
        if count > 1:
            facts["seconds_by_day"] = [m.seconds for m in spent]
            facts["all_days_to_first"] = round(sum(m.seconds for m in spent) / spent[0].seconds, 2)
        spent[0].peak_rss_mb = max(m.peak_rss_mb for m in spent)
        told = "split HL7, pydicom, DuckDB, calamine: the same bytes to Parquet in as many processes"
        return report("ingest", spent[0], least, floor_is=told, **facts)


if __name__ == "__main__":
    main(float(os.environ.get("BENCH_SHARE", "1")), int(os.environ.get("BENCH_DAYS", "1")))
