"""Stock Splink on the registrations as given: what its manual's first example gives somebody who adds nothing of his own.

Ready-made comparisons, blocking on single agreements, training and threshold as in the tutorial, its own clustering.
"""

from __future__ import annotations

import logging
import time
from typing import Any

#: The tutorial's: predict above this, cluster above that probability.
_PREDICT, _CLUSTER = 0.01, 0.95
_RANDOM_PAIRS = 1e6
#: Rules whose pairs are nearly all true, and the share of true pairs that they are taken to find (the tutorial's .7).
_DETERMINISTIC, _RECALL = (("id_no", "name"), ("name", "birth_date", "phone")), 0.7
_BLOCKING = (
    ("id_no",),
    ("name", "birth_date"),
    ("name", "phone"),
    ("birth_date", "phone"),
    ("health_card_no",),
    ("name", "addr_detail"),
)
_PASSES = (("name", "birth_date"), ("id_no",))


def stock(records: str) -> dict[str, Any]:
    """Link and judge.

    Args:
        records: a query of the registrations with ``resident_id``.
    """
    import splink.comparison_library as cl
    from splink import DuckDBAPI, Linker, SettingsCreator, block_on

    from bench.robustness import judged
    from lake import duck

    connection = duck.connect()
    connection.execute("SET enable_progress_bar = false")
    began = time.perf_counter()
    connection.execute(
        f"""CREATE TABLE raw AS SELECT row_number() OVER () AS unique_id, name, sex_code,
            strftime(birth_date, '%Y-%m-%d') AS birth_date, id_no, phone, addr_detail, health_card_no, resident_id
        FROM ({records})"""
    )
    model = SettingsCreator(
        link_type="dedupe_only",
        comparisons=[
            cl.NameComparison("name"),
            cl.DateOfBirthComparison("birth_date", input_is_string=True),
            cl.ExactMatch("sex_code"),
            cl.DamerauLevenshteinAtThresholds("id_no", [1, 2]),
            cl.LevenshteinAtThresholds("phone", [1]),
            cl.JaroWinklerAtThresholds("addr_detail", [0.9, 0.7]),
            cl.ExactMatch("health_card_no"),
        ],
        blocking_rules_to_generate_predictions=[block_on(*rule) for rule in _BLOCKING],
    )
    api = DuckDBAPI(connection)
    engine = Linker(api.register("raw", dataset_display_name="raw"), model, log_level=logging.ERROR)
    engine.training.estimate_probability_two_random_records_match(
        [block_on(*rule) for rule in _DETERMINISTIC], recall=_RECALL
    )
    engine.training.estimate_u_using_random_sampling(max_pairs=_RANDOM_PAIRS, seed=1)
    for rule in _PASSES:
        engine.training.estimate_parameters_using_expectation_maximisation(block_on(*rule))
    scored = engine.inference.predict(threshold_match_probability=_PREDICT, warning_mode="never")
    found = engine.clustering.cluster_pairwise_predictions_at_threshold(
        scored, threshold_match_probability=_CLUSTER
    )
    seconds = round(time.perf_counter() - began, 2)
    result = judged(
        connection,
        f"""SELECT c.cluster_id AS person, r.resident_id AS truth
        FROM {found.physical_name} c JOIN raw r USING (unique_id)""",
    )
    count = int(connection.execute("SELECT count(*) FROM raw").fetchall()[0][0])
    connection.close()
    return {"records": count, "seconds": seconds, **result}
