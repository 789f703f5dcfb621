"""Propose pairs and score them with Splink, then let the guards speak: table ``pair``; accepted ones: ``edge``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import duckdb

from empi import blocking, calibration, model
from empi.clustering import MUST_LINK_WEIGHT
from empi.guards import GUARD_SQL, PROMOTE, accept_sql

if TYPE_CHECKING:
    from splink import Linker

#: Weight of a pair that the deterministic pass settles; above any score, below a person's decision.
SAME_ID_WEIGHT = 1e3
PROMOTED_WEIGHT = 20.0

_GAMMAS = ", ".join(f"p.gamma_{name}" for name in model.LEVELS)


def linker(connection: duckdb.DuckDBPyConnection, settings: Any) -> Linker:
    """A Splink linker over the records that may be anybody's (an unknown patient is linked to nobody)."""
    from splink import DuckDBAPI, Linker

    connection.execute("CREATE OR REPLACE VIEW linkable AS SELECT * FROM record WHERE NOT is_unknown")
    api = DuckDBAPI(connection)
    return Linker(
        api.register("linkable", dataset_display_name="linkable"), settings, log_level=logging.ERROR
    )


def _register_frequencies(
    connection: duckdb.DuckDBPyConnection, engine: Linker, trained: dict[str, Any], kept: str | None
) -> None:
    """Tell Splink how common each value is: counted here, or as it was frozen (schema ``kept``)."""
    if kept:
        calibration.recall_frequencies(connection, kept)
    else:
        averages = {
            column: model.chance_agreement(trained, comparison, level)
            for (comparison, level), column in model.FREQUENCY.items()
        }
        calibration.count_frequencies(connection, averages)
    for column in model.FREQUENCY.values():
        table = engine._db_api.register(f"frequency_{column}", dataset_display_name=f"frequency_{column}")
        engine.table_management.register_term_frequency_lookup(table, column)


#: Records of one chunk: their pairs are scored and written before the next chunk's, so memory is bounded.
CHUNK_RECORDS = 1_500_000

_PAIR = f"""
    SELECT p.rec_no_l AS rec_l, p.rec_no_r AS rec_r, p.match_weight, p.match_key, {_GAMMAS},
           {GUARD_SQL} AS guard, {PROMOTE} AS is_promoted
    FROM {{scored}} p
    LEFT JOIN birth l ON l.rec_no = p.rec_no_l LEFT JOIN birth r ON r.rec_no = p.rec_no_r"""

#: A scored table without rows: ``pair`` has its columns before there is a pair.
_NOTHING = (
    "(SELECT NULL::INTEGER AS rec_no_l, NULL::INTEGER AS rec_no_r, NULL::DOUBLE AS match_weight, "
    "NULL::VARCHAR AS match_key, "
    + ", ".join(f"NULL::INTEGER AS gamma_{name}" for name in model.LEVELS)
    + "".join(f", NULL::BOOLEAN AS {name}_{side}" for name in model.RETAINED for side in "lr")
    + " LIMIT 0)"
)


def create_birth(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``birth``, who was born with whom: a row for the few records that the guards on births ask about."""
    connection.execute(
        """CREATE OR REPLACE TABLE birth AS SELECT rec_no, birth_mark, mother_nm, kin_nm, is_multiple_birth
        FROM record WHERE birth_mark IS NOT NULL OR is_multiple_birth OR dob IN (
            SELECT dob FROM record WHERE birth_mark IS NOT NULL)"""
    )


def prepare(connection: duckdb.DuckDBPyConnection, records: int, kept: str | None = None) -> Linker:
    """A linker over ``record`` with the model's parameters, frequencies and the table ``birth`` that guards read.

    ``kept``: schema of frozen statistics (``empi.calibration``); without it they are counted from ``record``.
    """
    trained = model.load(calibration.about(connection, kept)[1] if kept else records)
    engine = linker(connection, trained)
    _register_frequencies(connection, engine, trained, kept)
    create_birth(connection)
    connection.execute(f"CREATE OR REPLACE TABLE pair AS {_PAIR.format(scored=_NOTHING)}")
    return engine


def score_candidates(connection: duckdb.DuckDBPyConnection, engine: Linker, number: int = 0) -> None:
    """Add the pairs of ``candidate`` that score well enough to ``pair``; ``number`` names the chunk to Splink."""
    candidates = engine._db_api.register("candidate", dataset_display_name=f"candidate_{number}")
    engine.table_management.register_blocked_pairs_for_predict(candidates)
    scored = engine.inference.predict(threshold_match_weight=model.thresholds()["keep"], warning_mode="never")
    connection.execute(f"INSERT INTO pair {_PAIR.format(scored=scored.physical_name)}")
    scored.drop_table_from_database_and_remove_from_cache()


def score(connection: duckdb.DuckDBPyConnection, records: int, kept: str | None = None) -> int:
    """Make ``pair(rec_l, rec_r, match_weight, match_key, gamma_*, guard, is_promoted)``; returns its length."""
    engine = prepare(connection, records, kept)
    if not kept:
        blocking.find_crowds(connection)
    blocking.propose(connection)
    for number, first in enumerate(range(0, max(records, 1), CHUNK_RECORDS)):
        blocking.take(connection, first, first + CHUNK_RECORDS)
        score_candidates(connection, engine, number)
    for done in ("proposed", "candidate"):
        connection.execute(f"DROP TABLE {done}")
    return int(connection.execute("SELECT count(*) FROM pair").fetchall()[0][0])


def accept(connection: duckdb.DuckDBPyConnection) -> int:
    """Make ``edge(rec_l, rec_r, weight, cause)`` from decisions, the deterministic pass and accepted pairs.

    The deterministic pass joins records of one trusted id and one exact name; a star to the smallest record is
    enough, since only who hangs together matters.
    """
    connection.execute(
        f"""CREATE OR REPLACE TABLE edge AS
        SELECT rec_l, rec_r, {MUST_LINK_WEIGHT}::DOUBLE AS weight, 'decision' AS cause
        FROM decision WHERE decision = 'must_link'
        UNION ALL
        SELECT first_rec, rec_no, {SAME_ID_WEIGHT}, 'same_id'
        FROM (SELECT rec_no, min(rec_no) OVER (PARTITION BY idno, nm) AS first_rec
              FROM linkable WHERE id_own AND nm IS NOT NULL) WHERE first_rec <> rec_no
        UNION ALL
        SELECT rec_l, rec_r, CASE WHEN is_promoted THEN greatest(match_weight, {PROMOTED_WEIGHT})
                                  ELSE match_weight END, 'score'
        FROM pair WHERE {accept_sql()}"""
    )
    return int(connection.execute("SELECT count(*) FROM edge").fetchall()[0][0])
