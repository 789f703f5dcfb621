"""Stable ids over runs: today's clusters take up yesterday's persons by overlap; what changed becomes an event.

An ``empi_id`` is opaque and issued once. A cluster keeps the id that most of its records had; where persons
flowed together the bigger (then the older) id stays and the other is retired by a ``merge`` event; where one fell
apart the bigger part stays and the rest gets a new id by a ``split`` event.
"""

from __future__ import annotations

from collections.abc import Iterable

import duckdb
import pyarrow as pa

from empi import issuing, replay
from empi.crosswalk import COLUMNS, RECORD_KEY
from empi.crosswalk import build_crosswalk as build_crosswalk
from empi.events import build_events as build_events
from empi.issuing import ALPHABET as ALPHABET

_KEY = ", ".join(RECORD_KEY)


def create_previous(
    connection: duckdb.DuckDBPyConnection, source: str | None, *, is_whole: bool = False
) -> None:
    """Make ``previous``, the crosswalk as it stands (``source``: text for FROM, None on the first run).

    ``is_whole``: the source is a table in files, however large; it stays there and is read where it is asked for.
    """
    named = ", ".join(COLUMNS)
    if source and is_whole:
        connection.execute(f"CREATE VIEW previous AS SELECT {named} FROM {source}")
        return
    columns = ", ".join(f"{n} {t}" for n, t in COLUMNS.items())
    connection.execute(f"CREATE OR REPLACE TABLE previous ({columns})")
    if source:
        connection.execute(f"INSERT INTO previous BY NAME SELECT {named} FROM {source}")


def settle(contested: Iterable[tuple[int, str]]) -> dict[int, str]:
    """Give each cluster at most one id and each id to at most one cluster, the first claim in order winning.

    The loop is over contested claims only: clusters or ids that have more than one.
    """
    taken: dict[int, str] = {}
    used: set[str] = set()
    for cluster_no, empi_id in contested:
        if cluster_no not in taken and empi_id not in used:
            taken[cluster_no] = empi_id
            used.add(empi_id)
    return taken


def assign_ids(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    everyone: str | None = None,
    *,
    is_replayed: bool = False,
) -> None:
    """Make ``assigned(cluster_no, empi_id, is_new)`` from ``cluster`` and ``previous``.

    Args:
        everyone: FROM text of the whole crosswalk, where ``previous`` holds touched persons only.
        is_replayed: people changed persons since the last run (``empi.replay``): ids start from how they left them.
    """
    connection.execute(
        "CREATE OR REPLACE TABLE ever AS SELECT empi_id, min(valid_from) AS since FROM previous GROUP BY empi_id"
    )
    connection.execute(
        f"""CREATE OR REPLACE TABLE was AS
        SELECT s.rec_no, p.empi_id FROM source_record s
        JOIN previous p USING ({_KEY}) WHERE p.identifier_type = 'MR' AND p.valid_to IS NULL"""
    )
    if is_replayed:
        replay.into_was(connection)
    _create_returned(connection)
    connection.execute(
        """CREATE OR REPLACE TABLE claim AS
        SELECT *, count(*) OVER (PARTITION BY cluster_no) = 1 AND count(*) OVER (PARTITION BY empi_id) = 1 AS is_sole
        FROM (SELECT c.cluster_no, w.empi_id, count(*) AS shared, any_value(e.since) AS since
              FROM cluster c JOIN (FROM was UNION ALL FROM returned) w USING (rec_no) JOIN ever e USING (empi_id)
              GROUP BY ALL)"""
    )
    contested = connection.execute(
        "SELECT cluster_no, empi_id FROM claim WHERE NOT is_sole ORDER BY shared DESC, since, empi_id, cluster_no"
    ).fetchall()
    settled = settle(contested)
    rows = pa.table(
        {
            "cluster_no": pa.array(settled.keys(), pa.int64()),
            "empi_id": pa.array(settled.values(), pa.string()),
        }
    )
    connection.register("settled_arrow", rows)
    connection.execute(
        """CREATE OR REPLACE TABLE assigned AS
        SELECT cluster_no, empi_id, false AS is_new FROM claim WHERE is_sole
        UNION ALL SELECT cluster_no, empi_id, false FROM settled_arrow"""
    )
    connection.unregister("settled_arrow")
    issuing.issue(connection, run_id, everyone or "previous")


def _create_returned(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``returned(rec_no, empi_id)``: records that went away and are back, whose person nobody has been since.

    A file that a source left out for a day must cost nobody the id: it is nobody else's, and so it is theirs again.
    """
    connection.execute(
        f"""CREATE OR REPLACE TABLE closed AS
        SELECT {_KEY}, arg_max(empi_id, (valid_to, valid_from)) AS empi_id FROM previous
        WHERE identifier_type = 'MR' AND valid_to IS NOT NULL GROUP BY {_KEY}"""
    )
    opened = "(SELECT empi_id FROM previous WHERE identifier_type = 'MR' AND valid_to IS NULL)"
    if connection.execute("SELECT count(*) FROM closed").fetchall()[0][0]:
        found = f"""SELECT s.rec_no, c.empi_id FROM closed c JOIN source_record s USING ({_KEY})
            ANTI JOIN was USING (rec_no) ANTI JOIN {opened} o ON o.empi_id = c.empi_id"""
    else:
        found = "SELECT * FROM was LIMIT 0"
    connection.execute(f"CREATE OR REPLACE TABLE returned AS {found}")


def crosswalk_sha256(connection: duckdb.DuckDBPyConnection, source: str) -> str:
    """SHA-256 of the current crosswalk: its open rows in order, every column but the validity dates.

    ``source``: FROM text of a crosswalk. An undone merge has the digest of before the merge.
    """
    columns = [c for c in COLUMNS if c not in ("valid_from", "valid_to")]
    texts = ", ".join(f"coalesce({c}, '')" for c in columns)
    row = connection.execute(
        f"""SELECT sha256(coalesce(string_agg(sha256(concat_ws('|', {texts})), '' ORDER BY {", ".join(columns)}), ''))
        FROM {source} WHERE valid_to IS NULL"""
    ).fetchall()[0]
    return str(row[0])


def ids_unchanged(connection: duckdb.DuckDBPyConnection, before: str, after: str) -> float:
    """Share of the records of the crosswalk ``before`` (FROM text) that have the same id in ``after``."""
    opened = "(SELECT * FROM {} WHERE identifier_type = 'MR' AND valid_to IS NULL)"
    same, records = connection.execute(
        f"""SELECT count(*) FILTER (a.empi_id = b.empi_id), count(*) FROM {opened.format(before)} b
        LEFT JOIN {opened.format(after)} a USING ({_KEY})"""
    ).fetchall()[0]
    return float(same / records) if records else 1.0
