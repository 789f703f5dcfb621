"""The FEBRL benchmarks: settings from ``febrl.yaml``, parameters from the records themselves, then the truth."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import yaml
from numpy.typing import NDArray

from empi.clustering import constrained_union
from empi.trial import other_tool
from empi.trial.judging import judge
from lake.errors import MedlakeError

if TYPE_CHECKING:
    from splink import Linker

Ints = NDArray[np.int64]

SETTINGS = Path(__file__).with_name("febrl.yaml")
#: Set -> its files. Of two files each is without duplicates and the task is to link one with the other.
SETS: dict[str, tuple[str, ...]] = {
    "febrl3": ("dataset3.csv",),
    "febrl4": ("dataset4a.csv", "dataset4b.csv"),
}
#: ``rec-1496-org`` and ``rec-1496-dup-0`` are one person.
_TRUTH = r"regexp_extract(rec_id, '^rec-(\d+)-', 1) AS truth"
_JUDGED = "SELECT person, truth FROM cluster JOIN truth USING (rec_no)"


def settings() -> dict[str, Any]:
    """The committed settings."""
    return dict(yaml.safe_load(SETTINGS.read_text("utf-8")))


def _scan(files: list[Path], columns: str) -> str:
    """Rows of the files in their order; ``rec_no`` counts from 0 over all files, ``source`` is the file's number."""
    parts = [
        f"SELECT {number} AS source, row_number() OVER () AS line, * FROM read_csv('{file}', all_varchar = true, "
        "header = true, delim = ',', parallel = false, normalize_names = true)"
        for number, file in enumerate(files)
    ]
    return f"""SELECT (row_number() OVER (ORDER BY source, line) - 1)::INTEGER AS rec_no, source, {columns}
        FROM ({" UNION ALL ".join(parts)})"""


def read_records(connection: duckdb.DuckDBPyConnection, files: list[Path], fields: list[str]) -> int:
    """Make ``febrl(rec_no, source, <fields>)``: lower case, without blanks. The id of a row, which tells the truth,
    is not read."""
    clean = ", ".join(rf"nullif(regexp_replace(lower({f}), '\s', '', 'g'), '') AS {f}" for f in fields)
    connection.execute(f"CREATE OR REPLACE TABLE febrl AS {_scan(files, clean)}")
    return int(connection.execute("SELECT count(*) FROM febrl").fetchall()[0][0])


def level_sql(field: str, level: str) -> str:
    """A level of ``febrl.yaml`` as a condition on two records.

    Raises:
        ValueError: the level is none of the four kinds.
    """
    kind, _, of = level.partition(" ")
    if kind == "=" and not of:
        return f"{field}_l = {field}_r"
    if kind == "=":
        return f"{field}_l = {of}_r OR {of}_l = {field}_r"
    if kind == "jaro_winkler":
        return f"jaro_winkler_similarity({field}_l, {field}_r) >= {float(of)}"
    if kind == "edits":
        return f"damerau_levenshtein({field}_l, {field}_r) <= {int(of)}"
    raise ValueError(f"{field}: {level}")


def _comparison(field: str, given: list[str], frequency: list[str]) -> Any:
    from splink import comparison_level_library as levels
    from splink import comparison_library as comparisons

    null = levels.CustomLevel(f"{field}_l IS NULL OR {field}_r IS NULL", "null").configure(is_null_level=True)
    made: list[Any] = [null]
    for level in given:
        one = levels.CustomLevel(level_sql(field, level), level)
        made.append(one.configure(tf_adjustment_column=field) if level == "=" and field in frequency else one)
    return comparisons.CustomComparison([*made, levels.ElseLevel()], output_column_name=field)


