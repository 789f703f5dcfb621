"""Building: silver at the run's versions -> dbt -> catalogue -> a candidate file that publishing takes over.

The work file starts as a copy of the last candidate, so incremental models go on from it, and is renamed over it at
the end: a build that is killed changes nothing. It starts empty instead when going on would be wrong: another date
came later, a table went back to an older version, or the SQL changed.
"""

from __future__ import annotations

import shutil
import time
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock, Timeout

import catalog
from lake import duck, lineage, runs
from lake.errors import MedlakeError
from lake.kill import point
from lake.log import logger
from lake.settings import settings
from products import build_books, dbt_run
from products.paths import candidate_path

_log = logger("products")

#: Seconds to wait for another build of this installation.
_PATIENCE = 600


def _prepare(con: duckdb.DuckDBPyConnection, run: runs.Run) -> None:
    """Views on the pinned versions, empty ones for tables that nobody delivered yet, and the deliveries."""
    for schema in ("silver", "quality", "ops"):
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    duck.create_views(con, run.versions)
    for table in catalog.source_tables().values():
        if table.lake_name not in run.versions:
            columns = ", ".join(f'NULL::{f.type} AS "{f.name}"' for f in table.fields)
            con.execute(f"CREATE OR REPLACE VIEW {table.asset_id} AS SELECT {columns} WHERE false")
    con.register("delivered", build_books.deliveries())
    con.execute("CREATE OR REPLACE TABLE ops.delivery AS SELECT * FROM delivered")
    con.unregister("delivered")


def _work_path() -> Path:
    """An own folder, and the candidate's name (dbt calls the database after it). Always the same path: dbt parses
    everything again when its profile changes."""
    return candidate_path().parent / "work" / candidate_path().name


def _work_file(fresh: bool) -> Path:
    """The file that a build works on, a copy of the candidate or none."""
    work = _work_path()
    shutil.rmtree(work.parent, ignore_errors=True)  # what a killed build left
    work.parent.mkdir(parents=True, mode=0o700)
    if not fresh:
        shutil.copyfile(candidate_path(), work)
    return work


@lineage.stepped("products.build")
def build(data_date: date, *, full_refresh: bool = False) -> dict[str, Any]:
    """Build the candidate file of a date. Running it again gives the same tables; a killed build leaves no trace.

    Args:
        data_date: the day being processed; its run must have been opened and linked.
        full_refresh: start from an empty file whatever the last build left.

    Returns:
        ``data_date, run_id, models, tests, warned, failed`` (models), ``failed_products``, ``fresh`` (why it started
        from an empty file, or empty), ``assets, fields, path, stages`` (name -> seconds), ``seconds``.

    Raises:
        MedlakeError: E106 no run of the date; E501 the run has no silver table; E502 the project does not parse;
            E503 another build is running; E504 dbt ended without results. The last candidate is untouched.
    """
    started = time.monotonic()
    run = runs.get_run(data_date)
    if not any(name.startswith("silver/") for name in run.versions):
        raise MedlakeError("E501", data_date=data_date)
    target = candidate_path()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with FileLock(target.parent / ".build.lock", timeout=_PATIENCE):
            return _build(run, target, full_refresh, started)
    except Timeout:
        raise MedlakeError("E503", path=target.name, place=target.name) from None


def _build(run: runs.Run, target: Path, full_refresh: bool, started: float) -> dict[str, Any]:
    marks = [("start", started)]

    def mark(name: str) -> None:
        marks.append((name, time.monotonic()))

    residents = settings().demo_residents
    models = build_books.digest("models", "macros")
    old = build_books.read_state(target)
    fresh = "asked for" if full_refresh else build_books.fresh_reason(old, run, models, residents)
    state = {
        "data_date": str(run.data_date),
        "run_id": run.run_id,
        "models": models,
        "seeds": build_books.digest("seeds"),
        "residents": residents,
        "versions": run.versions,
    }
    work = _work_file(bool(fresh))
    with duck.connect(work) as con:
        _prepare(con, run)
    mark("prepare")
    point("build.prepared")
    project = dbt_run.Project(work, run.data_date, residents)
    results, manifest = project.build(seeds=bool(fresh) or old["seeds"] != state["seeds"])
    if not results:
        raise MedlakeError("E504", detail="dbt", log=str(dbt_run.log_dir() / "dbt.log"), place="dbt")
    mark("dbt")
    point("build.modelled")
    failed = sorted({r.model for r in results if not r.is_good})
    if any(not r.is_good and r.kind == "seed" for r in results):
        state["seeds"] = ""  # load them again next time
    with duck.connect(work) as con:
        counts = catalog.build(con, run, manifest)
        build_books.note(con, run, results, state)
        con.execute("CHECKPOINT")
    mark("catalogue")
    point("build.catalogued")
    work.replace(target)
    mark("rename")
    lineage.writes({f"gold/{r.model}": None for r in results if r.kind == "model" and r.is_good})
    report = {
        "data_date": str(run.data_date),
        "run_id": run.run_id,
        "models": sum(r.kind == "model" for r in results),
        "tests": sum(r.kind == "test" for r in results),
        "warned": sorted({r.node for r in results if r.status == "warn"}),
        "failed": failed,
        "failed_products": sorted({r.product for r in results if not r.is_good and r.product}),
        "fresh": fresh,
        **counts,
        "path": str(target),
        "stages": {name: round(at - marks[i][1], 2) for i, (name, at) in enumerate(marks[1:])},
        "seconds": round(time.monotonic() - started, 2),
    }
    _log.info(
        "built",
        data_date=run.data_date,
        run_id=run.run_id,
        models=report["models"],
        seconds=report["seconds"],
    )
    if failed:
        _log.error(
            "models_failed", data_date=run.data_date, models=failed, products=report["failed_products"]
        )
    return report


def parse() -> bool:
    """Whether the dbt project parses (``make check``)."""
    try:
        return bool(dbt_run.Project(_work_path()).invoke(["parse"]).success)
    except MedlakeError as error:
        _log.error("dbt_parse_failed", codes=error.code)
        return False


def docs() -> Path:
    """``dbt docs generate`` over the last candidate; returns the folder with ``index.html`` and ``catalog.json``.

    Raises:
        MedlakeError: E505 nothing was built yet; E502 dbt stopped.
    """
    state = build_books.read_state(candidate_path())
    if not state:
        raise MedlakeError("E505", place=candidate_path().name)
    with FileLock(candidate_path().parent / ".build.lock", timeout=_PATIENCE):
        work = _work_file(fresh=False)
        project = dbt_run.Project(work, date.fromisoformat(state["data_date"]), state["residents"])
        project.invoke(["docs", "generate"])
        shutil.rmtree(work.parent, ignore_errors=True)
    return dbt_run.target_dir()
