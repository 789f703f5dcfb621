"""One identity per resident, once every silver table of a date is in; then the online registry follows."""

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
        from empi import archives, link
        from empi.review import ask_after_link

        day = data_date(partition_key)
        done = link(day) | {"reviews": ask_after_link(day)}
        archives.propose(day)
        return done | {"moves": archives.ask(day)}

    @task(task_id="index")
    def index_registry() -> dict[str, object]:
        from empi import online

        return online.build()

    link_persons() >> index_registry()
