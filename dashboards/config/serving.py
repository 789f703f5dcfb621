"""The serving file as Superset sees it: a symlink that publish swaps while queries run.

DuckDB keeps one instance per path for as long as any connection is open, so a long query through the link's
own name would pin the old file for everybody. Each engine therefore opens what the link points to now.
"""

from pathlib import Path
from typing import Any

from dashboards.config import surroundings

# One configuration for every connection: DuckDB refuses a second one on the same file. Without the lock-down
# `read_csv_auto('/etc/passwd')` answers through SQL Lab.
CONNECT_ARGS = {
    "read_only": True,
    "config": {
        "threads": 2,
        "memory_limit": "2GB",
        "enable_external_access": False,
        "lock_configuration": True,
    },
}


def uri() -> str:
    return f"duckdb:///{surroundings.serving_path()}"


def resolve_link(
    uri: Any, params: dict[str, Any], username: str, security_manager: Any, source: Any
) -> tuple[Any, dict[str, Any]]:
    """Superset's DB_CONNECTION_MUTATOR: follow the link for each new engine."""
    if uri.drivername.startswith("duckdb") and uri.database:
        uri = uri.set(database=str(Path(uri.database).resolve()))
    return uri, params


def version() -> str:
    """Names the published file. Datasets put it into their cache key, so that a swap shows at the next refresh."""
    path = surroundings.serving_path().resolve()
    try:
        return f"{path.name}@{path.stat().st_mtime_ns}"
    except FileNotFoundError:
        return "unpublished"
