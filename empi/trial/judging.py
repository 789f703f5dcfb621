"""How right persons are: pairs and whole persons, from one table of record, person and truth."""

from __future__ import annotations

from typing import Any

import duckdb

from empi import measures


def judge(connection: duckdb.DuckDBPyConnection, records: str) -> dict[str, Any]:
    """Measures of a partition, by the same functions as ``empi.evaluate``.

    Args:
        records: a query of ``person, truth``, one row per record; a null truth is somebody of whom there is one
            record.
    """
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE judged AS
        SELECT person AS empi_id,
               CASE WHEN truth IS NULL THEN 'nobody ' || row_number() OVER () ELSE 'resident ' || truth END AS resident
        FROM ({records})"""
    )
    result = {k: v for k, v in measures.rates(connection).items() if not k.endswith("_interval")}
    return result | {"exact_clusters": measures.exact_clusters(connection)}
