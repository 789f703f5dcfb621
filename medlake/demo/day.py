"""A city day in Airflow: trigger it, follow it step by step, tell when the swap happened."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any

import httpx

from lake.errors import MedlakeError
from lake.settings import settings
from medlake.demo import airflow
from medlake.demo.progress import Progress
from simulator.clinical.window import Window

_ENDED = {"success", "failed"}


def days() -> list[date]:
    """The daily deliveries of the demo, first to last."""
    s = settings()
    return [s.demo_end_date - timedelta(days=n) for n in reversed(range(s.demo_days))]


def early_dates() -> list[date]:
    """Deliveries of the weeks before the history: one institution's, for rules that look at weeks."""
    s = settings()
    return Window.of(s.demo_end_date, s.demo_days, s.demo_history_years).early_dates


def history_date() -> date:
    """The delivery date of the history: the day before the first daily delivery."""
    return days()[0] - timedelta(days=1)


def _at(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def _seconds(run: dict[str, Any]) -> float:
    began, ended = _at(run.get("start_date")), _at(run.get("end_date"))
    return (ended - began).total_seconds() if began and ended else 0.0


def _trouble(client: airflow.Client, dag: str, run: dict[str, Any]) -> MedlakeError:
    failed = [t["task_id"] for t in client.tasks(dag, run["dag_run_id"]) if t["state"] == "failed"]
    url = f"{airflow.base_url()}/dags/{dag}/runs/{run['dag_run_id']}"
    return MedlakeError("E704", step=f"{dag}: {', '.join(failed)}", url=url)


def _busy(client: airflow.Client, dag: str, run: dict[str, Any]) -> str:
    running = [t for t in client.tasks(dag, run["dag_run_id"]) if t["state"] == "running"]
    return ", ".join(t.get("rendered_map_index") or t["task_id"] for t in running)


def backfill(client: airflow.Client, dates: Iterable[date], progress: Progress) -> None:
    """Have past deliveries ingested, unless that was done before.

    Raises:
        MedlakeError: E704, a feed failed.
    """
    past = sorted(dates)
    wanted = {"start": str(past[0]), "end": str(past[-1]), "preview": False}
    before = [r for r in client.runs("backfill") if wanted.items() <= (r.get("conf") or {}).items()]
    if before and before[0]["state"] == "success":
        progress.reuse("backfill")
        return
    progress.begin("backfill", f"{past[0]} … {past[-1]}")
    if before and before[0]["state"] == "failed":
        run_id = before[0]["dag_run_id"]
        client.clear("backfill", run_id)
    else:
        run_id = before[0]["dag_run_id"] if before else client.trigger("backfill", conf=wanted)
    while True:
        run = next(r for r in client.runs("backfill") if r["dag_run_id"] == run_id)
        if run["state"] == "success":
            progress.end("backfill", seconds=_seconds(run))
            return
        if run["state"] == "failed":
            progress.fail("backfill")
            raise _trouble(client, "backfill", run)
        progress.steps["backfill"].note = _busy(client, "backfill", run)
        time.sleep(0.5)


def chain(client: airflow.Client, day: date, progress: Progress) -> None:
    """Bring one date through ingest, link, check, build and publish, following each step.

    A publish whose swap happened counts as done even where the gate is closed: then its DAG is red on purpose.

    Raises:
        MedlakeError: E704, a step failed.
    """
    key = str(day)
    triggered = _bring_in(client, key, progress)
    for dag in airflow.CHAIN:
        _follow(client, dag, key, progress, triggered)


def _bring_in(client: airflow.Client, key: str, progress: Progress) -> bool:
    """Have every connected feed take a date in; returns whether anything had to be triggered."""
    latest = {dag: client.runs(dag, key) for dag in airflow.ingest_dags()}
    new = [dag for dag, runs in latest.items() if not runs]
    for dag in new:
        client.trigger(dag, partition_key=key)
    failed = [dag for dag, runs in latest.items() if runs and runs[0]["state"] == "failed"]
    for dag in failed:
        client.clear(dag, latest[dag][0]["dag_run_id"])
    if not new and all(runs[0]["state"] == "success" for runs in latest.values()):
        progress.reuse("ingest")
        return False
    progress.begin("ingest")
    seconds: dict[str, float] = {}
    began = time.monotonic()
    while waiting := [dag for dag in latest if dag not in seconds]:
        try:
            for dag in waiting:
                runs = client.runs(dag, key)
                if runs and runs[0]["state"] == "success":
                    seconds[dag] = _seconds(runs[0])
                elif runs and runs[0]["state"] == "failed":
                    progress.fail("ingest")
                    raise _trouble(client, dag, runs[0])
        except httpx.TransportError:
            pass  # the API server is busy; the next look will tell
        progress.steps["ingest"].note = ", ".join(d.removeprefix("ingest_") for d in waiting)
        time.sleep(0.4)
    progress.end("ingest", note="", seconds=time.monotonic() - began)
    return bool(new)


def _follow(client: airflow.Client, dag: str, key: str, progress: Progress, triggered: bool) -> None:
    cleared = False
    seen_running = False
    while True:
        try:
            runs = client.runs(dag, key)
            run = runs[0] if runs else None
            if run and run["state"] in _ENDED:
                published = dag == "publish" and _published(client, run)
                if run["state"] == "success" or published:
                    note = "" if run["state"] == "success" else "质控门关闭 gate closed"
                    if seen_running or cleared or triggered:
                        progress.end(dag, note=note, seconds=_seconds(run))
                    else:
                        progress.reuse(dag, note=note)
                    return
                if seen_running or cleared:
                    progress.fail(dag)
                    raise _trouble(client, dag, run)
                client.clear(dag, run["dag_run_id"])  # left over from an earlier, failed demo
                cleared = True
            elif run:
                seen_running = True
                progress.begin(dag)
                progress.steps[dag].note = _busy(client, dag, run)
        except httpx.TransportError:
            pass  # the API server is busy; the next look will tell
        time.sleep(0.4)


def _published(client: airflow.Client, run: dict[str, Any]) -> bool:
    return any(
        t["task_id"] == "publish" and t["state"] == "success"
        for t in client.tasks("publish", run["dag_run_id"])
    )


def pipeline_seconds(client: airflow.Client, day: date) -> float:
    """From the first trigger to the swap, by Airflow's clock: the backfill counts for the day that it precedes."""
    before = client.runs("backfill") if day == days()[-1] else []
    first = [
        at
        for run in [*before, *(r for dag in airflow.ingest_dags() for r in client.runs(dag, str(day)))]
        if (at := _at(run.get("queued_at") or run.get("start_date")))
    ]
    publish = client.runs("publish", str(day))
    ended = [
        at
        for run in publish
        for t in client.tasks("publish", run["dag_run_id"])
        if t["task_id"] == "publish" and (at := _at(t.get("end_date")))
    ]
    return (max(ended) - min(first)).total_seconds() if first and ended else 0.0