def linker(connection: duckdb.DuckDBPyConnection, given: dict[str, Any], *, files: int) -> Linker:
    """An untrained linker over ``febrl``; with two files only pairs across them count."""
    from splink import DuckDBAPI, Linker, SettingsCreator, block_on

    model = SettingsCreator(
        link_type="dedupe_only" if files == 1 else "link_only",
        unique_id_column_name="rec_no",
        comparisons=[
            _comparison(f, levels, given["frequency"]) for f, levels in given["comparisons"].items()
        ],
        blocking_rules_to_generate_predictions=[block_on(*rule) for rule in given["blocking"]],
        retain_matching_columns=False,
        retain_intermediate_calculation_columns=False,
    )
    api = DuckDBAPI(connection)
    frames = []
    for number in range(files):
        connection.execute(
            f"CREATE OR REPLACE TABLE febrl_{number} AS SELECT * EXCLUDE (source) FROM febrl WHERE source = {number}"
        )
        frames.append(api.register(f"febrl_{number}", dataset_display_name=f"febrl_{number}"))
    return Linker(frames if files > 1 else frames[0], model, log_level=logging.ERROR)


def train(engine: Linker, training: dict[str, Any]) -> None:
    """Estimate prior, u and m without labels."""
    from splink import block_on

    engine.training.estimate_probability_two_random_records_match(
        [block_on(*rule) for rule in training["deterministic"]], recall=training["recall"]
    )
    engine.training.estimate_u_using_random_sampling(
        max_pairs=training["random_pairs"], seed=training["seed"]
    )
    for rule in training["passes"]:
        engine.training.estimate_parameters_using_expectation_maximisation(block_on(*rule))


def link(connection: duckdb.DuckDBPyConnection, files: list[Path], given: dict[str, Any]) -> dict[str, int]:
    """Make ``cluster(rec_no, person)`` of the files' records; the truth is not needed."""
    records = read_records(connection, files, given["fields"])
    engine = linker(connection, given, files=len(files))
    train(engine, given["training"])
    scored = engine.inference.predict(threshold_match_weight=given["accept_weight"])
    pairs = connection.execute(
        f"SELECT rec_no_l, rec_no_r, match_weight FROM {scored.physical_name}"
    ).fetchnumpy()
    left, right = (np.asarray(pairs[f"rec_no_{side}"], np.int64) for side in ("l", "r"))
    return cluster(connection, records, left, right, np.asarray(pairs["match_weight"], np.float64))


def cluster(
    connection: duckdb.DuckDBPyConnection, records: int, left: Ints, right: Ints, weight: NDArray[np.float64]
) -> dict[str, int]:
    """Make ``cluster(rec_no, person)`` from accepted pairs, as ``empi.link`` does; FEBRL has no trusted ids."""
    nobody, none = np.full(records, -1, np.int64), np.empty((0, 2), np.int64)
    joined = constrained_union(records, left, right, weight, nobody, none)
    connection.register("found", pa.table({"rec_no": np.arange(records), "person": joined.label}))
    connection.execute("CREATE OR REPLACE TABLE cluster AS SELECT * FROM found")
    connection.unregister("found")
    return {"records": records, "persons": len(np.unique(joined.label)), "pairs": len(left)}


def _compared(connection: duckdb.DuckDBPyConnection, files: list[Path], records: int) -> dict[str, Any]:
    """The other tool with the same blocking rules, joined and judged like ours."""
    found = other_tool.pairs(files, settings()["blocking"])
    ends = np.asarray(found.pop("pairs"), np.int64).reshape(-1, 2)
    counts = cluster(connection, records, ends[:, 0], ends[:, 1], np.ones(len(ends)))
    return found | {k: counts[k] for k in ("persons", "pairs")} | judge(connection, _JUDGED)


def benchmark(name: str, *, compare: bool = False) -> dict[str, Any]:
    """See :func:`empi.trial.benchmark`."""
    if name not in SETS:
        raise MedlakeError("E376", place=name, known=", ".join(SETS))
    files = other_tool.data_files(SETS[name])
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")  # it would stand before the JSON
    try:
        began = time.monotonic()
        result: dict[str, Any] = {"benchmark": name, **link(connection, files, settings())}
        result["seconds_link"] = round(time.monotonic() - began, 2)
        # persons are settled: now the truth, which is the number in a row's id
        connection.execute(f"CREATE TABLE truth AS {_scan(files, _TRUTH)}")
        result |= judge(connection, _JUDGED)
        if compare:
            result["recordlinkage"] = _compared(connection, files, result["records"])
    finally:
        connection.close()
    return result
