"""``make bench-quality``: two hundred rules over a million visits, every violation told, merged into Delta with its state.

Acts, each in a process of its own: the engine alone on a day whose day before was checked too (1.3 million findings have a
history); the same with Great Expectations judging; the day after, of whose visits one in a hundred at random was delivered
anew, by changes and in full; Great Expectations alone on the same rules as queries. The floor is DuckDB reading the visits
and writing one flag a rule, without keys, texts, states or files.

``seconds`` and ``seconds_incremental`` are of whole processes, imports and pages included; ``seconds_check`` and
``seconds_check_incremental`` are of the check alone, as the day's chain calls it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

from bench import empi_city, quality_lake
from bench.harness import Measure, measured, report, say

ROWS = 1_000_000
RULES = 200
#: Memory of DuckDB here; a process has more of its own, and must stay below 2 GB.
DUCKDB_MEMORY = "1500MB"


def _check(
    home: str, rules: int, number: int, is_judged: bool, mode: Literal["full", "incremental"] = "full"
) -> dict[str, Any]:
    """One day's check as the DAG's step runs it, imports included."""
    with measured() as ours:
        empi_city.use_home(home)
        from lake import runs
        from quality import daily

        runs.open_run(quality_lake.day(number))
        found = daily.check(
            quality_lake.day(number), quality_lake.book(rules), is_judged=is_judged, mode=mode
        )
    return {
        **found,
        "seconds_check": found["seconds"],
        "seconds": ours.seconds,
        "peak_rss_mb": ours.peak_rss_mb,
    }


def _change(home: str, rows: int) -> int:
    empi_city.use_home(home)
    return quality_lake.change(rows, 100)


def _floor(home: str, rules: int) -> dict[str, Any]:
    empi_city.use_home(home)
    from lake import duck, ledger, tables

    name = f"silver/{quality_lake.TABLE}"
    targets = [r.targets[0] for r in quality_lake.book(rules).rules]
    flags = ", ".join(
        f"CASE WHEN {t.eligibility} THEN ({t.condition})::TINYINT END AS f{n}" for n, t in enumerate(targets)
    )
    with measured() as least:
        connection = duck.connect()
        connection.execute(
            f"CREATE TABLE f AS SELECT {flags} FROM {tables.scan_sql(name, ledger.visible('silver/')[name])}"
        )
    return {"seconds": least.seconds}


def _great_expectations(home: str, rules: int) -> dict[str, Any]:
    """GX alone: each rule as a query for unexpected rows, which it answers with a count and at most 200 rows."""
    with measured() as theirs:
        empi_city.use_home(home)
        from lake import duck, ledger, tables
        from quality.judge import load_great_expectations

        gx = load_great_expectations()
        from duckdb_engine import ConnectionWrapper

        connection = duck.connect()
        name = f"silver/{quality_lake.TABLE}"
        connection.execute(
            f"CREATE VIEW visits AS SELECT * FROM {tables.scan_sql(name, ledger.visible('silver/')[name])}"
        )
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        source = context.data_sources.add_sql(
            "lake",
            connection_string="duckdb:///:memory:",
            create_temp_table=False,
            kwargs={"creator": lambda: ConnectionWrapper(connection.cursor())},
        )
        asset = source.add_table_asset("visits", table_name="visits")
        batch = asset.add_batch_definition_whole_table("all").get_batch()
        targets = [r.targets[0] for r in quality_lake.book(rules).rules]
        suite = gx.ExpectationSuite(
            name="visits",
            expectations=[
                gx.expectations.UnexpectedRowsExpectation(
                    unexpected_rows_query=f"SELECT * FROM {{batch}} WHERE ({t.eligibility}) AND ({t.condition})"
                )
                for t in targets
            ],
        )
        results = batch.validate(suite, result_format="COMPLETE").results
        counts = [int(r.result["observed_value"]) for r in results]
        returned = [len((r.result.get("details") or {}).get("unexpected_rows") or []) for r in results]
    return {
        "seconds": theirs.seconds,
        "peak_rss_mb": theirs.peak_rss_mb,
        "counted": sum(counts),
        "returned": sum(returned),
    }


def _run(step: Any, *arguments: Any) -> Any:
    """Run a step in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(step, arguments)


def main(rows: int = ROWS, rules: int = RULES) -> dict[str, Any]:
    """Measure; prints one JSON object as its last line."""
    os.environ.setdefault("MEDLAKE_DUCKDB_MEMORY", DUCKDB_MEMORY)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="medlake-bench-quality-") as folder:
        home = str(Path(folder) / "var")
        say(f"{rows:,} visits …")
        quality_lake.make(home, rows)
        say("1 the day before …")
        _run(_check, home, rules, 0, False)
        say("2 the engine …")
        ours = _run(_check, home, rules, 1, False)
        say("3 with Great Expectations judging …")
        judged = _run(_check, home, rules, 1, True)
        say("4 Great Expectations alone …")
        theirs = _run(_great_expectations, home, rules)
        least = _run(_floor, home, rules)
        changed = _run(_change, home, rows)
        say(f"5 {changed:,} visits changed: by changes …")
        near = _run(_check, home, rules, 2, False, "incremental")
        say("6 the same in full …")
        whole = _run(_check, home, rules, 2, False)
    say(f"{time.monotonic() - began:.0f} s in all")
    if theirs["counted"] != ours["failed"]:
        raise SystemExit(f"GX counts {theirs['counted']}, the engine {ours['failed']}")
    if any(near[n] != whole[n] for n in ("evaluated", "failed", "findings", "new", "closed")):
        raise SystemExit("what changed, judged again, and everything judged again differ")
    return report(
        "quality",
        Measure(ours["seconds"], ours["peak_rss_mb"]),
        Measure(least["seconds"]),
        floor_is="one scan that writes the flags",
        rules=rules,
        rows=rows,
        findings=ours["findings"],
        evaluated=ours["evaluated"],
        seconds_judged=judged["seconds"],
        peak_rss_mb_judged=judged["peak_rss_mb"],
        seconds_great_expectations=theirs["seconds"],
        ratio=round(theirs["seconds"] / ours["seconds"], 2),
        rows_great_expectations_returned=theirs["returned"],
        rows_great_expectations_left_out=theirs["counted"] - theirs["returned"],
        seconds_incremental=near["seconds"],
        incremental_pct=round(100 * near["seconds"] / whole["seconds"], 1),
        seconds_check=whole["seconds_check"],
        seconds_check_incremental=near["seconds_check"],
        check_incremental_pct=round(100 * near["seconds_check"] / whole["seconds_check"], 1),
        rows_changed=changed,
        peak_rss_mb_incremental=near["peak_rss_mb"],
        stages=ours["stages"],
        stages_incremental=near["stages"],
    )


if __name__ == "__main__":
    main(int(os.environ.get("BENCH_ROWS", sys.argv[1] if len(sys.argv) > 1 else ROWS)))
