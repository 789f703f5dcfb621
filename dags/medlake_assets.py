"""What the DAGs hand to each other: an asset per silver table. The date being processed is the partition key.

Which feeds have a daily task is the setting ``connected_feeds``; their tables come from the contracts.
"""

from __future__ import annotations

import os
from datetime import date, timedelta
from typing import Any

from airflow.sdk import Asset

from lake.contracts import FeedContract, contracts
from lake.settings import settings

_CONNECTED = settings().connected_feeds.split()

#: The feeds with a daily task. Each emits its events for every date, an empty day too.
FEEDS: dict[str, FeedContract] = {
    feed: found for feed, found in contracts().items() if feed in _CONNECTED or _CONNECTED == ["all"]
}

SILVER: dict[str, Asset] = {
    table: Asset(name=f"silver_{table}", uri=f"medlake://silver/{table}")
    for found in FEEDS.values()
    for table in found.tables
}
PERSON = Asset(name="silver_person", uri="medlake://silver/person")
QUALITY = Asset(name="quality_findings", uri="medlake://quality/finding")
CANDIDATE = Asset(name="gold_candidate", uri="medlake://gold/candidate")
SERVING = Asset(name="serving", uri="medlake://serving/current")

TAGS = ["medlake"]


def outlets(feed: str) -> list[Asset]:
    """The assets that ingesting a feed updates: its silver tables."""
    return [SILVER[table] for table in FEEDS[feed].tables]


def pool(feed: str) -> str:
    """The pool of a feed's family: tasks that merge into the same tables do not crowd each other.

    ``dags/pools.json`` holds the pools; ``airflow pools import dags/pools.json`` makes them.
    """
    return f"silver_{FEEDS[feed].domain}" if feed in FEEDS else "silver_clinical"


def _announce_parent(context: Any) -> None:
    """Let the step's OpenLineage events name this task as their parent."""
    from airflow.providers.openlineage.plugins.macros import lineage_parent_id

    os.environ["OPENLINEAGE_PARENT_ID"] = lineage_parent_id(context["task_instance"])


DEFAULTS: dict[str, Any] = {
    "owner": "data-platform",
    "retries": 2,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
    "pre_execute": _announce_parent,
}


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
