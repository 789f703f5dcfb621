"""Deliveries of the past, as an explicit, resumable request: every feed takes its dates in order, one task a feed.

It emits no events: the day that follows links, checks, builds and publishes over all of it.
Trigger it with ``{"dates": ["2026-11-17", "2026-11-18"]}``.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, task
from medlake_assets import CITY_FEEDS, DEFAULTS, TAGS, data_date

with DAG(
    dag_id="backfill",
    dag_display_name="补数 backfill",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=TAGS,
    doc_md=__doc__,
    params={"dates": Param([], type="array", items={"type": "string"}, title="交付日期 / delivery dates")},
):
    for feed in CITY_FEEDS:

        @task(task_id=feed)
        def backfill(feed: str, params: dict[str, list[str]] | None = None) -> list[dict[str, object]]:
            from ingestion import ingest_feed

            return [ingest_feed(feed, data_date(day)) for day in sorted((params or {}).get("dates", []))]

        backfill(feed)
