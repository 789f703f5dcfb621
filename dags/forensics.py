"""Statistical screening of a quarter's follow-ups, when late records of it are in: leads for people, never a penalty."""

from __future__ import annotations

from airflow.sdk import DAG, Param, task
from medlake_assets import DEFAULTS, TAGS

from lake.settings import settings

with DAG(
    dag_id="forensics",
    dag_display_name="季度统计筛查 forensics",
    schedule="23 5 10 1,4,7,10 *" if settings().ingest_cron else None,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=TAGS,
    doc_md=__doc__,
    params={
        "quarter": Param(
            "", type="string", title="季度，如 2026Q3（空为上一季度）/ quarter, the last one if empty"
        )
    },
):

    @task(task_id="forensics")
    def screen_quarter(params: dict | None = None) -> dict[str, object]:  # type: ignore[type-arg]
        from lake.local_time import local_today
        from quality import forensics

        return forensics.build((params or {}).get("quarter") or forensics.quarter_before(local_today()))

    screen_quarter()
