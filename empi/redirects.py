"""Where a retired id leads: for ever, and past every merge since."""

from __future__ import annotations

import duckdb

from lake import duck, ledger, tables

TABLE = "silver/person_redirect"
_COLUMNS = "empi_id, current_empi_id, merged_on, event_id, merged_into"


def create_redirect(connection: duckdb.DuckDBPyConnection, before: str | None) -> None:
    """Make ``redirect(empi_id, current_empi_id, merged_on, event_id, merged_into)``, a row for each id merged away.

    Reads ``person_change``, ``changed`` and ``now`` of the run. ``before``: FROM text of the table as it was, None if there was
    none. An id that has records again (its merge was undone) leads nowhere, and what had been merged into it before
    leads to it again: each row keeps the person it was merged into, and the current one follows from those alone. No
    cycle can arise: an id is merged into one in use, and one that comes into use again loses its row.
    """
    connection.execute(
        """CREATE OR REPLACE TABLE redirect (empi_id VARCHAR, current_empi_id VARCHAR, merged_on DATE, event_id VARCHAR,
                                             merged_into VARCHAR)"""
    )
    if before:
        connection.execute(f"INSERT INTO redirect BY NAME SELECT {_COLUMNS} FROM {before}")
    # of several merges of one id in a run the last counts: people's in their order, then the run's own
    connection.execute(
        """CREATE OR REPLACE TABLE retired AS
        SELECT e.other_empi_id AS empi_id, e.empi_id AS merged_into, e.occurred_on AS merged_on, e.event_id
        FROM person_change e LEFT JOIN changed c USING (event_id) WHERE e.event_type = 'merge'
        QUALIFY row_number() OVER (PARTITION BY e.other_empi_id ORDER BY c.seq DESC NULLS FIRST, e.event_id) = 1"""
    )
    connection.execute(
        """DELETE FROM redirect WHERE empi_id IN (SELECT empi_id FROM retired UNION ALL SELECT empi_id FROM now)"""
    )
    connection.execute("INSERT INTO redirect BY NAME SELECT * FROM retired ANTI JOIN now USING (empi_id)")
    connection.execute("UPDATE redirect SET current_empi_id = merged_into")
    while True:  # a round halves the longest chain of merges
        moved = connection.execute(
            """UPDATE redirect SET current_empi_id = r.current_empi_id FROM redirect r
            WHERE redirect.current_empi_id = r.empi_id"""
        ).fetchall()[0][0]
        if not moved:
            return


def resolve(empi_id: str) -> str:
    """The id that an id stands for, as the last run left it: itself unless it was merged away."""
    visible = ledger.visible("silver/")
    if TABLE not in visible:
        return empi_id
    connection = duck.connect()
    try:
        rows = connection.execute(
            f"SELECT current_empi_id FROM {tables.scan_sql(TABLE, visible[TABLE])} WHERE empi_id = ?",
            [empi_id],
        ).fetchall()
    finally:
        connection.close()
    return str(rows[0][0]) if rows else empi_id
