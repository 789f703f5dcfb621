"""The swap: passed products from this run, blocked ones at their last good version. Red when one is blocked.

Then exports that repeat each month go to their drop folders, when their day has come.
"""

from __future__ import annotations

from airflow.sdk import DAG, PartitionedAssetTimetable, task
from medlake_assets import CANDIDATE, DEFAULTS, SERVING, TAGS, data_date

with DAG(
    dag_id="publish",
    dag_display_name="发布 publish",
    schedule=PartitionedAssetTimetable(assets=CANDIDATE),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=TAGS,
    doc_md=__doc__,
):

    @task(task_id="publish", outlets=[SERVING])
    def publish_serving(partition_key: str | None = None) -> dict[str, object]:
        from products import publish

        return publish(data_date(partition_key))

    @task(task_id="gate", retries=0)
    def gate_open(partition_key: str | None = None) -> None:
        from products import assert_open

        assert_open(data_date(partition_key))

    @task(task_id="deliver")
    def deliver_exports(partition_key: str | None = None) -> list[dict[str, object]]:
        from products.exports import schedules

        return schedules.run_due(data_date(partition_key))

    publish_serving() >> [gate_open(), deliver_exports()]
