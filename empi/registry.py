"""Stable ids over runs: today's clusters take up yesterday's persons by overlap; what changed becomes an event.

An ``empi_id`` is opaque and issued once. A cluster keeps the id that most of its records had; where persons
flowed together the bigger (then the older) id stays and the other is retired by a ``merge`` event; where one fell
apart the bigger part stays and the rest gets a new id by a ``split`` event.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import duckdb
import pyarrow as pa

from empi.sources import as_date
from lake.crypto import token, token_column

ALPHABET = "ABCDEFGHJKMNPQRSTVWXYZ0123456789"  # 32 characters; no I, L, O, U
#: 60 bits of SHA-256 as 12 characters. The text hashed is the run's secret seed and a serial number: nothing of
#: the person goes into an id.
_SERIAL_ID = "'E' || " + " || ".join(
    f"substr('{ALPHABET}', ((('0x' || left(sha256({{0}}), 15))::UBIGINT >> {5 * i}) & 31)::INTEGER + 1, 1)"
    for i in range(12)
)
RECORD_KEY = ("source_system", "org_code", "identifier_value")
_KEY = ", ".join(RECORD_KEY)

PREVIOUS_COLUMNS = {
    "empi_id": "VARCHAR",
    "person_token": "VARCHAR",
    "source_system": "VARCHAR",
    "org_code": "VARCHAR",
    "identifier_type": "VARCHAR",
    "identifier_value": "VARCHAR",
    "valid_from": "DATE",
    "valid_to": "DATE",
    "link_cause": "VARCHAR",
}


def create_previous(connection: duckdb.DuckDBPyConnection, source: str | None) -> None:
    """Make ``previous``, the whole crosswalk as it stands (``source``: text for FROM, None on the first run)."""
    columns = ", ".join(f"{n} {t}" for n, t in PREVIOUS_COLUMNS.items())
    connection.execute(f"CREATE OR REPLACE TABLE previous ({columns})")
    if source:
        connection.execute(f"INSERT INTO previous BY NAME SELECT {', '.join(PREVIOUS_COLUMNS)} FROM {source}")


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


def assign_ids(connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """Make ``assigned(cluster_no, empi_id, is_new)`` from ``cluster`` and ``previous``."""
    connection.execute(
        "CREATE OR REPLACE TABLE ever AS SELECT empi_id, min(valid_from) AS since FROM previous GROUP BY empi_id"
    )
    connection.execute(
        f"""CREATE OR REPLACE TABLE was AS
        SELECT s.rec_no, p.empi_id FROM source_record s
        JOIN previous p USING ({_KEY}) WHERE p.identifier_type = 'MR' AND p.valid_to IS NULL"""
    )
    connection.execute(
        """CREATE OR REPLACE TABLE claim AS
        SELECT *, count(*) OVER (PARTITION BY cluster_no) = 1 AND count(*) OVER (PARTITION BY empi_id) = 1 AS is_sole
        FROM (SELECT c.cluster_no, w.empi_id, count(*) AS shared, any_value(e.since) AS since
              FROM cluster c JOIN was w USING (rec_no) JOIN ever e USING (empi_id) GROUP BY ALL)"""
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
    _issue(connection, run_id)


def _issue(connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """New ids for clusters without one, in the order of their smallest record; never one that was ever used."""
    issued = int(connection.execute("SELECT count(*) FROM ever").fetchall()[0][0])
    seed = token("empi_id", run_id)
    drawn = _SERIAL_ID.format(
        f"'{seed}|' || ? || '|' || (row_number() OVER (ORDER BY cluster_no) + {issued})"
    )
    draw = 0
    while True:
        connection.execute(
            f"""CREATE OR REPLACE TABLE fresh AS
            SELECT cluster_no, {drawn} AS empi_id
            FROM (SELECT DISTINCT cluster_no FROM cluster) ANTI JOIN assigned USING (cluster_no)""",
            [str(draw)] * drawn.count("?"),
        )
        clash = connection.execute(
            """SELECT count(*) FROM (SELECT empi_id FROM fresh GROUP BY 1 HAVING count(*) > 1
                                     UNION ALL SELECT empi_id FROM fresh SEMI JOIN ever USING (empi_id))"""
        ).fetchall()[0][0]
        if not clash:
            break
        draw += 1  # 60 bits: about one run in a hundred thousand at six million persons
    connection.execute("INSERT INTO assigned SELECT cluster_no, empi_id, true FROM fresh")


def build_crosswalk(connection: duckdb.DuckDBPyConnection, data_date: date) -> None:
    """Make ``now`` (record -> person) and ``crosswalk`` (the new ``silver/person_identifier``, history included).

    ``MR`` rows are the crosswalk proper: one open row per record. ``NI`` (trusted national id), ``HC`` (health
    card) and ``SN`` (insurance number) say by which numbers a source knows the person.
    """
    connection.execute(
        """CREATE OR REPLACE TABLE now AS
        SELECT c.rec_no, a.empi_id, a.cluster_no, c.link_cause, a.is_new
        FROM cluster c JOIN assigned a USING (cluster_no)"""
    )
    tokens = connection.execute("SELECT DISTINCT empi_id FROM now ORDER BY empi_id").to_arrow_table()
    ids = tokens["empi_id"]
    tokened = pa.table({"empi_id": ids, "person_token": token_column("person", ids)})
    connection.register("token_arrow", tokened)
    connection.execute("CREATE OR REPLACE TABLE person_key AS SELECT * FROM token_arrow")
    connection.unregister("token_arrow")
    connection.execute(
        """CREATE OR REPLACE TABLE wanted AS
        SELECT n.empi_id, r.source_system, r.org_code, v.identifier_type, v.identifier_value,
               min(n.link_cause) AS link_cause
        FROM now n JOIN record r USING (rec_no)
        CROSS JOIN LATERAL (VALUES ('MR', r.identifier_value), ('NI', CASE WHEN r.id_own THEN r.idno END),
                                   ('HC', r.card), ('SN', r.insurance)) v(identifier_type, identifier_value)
        WHERE v.identifier_value IS NOT NULL GROUP BY ALL"""
    )
    day = as_date(data_date)
    connection.execute(
        f"""CREATE OR REPLACE TABLE crosswalk AS
        SELECT p.* REPLACE (CASE WHEN p.valid_to IS NULL AND w.empi_id IS NULL THEN greatest({day}, p.valid_from)
                                 ELSE p.valid_to END AS valid_to)
        FROM previous p LEFT JOIN wanted w USING (empi_id, identifier_type, {_KEY})
        UNION ALL BY NAME
        SELECT w.*, k.person_token, {day} AS valid_from, NULL::DATE AS valid_to
        FROM wanted w JOIN person_key k USING (empi_id)
        WHERE NOT EXISTS (SELECT 1 FROM previous p WHERE p.valid_to IS NULL AND p.empi_id = w.empi_id
            AND p.identifier_type = w.identifier_type AND p.source_system = w.source_system
            AND p.org_code = w.org_code AND p.identifier_value = w.identifier_value)"""
    )


def build_events(connection: duckdb.DuckDBPyConnection, run_id: str, data_date: date) -> dict[str, int]:
    """Make ``event`` (new rows of ``silver/person_event``): what this run changes. Returns counts by type.

    ``create``: a new id, with its first record. ``link``: a record came to a person (from ``other_empi_id``).
    ``split``: a new id took records of ``other_empi_id``. ``merge``: ``other_empi_id`` is retired into the id.
    """
    connection.execute(
        f"""CREATE OR REPLACE TABLE event AS
        WITH moved AS (SELECT n.rec_no, n.empi_id, n.is_new, n.cluster_no, w.empi_id AS old_id
                       FROM now n LEFT JOIN was w USING (rec_no) WHERE w.empi_id IS DISTINCT FROM n.empi_id),
        heir AS (SELECT old_id, empi_id, count(*) AS records FROM moved
                 WHERE old_id IS NOT NULL AND old_id NOT IN (SELECT empi_id FROM assigned) GROUP BY ALL),
        retired AS (SELECT old_id, empi_id FROM heir
                    QUALIFY row_number() OVER (PARTITION BY old_id ORDER BY records DESC, empi_id) = 1),
        happened AS (
            SELECT 'create' AS event_type, empi_id, NULL AS other_empi_id, rec_no FROM moved
            WHERE is_new AND rec_no = cluster_no
            UNION ALL SELECT 'link', empi_id, old_id, rec_no FROM moved
            WHERE NOT (is_new AND rec_no = cluster_no AND old_id IS NULL)
            UNION ALL SELECT DISTINCT 'split', empi_id, old_id, NULL FROM moved
            WHERE is_new AND old_id IS NOT NULL AND old_id IN (SELECT empi_id FROM assigned)
            UNION ALL SELECT 'merge', empi_id, old_id, NULL FROM retired)
        SELECT 'V' || left(sha256(concat_ws('|', '{run_id}', h.event_type, h.empi_id, coalesce(h.other_empi_id, ''),
                                            s.source_system, s.org_code, s.identifier_value)), 20) AS event_id,
               h.event_type, h.empi_id, h.other_empi_id, s.source_system, s.org_code, s.identifier_value,
               '{run_id}' AS run_id, {as_date(data_date)} AS occurred_on
        FROM happened h LEFT JOIN source_record s USING (rec_no)"""
    )
    counts = dict(connection.execute("SELECT event_type, count(*) FROM event GROUP BY 1").fetchall())
    return {kind: int(counts.get(kind, 0)) for kind in ("create", "link", "merge", "split")}
