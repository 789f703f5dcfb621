"""What the DAGs hand to each other. The date being processed is the partition key, so it travels explicitly."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from airflow.sdk import Asset

#: The feeds of a city day. Each emits its event for every date, an empty day too.
CITY_FEEDS = ("his", "lis", "pacs", "iot", "public_health")

SILVER = {feed: Asset(name=f"silver_{feed}", uri=f"medlake://silver/{feed}") for feed in CITY_FEEDS}
PERSON = Asset(name="silver_person", uri="medlake://silver/person")
QUALITY = Asset(name="quality_findings", uri="medlake://quality/finding")
CANDIDATE = Asset(name="gold_candidate", uri="medlake://gold/candidate")
SERVING = Asset(name="serving", uri="medlake://serving/current")

DEFAULTS: dict[str, Any] = {"owner": "data-platform", "retries": 1, "retry_delay": timedelta(seconds=5)}
TAGS = ["medlake"]


def data_date(partition_key: str | None) -> date:
    """The date a run processes, from its partition key ``YYYY-MM-DD``.

    Raises:
        MedlakeError: E701, the run was triggered without one.
    """
    from lake.errors import MedlakeError

    try:
        return date.fromisoformat((partition_key or "")[:10])
    except ValueError:
        raise MedlakeError("E701", place="partition_key") from None
