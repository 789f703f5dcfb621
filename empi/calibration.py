"""The frozen statistics: whatever one record's treatment takes from the whole set, counted at a full run and kept.

How common a name or telephone is, how many records the prior is for, which ids, telephones and blocking keys too many
share, and which town a bare village name means at an institution. With these held still, a record's columns and a
pair's weight depend on nothing but the record and the pair: a day's registrations linked alone then give the very
persons that a full run over all of them gives. A full run counts anew and so renews them.

They lie in the kept state (``empi.state``), schema ``calibration``; :func:`use` puts them where standardising, blocking
and scoring look for them.
"""

from __future__ import annotations

import duckdb

from empi import model

#: Tables of the working connection that are kept as they are.
PLAIN = ("region", "nearby", "shared_id", "shared_phone", *(f"crowd_{n}" for n in range(len(model.BLOCKING))))
FREQUENT = tuple(model.FREQUENCY.values())


def count_frequencies(connection: duckdb.DuckDBPyConnection, averages: dict[str, float]) -> None:
    """Make ``frequency_<column>`` from ``linkable``, and ``unseen(column_name, tf)`` for values that come later.

    Drawn towards the average (``averages``: column -> share of agreeing random pairs) as far as the records are few:
    the only name of a small set is not the commonest name there is.
    """
    connection.execute("CREATE OR REPLACE TABLE unseen (column_name VARCHAR, tf DOUBLE)")
    for column, average in averages.items():
        weight = model.SMALL_POPULATION
        connection.execute(
            f"""CREATE OR REPLACE TABLE frequency_{column} AS
            SELECT {column}, (count(*) + {weight * average}) / (sum(count(*)) OVER () + {weight}) AS tf_{column}
            FROM linkable WHERE {column} IS NOT NULL GROUP BY {column}"""
        )
        connection.execute(
            f"""INSERT INTO unseen SELECT '{column}', (1 + {weight * average}) / (count({column}) + {weight})
            FROM linkable"""
        )


def recall_frequencies(connection: duckdb.DuckDBPyConnection, kept: str) -> None:
    """Make ``frequency_<column>`` for the values of ``linkable`` from the frozen ones (``kept``: their schema)."""
    for column in FREQUENT:
        connection.execute(
            f"""CREATE OR REPLACE TABLE frequency_{column} AS
            SELECT v.{column}, coalesce(f.tf_{column}, u.tf) AS tf_{column}
            FROM (SELECT DISTINCT {column} FROM linkable WHERE {column} IS NOT NULL) v
            LEFT JOIN {kept}.frequency_{column} f USING ({column})
            CROSS JOIN (SELECT tf FROM {kept}.unseen WHERE column_name = '{column}') u"""
        )


def save(connection: duckdb.DuckDBPyConnection, kept: str, records: int, calibration_id: str) -> None:
    """Copy the statistics of a full run to the schema ``kept``."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {kept}")
    for table in (*PLAIN, "unseen", *(f"frequency_{c}" for c in FREQUENT)):
        connection.execute(f"CREATE OR REPLACE TABLE {kept}.{table} AS SELECT * FROM {table}")
    connection.execute(
        f"CREATE OR REPLACE TABLE {kept}.about AS SELECT $1::VARCHAR AS calibration_id, $2::BIGINT AS records",
        [calibration_id, records],
    )


def copy(connection: duckdb.DuckDBPyConnection, kept: str, into: str) -> None:
    """Copy frozen statistics as they are to another schema."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {into}")
    for table in (*PLAIN, "unseen", *(f"frequency_{c}" for c in FREQUENT), "about"):
        connection.execute(f"CREATE OR REPLACE TABLE {into}.{table} AS SELECT * FROM {kept}.{table}")


def use(connection: duckdb.DuckDBPyConnection, kept: str) -> None:
    """Let a connection read the frozen statistics of the schema ``kept`` under their working names."""
    for table in PLAIN:
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {table} AS SELECT * FROM {kept}.{table}")


def forget(connection: duckdb.DuckDBPyConnection) -> None:
    """Undo :func:`use`."""
    for table in PLAIN:
        connection.execute(f"DROP VIEW IF EXISTS temp.{table}")


def about(connection: duckdb.DuckDBPyConnection, kept: str) -> tuple[str, int]:
    """The calibration's id, and the number of records that the prior is for."""
    row = connection.execute(f"SELECT calibration_id, records FROM {kept}.about").fetchall()[0]
    return str(row[0]), int(row[1])
