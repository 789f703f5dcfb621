"""Rules over the run's pinned tables: findings, scorecards, gates; Great Expectations judges."""

from __future__ import annotations

from airflow.sdk import DAG, PartitionedAssetTimetable, task
from medlake_assets import DEFAULTS, PERSON, QUALITY, TAGS, data_date

with DAG(
    dag_id="check",
    dag_display_name="质控 check",
    schedule=PartitionedAssetTimetable(assets=PERSON),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    tags=TAGS,
    doc_md=__doc__,
):

    @task(task_id="check", outlets=[QUALITY])
    def check_quality(partition_key: str | None = None) -> dict[str, object]:
        from quality import after_check, check

        day = data_date(partition_key)
        return check(day) | after_check(day)

    @task(task_id="entry_store")
    def refresh_entry_store(partition_key: str | None = None) -> dict[str, object]:
        """What entry-time checks look up; nothing of the day waits for it."""
        from quality import entry

        return entry.refresh_residents(data_date(partition_key))

    check_quality() >> refresh_entry_store()
