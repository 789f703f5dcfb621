"""Where the candidate and the serving files lie. Build writes the candidate, publish makes the serving files.

``serving/serving.duckdb`` is a symlink to ``serving_<run_id>[_n].duckdb``. Readers resolve it first: DuckDB keeps
one instance per path, so a reader that opens the link's own name may go on seeing the file it had open before.
"""

from __future__ import annotations

from pathlib import Path

from lake.errors import MedlakeError
from lake.settings import settings

#: Name of the link that readers follow.
LINK = "serving.duckdb"


def candidate_path() -> Path:
    """The file dbt writes; it starts as a copy of the last accepted one."""
    return settings().home / "build" / "candidate.duckdb"


def serving_link() -> Path:
    """The symlink. It may not exist yet."""
    return settings().serving_dir / LINK


def published_path() -> Path | None:
    """The serving file that is published now, or None before the first publication."""
    link = serving_link()
    return link.resolve() if link.exists() else None


def serving_path() -> Path:
    """The serving file that is published now.

    Raises:
        MedlakeError: E608, nothing was published yet.
    """
    found = published_path()
    if found is None:
        raise MedlakeError("E608", place=LINK)
    return found
