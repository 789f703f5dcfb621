"""Try the linkage without the lake: on a table of one's own, and on the published FEBRL sets.

The public face is two verbs; everything heavy is imported when one runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["benchmark", "try_file"]


def try_file(
    path: Path, mapping: Path, *, truth: str | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Link the registrations of a file into persons, with the same functions and model as ``empi.link``.

    Nothing of ``MEDLAKE_HOME`` is written.

    Args:
        path: a Parquet or CSV file (UTF-8, UTF-16 or GB18030; comma, tab, semicolon or bar).
        mapping: YAML that names the file's columns, see ``docs/try.md``.
        truth: column that says who a record really is; null: somebody of whom there is one record.
        out: where to write ``record_id, person, link_cause, unlinkable`` (``.csv`` or ``.parquet``).

    Returns:
        ``records, persons, pairs, edges, guarded, cut, unlinkable, warnings`` and with truth ``precision, recall, f1,
        exact_clusters, false_pairs, missed_pairs``.

    Raises:
        MedlakeError: E370 the file cannot be read; E371 the mapping cannot be used; E372 it names a column that
            the file lacks; E373 the same record twice or without an id; E374 a column's type cannot be used;
            E375 ``out`` cannot be written.
    """
    from empi.trial.trying import try_file as _try_file

    return _try_file(path, mapping, truth=truth, out=out)


def benchmark(name: str, *, compare: bool = False) -> dict[str, Any]:
    """Link a FEBRL set (``febrl3``: duplicates in one file; ``febrl4``: two files) with the committed settings.

    Args:
        compare: also measure ``recordlinkage`` (ECM) on the same set, in its own environment.

    Returns:
        ``records, persons, pairs, precision, recall, f1, exact_clusters, false_pairs, missed_pairs``, with
        ``compare`` also ``recordlinkage`` (the same measures of that tool).

    Raises:
        MedlakeError: E376 no such set; E377 the environment with the data cannot be made; E378 the other tool failed.
    """
    from empi.trial.febrl import benchmark as _benchmark

    return _benchmark(name, compare=compare)
