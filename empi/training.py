"""Estimate the model without labels: u from random pairs, m by expectation maximisation, on a sample of records."""

from __future__ import annotations

import json
import time
from datetime import date
from typing import Any

import duckdb

from empi import model, scoring, sources
from empi.standardise import standardise
from lake import runs
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings

MIN_RECORDS = 5_000
_RANDOM_PAIRS = 5e6
_EM_PAIRS = 2e6
#: Blocks of pairs that are mostly true; every comparison is outside at least one of them.
_EM_RULES = (("nm", "dob"), ("idno",), ("nm", "phone"))
#: Half a pair among the random ones; and one true pair in ten thousand, about what EM can tell from none.
UNSEEN_U = 0.5 / _RANDOM_PAIRS
UNSEEN_M = 1e-4
#: Share of true pairs that the deterministic rules below find; it sets the prior.
_DETERMINISTIC_RECALL = 0.85


def estimate(connection: duckdb.DuckDBPyConnection, seed: int) -> dict[str, Any]:
    """Train on the table ``record`` and return Splink's model with what it was trained on.

    Splink leaves out of an EM pass each comparison that reads a column the pass is blocked on.
    """
    from splink import block_on

    records = int(connection.execute("SELECT count(*) FROM record WHERE NOT is_unknown").fetchall()[0][0])
    engine = scoring.linker(connection, model.untrained())
    engine.training.estimate_u_using_random_sampling(max_pairs=_RANDOM_PAIRS, seed=seed)
    engine.training.estimate_probability_two_random_records_match(
        [block_on("idno", "nm"), block_on("nm", "dob", "phone")], recall=_DETERMINISTIC_RECALL
    )
    for rule in _EM_RULES:
        engine.training.estimate_parameters_using_expectation_maximisation(
            block_on(*rule), max_pairs=_EM_PAIRS
        )
    return {"trained_on": records, "splink": complete(engine.misc.save_model_to_json())}


def complete(trained: dict[str, Any]) -> dict[str, Any]:
    """Correct u for the true pairs among the random ones, and give unseen levels what is too rare to be seen.

    Of random pairs a share (the prior) are true ones. It is tiny, and yet it is nearly all that random pairs
    with the same id are: u = (observed - prior * m) / (1 - prior).
    """
    prior = float(trained["probability_two_random_records_match"])
    for comparison in trained["comparisons"]:
        for level in comparison["comparison_levels"]:
            if not level.get("is_null_level"):
                m = max(level.get("m_probability") or 0.0, UNSEEN_M)
                observed = level.get("u_probability") or 0.0
                level["m_probability"] = m
                level["u_probability"] = max((observed - prior * m) / (1 - prior), UNSEEN_U)
    return trained


def thin(connection: duckdb.DuckDBPyConnection, keep: int) -> None:
    """Cut ``source_record`` to about ``keep`` records, whole towns of births at a time.

    Records of one birth date stay together, so true pairs stay pairs; the choice follows from the date alone.
    """
    total = int(connection.execute("SELECT count(*) FROM source_record").fetchall()[0][0])
    if total > keep:
        share = keep / total
        connection.execute(
            f"DELETE FROM source_record WHERE coalesce(epoch_days(birth_date) * 7919 % 10007, rec_no % 10007) "
            f">= {share} * 10007"
        )


def train(data_date: date, *, sample_records: int, seed: int) -> dict[str, Any]:
    """See :func:`empi.train`."""
    started = time.monotonic()
    run = runs.open_run(data_date)
    connection = sources.connect(run)
    try:
        sources.collect(connection, run)
        thin(connection, sample_records)
        standardise(connection, data_date)
        content = _checked(connection, seed)
    finally:
        connection.close()
    target = settings().home / "models" / "empi.json"
    # levels are estimated anew; where to draw the lines between them and people's work is the model's in force
    content |= {
        "version": f"{data_date:%Y%m%d}-{content['trained_on']}-{seed}",
        "thresholds": model.kept_thresholds(),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=1, ensure_ascii=False), "utf-8")
    draft.replace(target)
    result = {"path": str(target), "records": content["trained_on"], "version": content["version"]}
    result["seconds"] = round(time.monotonic() - started, 2)
    _log.info("trained", **result)
    return result


def _checked(connection: duckdb.DuckDBPyConnection, seed: int) -> dict[str, Any]:
    usable = int(connection.execute("SELECT count(*) FROM record WHERE NOT is_unknown").fetchall()[0][0])
    if usable < MIN_RECORDS:
        raise MedlakeError("E304", records=usable, needed=MIN_RECORDS)
    return estimate(connection, seed)


_log = logger("empi")
