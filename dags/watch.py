"""Late and silent feeds become items for people: a look at the ledger every hour, never a sensor that waits."""

from __future__ import annotations

from airflow.sdk import DAG, Param, task
from medlake_assets import DEFAULTS, TAGS

from lake.settings import settings

with DAG(
    dag_id="watch",
    dag_display_name="断供监测 watch",
    schedule="7 * * * *" if settings().ingest_cron else None,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=TAGS,
    doc_md=__doc__,
    params={"as_of": Param("", type="string", title="截至日期（空为今天）/ as of, today if empty")},
):

    @task(task_id="watch")
    def watch_feeds(params: dict | None = None) -> dict[str, object]:  # type: ignore[type-arg]
        from datetime import date

        import ingestion
        from lake.local_time import local_today

        given = (params or {}).get("as_of")
        return ingestion.watch(date.fromisoformat(given) if given else local_today())

    watch_feeds()
