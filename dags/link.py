"""One identity per resident, once every silver table of a date is in."""

from __future__ import annotations

from airflow.sdk import DAG, AssetAll, PartitionedAssetTimetable, task
from medlake_assets import DEFAULTS, PERSON, SILVER, TAGS, data_date

with DAG(
    dag_id="link",
    dag_display_name="主索引 link",
    schedule=PartitionedAssetTimetable(assets=AssetAll(*SILVER.values())),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=TAGS,
    doc_md=__doc__,
):

    @task(task_id="link", outlets=[PERSON])
    def link_persons(partition_key: str | None = None) -> dict[str, object]:
        from empi import link

        return link(data_date(partition_key))

    link_persons()
