"""``make bench-ingest``: a city day of device readings (NDJSON) and of encounters (CSV), from files to silver.

The files are made in a process of their own, so that memory is that of ingesting. The floor is DuckDB reading
the same files to Parquet, without checks, places, ledger or merge.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from bench.harness import Measure, measured, report, say

READINGS = 2_000_000
ENCOUNTERS = 200_000
DAY = date(2026, 11, 18)
ORGS = [f"C{n}" for n in range(201, 219)]

#: Share of broken lines: they cost more than good ones.
BROKEN_EVERY = 10_000

_READING = """
    SELECT 'D' || (i % 2000) AS device, i AS seq, ['8867-4', '8480-6', '59408-5'][i % 3 + 1] AS metric,
           90 + i % 60 AS "value", '/min' AS unit,
           strftime(TIMESTAMP '2026-11-18' + to_milliseconds(i * {step}), '%Y-%m-%dT%H:%M:%S.%g+08:00') AS ts_device,
           strftime(TIMESTAMP '2026-11-18' + to_milliseconds(i * {step} + 900), '%Y-%m-%dT%H:%M:%S.%g+08:00') AS ts_gateway,
           '0' AS quality, 80 AS battery
    FROM range({rows}) r(i)"""
_ENCOUNTER = """
    SELECT '{org}E' || i AS ENCOUNTER_ID, 'P' || (i % 5000) AS PATIENT_LOCAL_ID, '门诊' AS CLASS_CODE, '0301' AS DEPT_CODE,
           'D' || (i % 40) AS DOCTOR_ID,
           strftime(TIMESTAMP '2026-11-18 08:00:00' + to_seconds(i % 30000), '%Y-%m-%d %H:%M:%S') AS STARTED_AT,
           NULL AS ENDED_AT, '头晕三天' AS CHIEF_COMPLAINT, 110 + i % 50 AS SBP_MMHG, 70 + i % 30 AS DBP_MMHG,
           '离院' AS DISPOSITION_CODE, 86.5 AS TOTAL_FEE, 50.1 AS INSURANCE_PAY, '2026-11-18 18:00:00' AS SOURCE_UPDATED_AT
    FROM range({rows}) r(i)"""


def prepare(root: str, readings: int, encounters: int) -> None:
    """Write the drop of one day: one file of each kind per centre, with a broken line now and then."""
    import duckdb

    con = duckdb.connect()
    each = readings // len(ORGS)
    for org in ORGS:
        iot, his = (Path(root) / DAY.isoformat() / feed / org for feed in ("iot", "his"))
        iot.mkdir(parents=True)
        his.mkdir(parents=True)
        step = max(1, 86_400_000 // max(each, 1))
        good = f"SELECT CAST(to_json(q) AS VARCHAR) AS line, seq FROM ({_READING.format(rows=each, step=step)}) q"
        text = f"CASE WHEN seq % {BROKEN_EVERY} = 7 THEN line[1:40] ELSE line END"
        con.execute(
            f"COPY (SELECT {text} FROM ({good}) ORDER BY seq) TO '{iot / 'telemetry_20261118.ndjson'}'"
            " (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01')"
        )
        rows = _ENCOUNTER.format(org=org, rows=encounters // len(ORGS))
        con.execute(f"COPY ({rows}) TO '{his / 'encounter_20261118.csv'}' (HEADER)")


def floor(root: Path, out: Path) -> Measure:
    """DuckDB reading the same files to Parquet."""
    from lake import duck

    con = duck.connect()
    with measured() as least:
        for feed, scan in (
            ("iot", "read_json('{}', format='newline_delimited', ignore_errors=true)"),
            ("his", "read_csv('{}')"),
        ):
            files = str(root / DAY.isoformat() / feed / "*" / "*")
            con.execute(
                f"COPY (SELECT * FROM {scan.format(files)}) TO '{out / (feed + '.parquet')}' (FORMAT parquet)"
            )
    con.close()
    return least


def main(readings: int = READINGS, encounters: int = ENCOUNTERS) -> dict[str, Any]:
    """Measure; prints one JSON object as its last line."""
    with tempfile.TemporaryDirectory(prefix="medlake-bench-ingest-") as folder:
        home, root = Path(folder) / "var", Path(folder) / "sources"
        say(f"{readings:,} readings and {encounters:,} encounters in files …")
        context = multiprocessing.get_context("spawn")
        maker = context.Process(target=prepare, args=(str(root), readings, encounters))
        maker.start()
        maker.join()
        if maker.exitcode:
            raise SystemExit(maker.exitcode)
        os.environ |= {"MEDLAKE_HOME": str(home), "MEDLAKE_SOURCES": str(root)}
        from lake.settings import settings

        settings.cache_clear()
        size = sum(p.stat().st_size for p in root.rglob("*") if p.is_file())
        home.mkdir()
        least = floor(root, home)
        say("ingest …")
        with measured() as ours:
            import ingestion

            found = [ingestion.ingest_feed(feed, DAY) for feed in ("iot", "his")]
        with measured() as again:
            repeated = [ingestion.ingest_feed(feed, DAY) for feed in ("iot", "his")]
        names = ("received", "loaded", "duplicate", "quarantined")
        total = {n: sum(f[n] for f in found) for n in names}
        if total != {n: sum(f[n] for f in repeated) for n in names}:
            raise SystemExit("a second run changed the ledger")
        seconds = {f["feed"]: f["seconds"] for f in found}
        facts = {
            "rows": total["received"],
            "megabytes": round(size / 2**20, 1),
            "ledger": total,
            "by_feed": seconds,
        }
        facts["rows_per_second"] = round(total["received"] / ours.seconds)
        facts["seconds_again"] = again.seconds
        return report("ingest", ours, least, floor_is="DuckDB, the same files to Parquet", **facts)


if __name__ == "__main__":
    main(int(os.environ.get("BENCH_ROWS", sys.argv[1] if len(sys.argv) > 1 else READINGS)))
