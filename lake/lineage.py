"""OpenLineage events of every step: what it read, what it wrote, at which Delta version, and whether it succeeded.

A step's START and COMPLETE (or FAIL) go as JSON lines to ``home/lineage/openlineage.jsonl``, or to a collector when
``openlineage_url`` is set. Whoever pins, commits or records versions tells the step that runs (``reads``,
``writes``); nothing else has to know about lineage. Events carry names, versions and counts, never a value of a
record. A collector that does not answer costs a warning, not the step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from lake import tables
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings

NAMESPACE = "medlake"
PRODUCER = "https://github.com/medlake/medlake"
_log = logger("lake")
P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Step:
    """What one step has told so far. ``inputs`` and ``outputs`` map a dataset to its version (None: it has none)."""

    job: str
    data_date: date
    run_id: str
    inputs: dict[str, int | None] = field(default_factory=dict)
    outputs: dict[str, int | None] = field(default_factory=dict)
    input_counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    row_counts: dict[str, int] = field(default_factory=dict)


_current: ContextVar[Step | None] = ContextVar("lineage_step", default=None)


def reads(versions: Mapping[str, int | None]) -> None:
    """The running step reads these datasets at these versions."""
    if (now := _current.get()) is not None:
        now.inputs.update(versions)


def reads_files(dataset: str, *, files: int, size: int) -> None:
    """The running step reads files of a dataset such as ``landing/his/C201``; ``size`` in bytes."""
    if (now := _current.get()) is not None:
        n, total = now.input_counts.get(dataset, (0, 0))
        now.inputs[dataset] = None
        now.input_counts[dataset] = (n + files, total + size)


def writes(versions: Mapping[str, int | None], rows: Mapping[str, int] | None = None) -> None:
    """The running step wrote these datasets; ``rows`` tells how many rows went into some of them."""
    if (now := _current.get()) is not None:
        now.outputs.update(versions)
        for name, n in (rows or {}).items():
            now.row_counts[name] = now.row_counts.get(name, 0) + n


@contextmanager
def step(job: str, data_date: date) -> Iterator[None]:
    """Emit the events of one step; a step within a step belongs to the outer one.

    Args:
        job: ``<room>.<verb>``, such as ``ingestion.his`` or ``empi.link``.
        data_date: the date being processed (nominal time of the run).
    """
    if _current.get() is not None:
        yield
        return
    from openlineage.client.uuid import generate_new_uuid

    now = Step(job, data_date, str(generate_new_uuid()))
    token = _current.set(now)
    _emit(now, "START")
    try:
        yield
    except BaseException as error:
        _emit(now, "FAIL", reason=error.code if isinstance(error, MedlakeError) else type(error).__name__)
        raise
    else:
        _emit(now, "COMPLETE")
    finally:
        _current.reset(token)


def stepped(job: str) -> Callable[[Callable[Concatenate[date, P], R]], Callable[Concatenate[date, P], R]]:
    """Decorator: a function whose first argument is the date being processed is the step ``job``."""

    def decorate(work: Callable[Concatenate[date, P], R]) -> Callable[Concatenate[date, P], R]:
        @wraps(work)
        def wrapped(data_date: date, *args: P.args, **kwargs: P.kwargs) -> R:
            with step(job, data_date):
                return work(data_date, *args, **kwargs)

        return wrapped

    return decorate


def _emit(now: Step, state: str, *, reason: str = "") -> None:
    try:
        _send(_event(now, state, reason))
    except Exception as error:  # a step must not fail because a collector does
        _log.warning("lineage_not_emitted", step=now.job, reason=type(error).__name__)


def _send(event: Any) -> None:
    from openlineage.client.serde import Serde

    s = settings()
    if s.openlineage_url:
        from openlineage.client.transport.http import HttpConfig, HttpTransport

        config = HttpConfig(url=s.openlineage_url, timeout=5, retry={"total": 1, "backoff_factor": 0.2})
        HttpTransport(config).emit(event)
        return
    line = (Serde.to_json(event) + "\n").encode()
    path = s.folder("lineage") / "openlineage.jsonl"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line)  # one write: lines of processes that emit together do not mix
    finally:
        os.close(handle)


def _parent() -> dict[str, Any]:
    """The Airflow task around this step, from ``OPENLINEAGE_PARENT_ID`` (``<namespace>/<job>/<run id>``)."""
    from openlineage.client.facet_v2 import parent_run

    given = os.environ.get("OPENLINEAGE_PARENT_ID", "").split("/")
    if len(given) != 3:
        return {}
    namespace, name, run_id = given
    return {
        "parent": parent_run.ParentRunFacet(
            run=parent_run.Run(runId=run_id), job=parent_run.Job(namespace=namespace, name=name)
        )
    }


def _event(now: Step, state: str, reason: str) -> Any:
    from openlineage.client import event_v2, set_producer
    from openlineage.client.facet_v2 import error_message_run, job_type_job, nominal_time_run

    set_producer(PRODUCER)
    start = datetime(now.data_date.year, now.data_date.month, now.data_date.day, tzinfo=UTC)
    run_facets: dict[str, Any] = {
        "nominalTime": nominal_time_run.NominalTimeRunFacet(start.isoformat().replace("+00:00", "Z"))
    } | _parent()
    if reason:
        run_facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(reason, "PYTHON")
    job_type = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="MEDLAKE", jobType="TASK")
    ended = state != "START"
    return event_v2.RunEvent(
        eventTime=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        producer=PRODUCER,
        eventType=event_v2.RunState[state],
        run=event_v2.Run(now.run_id, run_facets),
        job=event_v2.Job(NAMESPACE, now.job, {"jobType": job_type}),
        inputs=[_input(now, name, at) for name, at in sorted(now.inputs.items())] if ended else [],
        outputs=[_output(now, name, at) for name, at in sorted(now.outputs.items())] if ended else [],
    )


def _dataset_facets(at: int | None) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset

    return {} if at is None else {"version": dataset_version_dataset.DatasetVersionDatasetFacet(str(at))}


def _input(now: Step, name: str, at: int | None) -> Any:
    from openlineage.client import event_v2
    from openlineage.client.facet_v2 import input_statistics_input_dataset as statistics

    counted = now.input_counts.get(name)
    facets: dict[str, Any] = {}
    if counted:
        facets["inputStatistics"] = statistics.InputStatisticsInputDatasetFacet(
            fileCount=counted[0], size=counted[1]
        )
    return event_v2.InputDataset(NAMESPACE, name, facets=_dataset_facets(at), inputFacets=facets)


def _output(now: Step, name: str, at: int | None) -> Any:
    from openlineage.client import event_v2
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics
    from openlineage.client.facet_v2 import schema_dataset

    facets = _dataset_facets(at)
    if at is not None and tables.exists(name):
        columns = tables.open_table(name, at).schema().fields
        facets["schema"] = schema_dataset.SchemaDatasetFacet(
            [schema_dataset.SchemaDatasetFacetFields(c.name, getattr(c.type, "type", "")) for c in columns]
        )
    told: dict[str, Any] = {}
    if name in now.row_counts:
        told["outputStatistics"] = statistics.OutputStatisticsOutputDatasetFacet(
            rowCount=now.row_counts[name]
        )
    return event_v2.OutputDataset(NAMESPACE, name, facets=facets, outputFacets=told)
