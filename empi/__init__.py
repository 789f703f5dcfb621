"""One identity per resident: Splink on DuckDB, a registry of stable ids, golden records.

The verbs are here; ``review``, ``archives``, ``online`` and ``trial`` have their own. Everything heavy (DuckDB, Splink,
pypinyin) is imported when a verb runs.
"""

from __future__ import annotations

from datetime import date
from typing import Any

__all__ = ["evaluate", "link", "train"]


def link(data_date: date, *, mode: str = "auto") -> dict[str, Any]:
    """Link all registrations visible on a date into persons; the first step of the day's chain.

    Opens the run of the date (which pins the tables' versions), writes ``silver/person``,
    ``silver/person_identifier`` and ``silver/person_event`` and records them on the run. Running it again
    with the same input changes nothing.

    Args:
        mode: ``full`` links all registrations; ``incremental`` only what changed since the last run, with the same
            persons as result; ``auto`` is incremental where the last run left what that needs (``empi.incremental``).

    Returns:
        counts: ``run_id, data_date, mode, reason, records, persons, pairs, edges, guarded, cut, created, linked,
        merged, split, replayed, uncertain, unlinkable, seconds`` and ``stages`` (seconds
        of each); of an incremental run, those from pairs on are of the affected persons.

    Raises:
        MedlakeError: E301, no register has been ingested; E302, the model file cannot be used; E303, people's
            decisions contradict each other; E315, another process is linking; E316, no incremental run is possible.
    """
    from empi.linking import link as _link

    return _link(data_date, mode=mode)


def train(data_date: date, *, sample_records: int = 1_000_000, seed: int = 1) -> dict[str, Any]:
    """Estimate the model from the registrations of a date, unsupervised, and keep it for later runs.

    The model goes to ``<home>/models/empi.json`` and takes the place of the one that comes with the package.

    Returns:
        ``path, records, version, seconds``.

    Raises:
        MedlakeError: E301, no register has been ingested; E304, too few records to estimate anything.
    """
    from empi.training import train as _train

    return _train(data_date, sample_records=sample_records, seed=seed)


def evaluate() -> dict[str, Any]:
    """Measure the registry's open crosswalk against the simulated city's truth.

    Returns:
        ``records, persons, precision, recall, f1, exact_clusters, false_pairs, missed_pairs`` and the
        breakdowns ``by_source`` and ``by_age``.

    Raises:
        MedlakeError: E305, there is no truth to compare with; E103, nothing was linked yet.
    """
    from empi.evaluation import evaluate as _evaluate

    return _evaluate()
