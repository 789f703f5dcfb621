"""Deliveries of the past, as an explicit, resumable request: feeds, institutions, period, from a form.

With ``preview`` the run only tells what it would do: partitions, files, bytes, what is in already. Without, every
partition (feed, date) has a line in the operational database; a run that was stopped goes on where it was, and a
partition that failed is tried again at most ``attempts`` times. It emits no events: the day that follows links,
checks, builds and publishes over all of it.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, task
from medlake_assets import DEFAULTS, FEEDS, TAGS

with DAG(
    dag_id="backfill",
    dag_display_name="补数 backfill",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    max_active_tasks=2,
    default_args=DEFAULTS,
    tags=TAGS,
    doc_md=__doc__,
    params={
        "start": Param(type="string", format="date", title="起 / first delivery date"),
        "end": Param(type="string", format="date", title="止 / last delivery date"),
        "feeds": Param(
            sorted(FEEDS),
            type="array",
            examples=sorted(FEEDS),
            title="数据源 / feeds",
        ),
        "orgs": Param(
            [], type="array", items={"type": "string"}, title="机构（空为全部）/ institutions, all if none"
        ),
        "preview": Param(True, type="boolean", title="只预览 / only tell what would be done"),
        "attempts": Param(
            3, type="integer", minimum=1, maximum=10, title="每分区最多次数 / attempts a partition"
        ),
    },
):

    @task
    def plan(params: dict | None = None, run_id: str | None = None) -> list[str]:  # type: ignore[type-arg]
        """Write the request down and show it; returns the feeds that have something to do (none for a preview)."""
        from datetime import date

        from ingestion import backfill

        p = params or {}
        period = date.fromisoformat(p["start"]), date.fromisoformat(p["end"])
        rows = backfill.preview(p["feeds"], *period, org_codes=p["orgs"])
        for line in backfill.as_lines(rows):
            print(line)
        if p["preview"]:
            return []
        return backfill.request(str(run_id), p["feeds"], *period, org_codes=p["orgs"])

    @task(map_index_template="{{ task.op_kwargs['feed'] }}", retries=1)
    def fill(feed: str, params: dict | None = None, run_id: str | None = None) -> dict[str, object]:  # type: ignore[type-arg]
        """Take the partitions of one feed that are not done, in order of their dates."""
        from ingestion import backfill

        return backfill.run(str(run_id), feed, attempts=int((params or {})["attempts"]))

    fill.expand(feed=plan())
