"""dbt in this process: one invocation against the work file, and what became of each node.

In process rather than as a child: a build that is killed leaves no orphan writing, and dbt is imported once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from lake.errors import MedlakeError
from lake.settings import PROJECT_ROOT, settings

DBT_DIR = PROJECT_ROOT / "dbt"
_ENV = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1"}
_GOOD = {"success", "pass", "warn"}
_QUOTED = re.compile(r"'[^'\n]*'")


@dataclass(frozen=True)
class NodeResult:
    """What became of a model, seed or test. ``model`` is the model that a test is about."""

    product: str
    model: str
    node: str
    kind: str
    status: str
    message: str
    seconds: float

    @property
    def is_good(self) -> bool:
        return self.status in _GOOD


def target_dir() -> Path:
    """dbt's artifacts, kept between runs so that parsing is partial."""
    return settings().home / "dbt" / "target"


def log_dir() -> Path:
    """dbt's own log. It may quote values of a failing query, so it lies in the restricted zone, not in the logs."""
    return settings().home / "dbt" / "logs"


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    wanted = _ENV | {"MEDLAKE_DUCKDB_MEMORY": settings().duckdb_memory} | values
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def _release() -> None:
    """Close the DuckDB file that dbt's adapter keeps open for the next invocation."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    if DuckDBConnectionManager._ENV is not None:
        DuckDBConnectionManager._ENV.close()
    DuckDBConnectionManager.close_all_connections()


@dataclass(frozen=True)
class Project:
    """The dbt project against one DuckDB file.

    The day and the city's size go through the environment, which the macros read at execution only: dbt parses
    everything again when ``--vars`` change, and a new day would cost seconds.
    """

    file: Path
    data_date: date | None = None
    residents: int = 0

    def invoke(self, words: list[str], parsed: Any = None) -> Any:
        """Run dbt with some words (``["parse"]``); ``parsed`` is a manifest object that saves parsing again.

        Raises:
            MedlakeError: E502, the project does not parse or dbt itself stopped.
        """
        from dbt.cli.main import dbtRunner

        for folder in (target_dir(), log_dir()):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        arguments = [
            *words,
            *("--project-dir", str(DBT_DIR), "--profiles-dir", str(DBT_DIR)),
            *("--target-path", str(target_dir()), "--log-path", str(log_dir())),
            *("--quiet", "--no-use-colors", "--log-level", "none", "--log-level-file", "info"),
        ]
        told = {"MEDLAKE_CANDIDATE": str(self.file), "MEDLAKE_CITY_RESIDENTS": str(self.residents)}
        if self.data_date:
            told["MEDLAKE_DATA_DATE"] = str(self.data_date)
        with _environment(told):
            try:
                done = dbtRunner(manifest=parsed).invoke(arguments)
            finally:
                _release()
        if done.exception is not None:
            raise MedlakeError(
                "E502", detail=clean(str(done.exception)), log=str(log_dir() / "dbt.log"), place="dbt"
            )
        return done

    def build(self, *, seeds: bool) -> tuple[list[NodeResult], dict[str, Any]]:
        """Parse (partially, where it was parsed before), then seeds, models and tests in their order.

        Returns:
            what became of each node, and the manifest as a dictionary (also in ``target_dir()/manifest.json``).
        """
        parsed = self.invoke(["parse"]).result
        written: dict[str, Any] = json.loads((target_dir() / "manifest.json").read_text("utf-8"))
        words = ["build", "--no-write-json", *(() if seeds else ("--exclude-resource-type", "seed"))]
        return node_results(self.invoke(words, parsed), written["nodes"]), written


def clean(message: str | None) -> str:
    """A message fit for a table and a log: its first lines, without quoted values (they may be a record's)."""
    lines = [line.strip() for line in (message or "").splitlines() if line.strip()]
    return _QUOTED.sub("'…'", " ".join(lines[:6]))[:500]


def _meta(node: Any) -> dict[str, Any]:
    return dict(getattr(node.config, "meta", None) or {})


def node_results(done: Any, nodes: dict[str, Any]) -> list[NodeResult]:
    """Results of ``dbt build``, each with the product of the model that it is or tests.

    Args:
        done: what ``invoke`` returned.
        nodes: the manifest's nodes, by unique id.
    """
    found = []
    for result in getattr(done.result, "results", None) or []:  # about a hundred nodes
        node = result.node
        if node.resource_type == "exposure":  # built outside; dbt only notes it
            continue
        about = getattr(node, "attached_node", None) or node.unique_id
        if (
            about == node.unique_id and node.resource_type == "test"
        ):  # a test in dbt/tests is about what it reads
            reads = [n for n in node.depends_on.nodes if n.startswith("model.")]
            about = reads[0] if reads else about
        described = nodes.get(about, {})
        meta = described.get("config", {}).get("meta") or _meta(node)
        found.append(
            NodeResult(
                product=str(meta.get("product", "")),
                model=described.get("name", node.name),
                node=node.name,
                kind=str(node.resource_type),
                status=str(result.status),
                message="" if str(result.status) in {"success", "pass"} else clean(result.message),
                seconds=round(float(result.execution_time), 3),
            )
        )
    return found
