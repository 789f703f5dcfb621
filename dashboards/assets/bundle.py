"""All import documents, by the path that Superset's importer expects."""

from typing import Any

import yaml

from dashboards.assets import charts, datasets, topics, wall
from dashboards.assets.identity import VERSION

# The importer wants a time; the same bundle must be the same text on every machine.
_STAMP = "2026-01-01T00:00:00+00:00"


def documents(uri: str, connect_args: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Path -> document, for the database at `uri`."""
    return {
        "databases/serving.yaml": datasets.database_document(uri, connect_args),
        **{f"datasets/{name}.yaml": datasets.document(datasets.dataset(name)) for name in datasets.names()},
        **{f"charts/{chart.key}.yaml": charts.document(chart) for chart in [*charts.CHARTS, *topics.CHARTS]},
        f"dashboards/{wall.SLUG}.yaml": wall.document(),
        f"dashboards/{topics.SLUG}.yaml": topics.document(),
        "themes/wall.yaml": wall.theme_document(),
    }


def metadata(kind: str) -> str:
    """The `metadata.yaml` that goes with documents of one kind: "assets" or "Theme"."""
    return dump({"version": VERSION, "type": kind, "timestamp": _STAMP})


def dump(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, allow_unicode=True, sort_keys=False, width=10000)
