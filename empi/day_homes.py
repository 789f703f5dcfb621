"""Multiple births of a day: told anew wherever a record that is new, changed or gone lives, lived, or came to a mother."""

from __future__ import annotations

import duckdb

from empi import families, keys, state

#: What tells who lives with whom, and whether two were born together.
_FAMILY = (
    "rec_id, source_system, org_code, dob, phone, village, house, kin_phone, mother_nm, birth_mark, idno, id_own, card, "
    "is_multiple_birth"
)


def mark(connection: duckdb.DuckDBPyConnection) -> None:
    """Tell multiple births anew wherever a record of ``day_record`` lives, lived, or came to a mother.

    The homes of the day's records, then all homes of whoever lives in those: each group is then whole. Records whose
    mark alone changed are ``day_marked``; they join ``day_record`` when they are drawn (``empi.affected``).
    """
    kept = state.KEPT
    connection.execute(
        "CREATE OR REPLACE TABLE day_stale AS SELECT rec_id FROM day_record UNION SELECT rec_id FROM day_gone"
    )
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_home AS SELECT {_FAMILY} FROM day_record UNION ALL
        SELECT {_FAMILY} FROM {kept}.record SEMI JOIN (
            SELECT rec_id FROM day_stale WHERE rec_id <= (SELECT max(rec_id) FROM {kept}.record)) USING (rec_id)"""
    )
    _live_with(connection, "day_home", "day_family")
    _live_with(connection, "day_family", "day_neighbour")
    connection.execute("UPDATE day_neighbour SET is_multiple_birth = false")
    families.mark_multiple_births(connection, "day_neighbour")
    connection.execute(
        """UPDATE day_record SET is_multiple_birth = n.is_multiple_birth FROM day_neighbour n
        WHERE n.rec_id = day_record.rec_id"""
    )
    connection.execute(
        """CREATE OR REPLACE TABLE day_marked AS
        SELECT f.rec_id FROM day_family f JOIN day_neighbour n USING (rec_id) ANTI JOIN day_stale USING (rec_id)
        WHERE f.is_multiple_birth <> n.is_multiple_birth"""
    )
    connection.execute("INSERT INTO day_stale SELECT rec_id FROM day_marked")


def _live_with(connection: duckdb.DuckDBPyConnection, table: str, into: str) -> None:
    """Make ``into``: the day's records and all standing ones that share a home with one of ``table``."""
    kept = state.KEPT
    homes = (*families.HOMES, families.MOTHERS)
    near = " UNION ".join(
        f"SELECT rec_id FROM {kept}.key SEMI JOIN (SELECT {keys.number(home)} AS {keys.column(home)} FROM {table}) "
        f"USING ({keys.column(home)})"
        for home in homes
    )
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_near AS SELECT {_FAMILY} FROM {kept}.record SEMI JOIN ({near}) USING (rec_id)
        ANTI JOIN day_stale USING (rec_id)"""
    )
    sharing = []
    for home in homes:
        known = " AND ".join(f"{c} IS NOT NULL" for c in home)
        given = f"SELECT DISTINCT {', '.join(home)} FROM {table} WHERE {known}"
        sharing.append(f"SELECT rec_id FROM day_near SEMI JOIN ({given}) USING ({', '.join(home)})")
    connection.execute(
        f"""CREATE OR REPLACE TABLE {into} AS
        SELECT rec_id AS rec_no, * FROM (
            SELECT {_FAMILY} FROM day_record UNION ALL
            SELECT * FROM day_near SEMI JOIN ({" UNION ".join(sharing)}) USING (rec_id))"""
    )
