"""dbt builds the candidate file and the catalogue of data assets."""

from __future__ import annotations

from airflow.sdk import DAG, PartitionedAssetTimetable, task
from medlake_assets import CANDIDATE, DEFAULTS, QUALITY, TAGS, data_date

with DAG(
    dag_id="build",
    dag_display_name="建模 build",
    schedule=PartitionedAssetTimetable(assets=QUALITY),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=TAGS,
    doc_md=__doc__,
):

    @task(task_id="build", outlets=[CANDIDATE])
    def build_candidate(partition_key: str | None = None) -> dict[str, object]:
        from products import build

        return build(data_date(partition_key))

    build_candidate()
