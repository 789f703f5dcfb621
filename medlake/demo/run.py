"""``make demo``: simulate, start the servers beside it, run the days, open the wall, measure, say where to look."""

from __future__ import annotations

import json
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from lake import ledger
from lake.errors import MedlakeError
from lake.settings import settings
from medlake.demo import airflow, day, processes, servers
from medlake.demo.progress import Progress


def _report_path() -> Path:
    return settings().home / "demo.json"


def _medlake(*words: str) -> list[str]:
    return [str(Path(sys.executable).parent / "medlake"), *words]


def _simulate(progress: Progress) -> Any:
    s = settings()
    wanted = {
        "residents": s.demo_residents,
        "days": s.demo_days,
        "end_date": str(s.demo_end_date),
        "history_years": s.demo_history_years,
        "seed": s.demo_seed,
    }
    marker = s.home / "demo-city.json"
    known = json.loads(marker.read_text()) if marker.exists() else None
    if known == wanted:
        progress.reuse("simulate")
        return None
    if known is not None:  # its rows are in the lake: two cities must not be mixed
        differing = [k for k in wanted if known.get(k) != wanted[k]]
        told = {name: ", ".join(f"{k} {city.get(k)}" for k in differing) for name, city in
                (("known", known), ("wanted", wanted))}  # fmt: skip
        raise MedlakeError("E706", place=str(s.home), **told)
    progress.begin("simulate", f"{s.demo_residents:,} 居民 residents")
    step = processes.run_step("simulate", _medlake("simulate", "--json"), {"MEDLAKE_HOME": str(s.home)})
    return step, marker, wanted


def _claim_ports() -> None:
    s = settings()
    alive = processes.running()
    for name, port, label in (
        ("airflow-api", s.airflow_port, "Airflow"),
        ("superset", s.superset_port, "Superset"),
        ("portal", s.portal_port, "Portal"),
    ):
        if name not in alive:
            processes.claim_port(port, label, f"MEDLAKE_{name.split('-')[0].upper()}_PORT")


def _start_airflow(progress: Progress) -> Any:
    if processes.is_running("airflow-api") and airflow.answers():
        progress.reuse("airflow")
        return None
    progress.begin("airflow")
    return airflow.migrate()


def run() -> dict[str, Any]:
    """The whole demo; returns the report that is also written to ``var/demo.json``.

    Raises:
        MedlakeError: E702 a port is taken, E703 a server does not answer, E704 a step of the pipeline failed.
    """
    began = time.monotonic()
    settings().folder()
    _claim_ports()
    with processes.Sampler() as sampler, Progress() as progress:
        simulation = _simulate(progress)
        migration = _start_airflow(progress)
        dashboards = servers.set_up_dashboards(progress)
        if migration is not None:
            processes.finish(migration, "airflow-migrate")
            airflow.start()
        if simulation is not None:
            step, marker, wanted = simulation
            processes.finish(step, "simulate")
            marker.write_text(json.dumps(wanted))
            progress.end("simulate")
        if migration is not None:
            processes.wait_for(airflow.answers, "airflow-api")
        client = _client()
        if migration is not None:
            progress.end("airflow")
        past = [*day.early_dates(), day.history_date(), *day.days()[:-1]]
        servers.start_portal()
        day.backfill(client, past, progress)
        day.chain(client, day.days()[-1], progress)
        return _finish(progress, sampler, client, dashboards, day.days()[-1], began)


def run_bad_day() -> dict[str, Any]:
    """One more delivery whose faults close the gate; the wall keeps the blocked products' last good version.

    Raises:
        MedlakeError: E705, there is no demo to put it on; else as :func:`run`.
    """
    began = time.monotonic()
    if not _report_path().exists():
        raise MedlakeError("E705", detail="var/demo.json")
    if not (processes.is_running("airflow-api") and airflow.answers()):
        run()
    bad = settings().demo_end_date + timedelta(days=1)
    with processes.Sampler() as sampler, Progress() as progress:
        for name in ("airflow", "backfill"):
            progress.reuse(name)
        if (settings().sources_dir / str(bad)).exists():
            progress.reuse("simulate")
        else:
            progress.begin("simulate", f"{bad} 坏数据日 a bad day")
            step = processes.run_step(
                "simulate",
                _medlake("simulate", "--bad-day", str(bad), "--json"),
                {"MEDLAKE_HOME": str(settings().home)},
            )
            processes.finish(step, "simulate")
            progress.end("simulate")
        dashboards = servers.set_up_dashboards(progress)
        servers.start_portal()
        client = _client()
        day.chain(client, bad, progress)
        return _finish(progress, sampler, client, dashboards, bad, began)


def _client() -> airflow.Client:
    client = airflow.Client()
    deadline = time.monotonic() + 120
    client.make_pools()
    while missing := set(airflow.dags()) - client.dags():
        if time.monotonic() > deadline:
            detail = ", ".join(client.import_errors() or sorted(missing))
            raise MedlakeError("E703", name=f"DAG {detail}", log=processes.log_path("airflow-dag-processor"))
        time.sleep(0.5)
    return client


def _finish(
    progress: Progress,
    sampler: processes.Sampler,
    client: airflow.Client,
    dashboards: Any,
    last: date,
    began: float,
) -> dict[str, Any]:
    servers.start_wall(progress, dashboards)
    servers.await_portal(progress)
    servers.start_worklist()
    progress.begin("evaluate")
    import empi

    empi_report = empi.evaluate()
    progress.end("evaluate")
    publication = servers.publication()
    report = {
        "seconds_total": round(time.monotonic() - began, 1),
        "seconds_pipeline": round(day.pipeline_seconds(client, last), 1),
        "stages": progress.timings(),
        "peak_rss_mb": round(sampler.peaks.process_mb, 1),
        "peak_process": sampler.peaks.process_name,
        "peak_tree_mb": round(sampler.peaks.tree_mb, 1),
        "urls": servers.urls(),
        "ledger": ledger.totals(),
        "empi": {k: empi_report[k] for k in ("precision", "recall", "f1", "exact_clusters")},
        "gate": "closed" if any(p["gate"] == "closed" for p in publication) else "open",
        "blocked": [p["product"] for p in publication if p["gate"] == "closed"],
        "published_at": max((str(p["published_at"]) for p in publication), default=""),
        "data_date": str(last),
        "residents": settings().demo_residents,
    }
    draft = _report_path().with_suffix(".tmp")
    draft.write_text(json.dumps(report, ensure_ascii=False, indent=2))
    draft.replace(_report_path())
    return report
