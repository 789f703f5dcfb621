"""Whom a day touches: candidates for the day's records, and the persons and pairs that must be settled anew.

Touched are the day's records, everybody they now make a pair with, and whoever belonged with one of them; then whole
components (what accepted pairs hang together) and whole persons, until nobody is left outside who could be told
otherwise. Around these lie the records that a touched one makes any pair with: they come along whole, so that pairs
for review are found with both sides.
"""

from __future__ import annotations

import duckdb

from empi import blocking, keys, scoring, sources, state
from empi.day import KEY
from empi.model import BLOCKING
from lake.runs import Run

#: The key of whoever shows the same id.
_ID = ("idno",)
_CHANGED = "SELECT * FROM day_record WHERE NOT is_unknown"


def _equal(rule: tuple[str, ...]) -> str:
    return " AND ".join(f"{blocking.key_column(c, 'l')} = {blocking.key_column(c, 'r')}" for c in rule)


def is_crowded(connection: duckdb.DuckDBPyConnection, limit: int) -> bool:
    """Whether more than ``limit`` of the day's records agree on a blocking rule and are no known crowd.

    Only a full run, which counts crowds anew, then keeps the pairs few.
    """
    for number, rule in enumerate(BLOCKING):
        keys = ", ".join(f"{blocking.key_column(c, 'l')} AS k{i}" for i, c in enumerate(rule))
        names = ", ".join(f"k{i}" for i in range(len(rule)))
        known = " AND ".join(f"k{i} IS NOT NULL" for i in range(len(rule)))
        crowds = connection.execute(
            f"""SELECT count(*) FROM (SELECT {names} FROM (SELECT {keys} FROM ({_CHANGED}) l) WHERE {known}
            GROUP BY ALL HAVING count(*) > {limit}) ANTI JOIN crowd_{number} USING ({names})"""
        ).fetchall()[0][0]
        if crowds:
            return True
    return False


def _create_meets(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``day_meets(rule, rec_id, number)``: by which numbers (``empi.keys``) the day's records look for others.

    A key that too many share proposes nothing.
    """
    connection.execute("CREATE OR REPLACE TABLE day_meets (rule UTINYINT, rec_id BIGINT, number UINTEGER)")
    for place, rule in enumerate(BLOCKING):
        crowd = " AND ".join(f"{blocking.key_column(c, 'l')} = x.k{i}" for i, c in enumerate(rule))
        crowded = {c: f"x.k{i}" for i, c in enumerate(rule)}
        connection.execute(
            f"""INSERT INTO day_meets
            SELECT {place}, rec_id, {keys.number(rule)} AS number FROM ({_CHANGED}) l
            WHERE NOT EXISTS (SELECT 1 FROM crowd_{place} x WHERE {crowd})
            UNION ALL
            SELECT {place}, rec_id, {keys.column(rule)} FROM {state.KEPT}.key SEMI JOIN day_marked USING (rec_id)
            WHERE {keys.column(rule)} NOT IN (SELECT {keys.number(rule, crowded.__getitem__)} FROM crowd_{place} x)"""
        )


def propose(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``day_candidate(rule, id_1, id_2)``: a record of the day, and any other that has the same number by a rule.

    The columns behind the numbers are compared when they are there (:func:`_create_candidate`).
    """
    _create_meets(connection)
    connection.execute("CREATE OR REPLACE TABLE day_candidate (rule UTINYINT, id_1 BIGINT, id_2 BIGINT)")
    for place, rule in enumerate(BLOCKING):
        here = f"(SELECT rec_id, number FROM day_meets WHERE rule = {place} AND number IS NOT NULL)"
        connection.execute(
            f"""INSERT INTO day_candidate
            SELECT {place}, l.rec_id, r.rec_id FROM {state.KEPT}.key r JOIN {here} l ON r.{keys.column(rule)} = l.number
            WHERE r.rec_id NOT IN (SELECT rec_id FROM day_stale)
            UNION ALL
            SELECT {place}, l.rec_id, r.rec_id FROM {here} l JOIN {here} r USING (number) WHERE l.rec_id < r.rec_id"""
        )


def _create_candidate(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``candidate``, as Splink expects it: pairs of ``day_candidate`` that truly agree, with their first rule."""
    agree = " ".join(f"WHEN {place} THEN {_equal(rule)}" for place, rule in enumerate(BLOCKING))
    connection.execute(
        f"""CREATE OR REPLACE TABLE candidate AS
        SELECT min(c.rule)::VARCHAR AS match_key, least(l.rec_no, r.rec_no) AS join_key_l,
               greatest(l.rec_no, r.rec_no) AS join_key_r
        FROM day_candidate c JOIN local a ON a.rec_id = c.id_1 JOIN local b ON b.rec_id = c.id_2
        JOIN record l ON l.rec_no = a.rec_no JOIN record r ON r.rec_no = b.rec_no
        WHERE NOT l.is_unknown AND NOT r.is_unknown AND CASE c.rule {agree} END
        GROUP BY join_key_l, join_key_r"""
    )


def _number(connection: duckdb.DuckDBPyConnection, ids: str) -> None:
    """Make ``local(rec_no, rec_id)`` in the order of the key, ``record`` and nothing else, for the records ``ids``."""
    connection.execute(
        f"CREATE OR REPLACE TABLE drawn AS SELECT * FROM {state.KEPT}.record SEMI JOIN ({ids}) USING (rec_id)"
    )
    connection.execute(  # those whose mark alone changed, the first time that they are drawn
        """INSERT INTO day_record BY NAME SELECT * REPLACE (NOT is_multiple_birth AS is_multiple_birth)
        FROM drawn SEMI JOIN day_marked USING (rec_id) ANTI JOIN day_record USING (rec_id)"""
    )
    connection.execute("DELETE FROM drawn WHERE rec_id IN (SELECT rec_id FROM day_stale)")
    connection.execute(f"INSERT INTO drawn BY NAME SELECT * FROM day_record SEMI JOIN ({ids}) USING (rec_id)")
    connection.execute(
        f"CREATE OR REPLACE TABLE local AS SELECT (row_number() OVER (ORDER BY {KEY}) - 1)::INTEGER AS rec_no, rec_id "
        "FROM drawn"
    )
    connection.execute(
        "CREATE OR REPLACE TABLE record AS SELECT l.rec_no, d.* EXCLUDE (rec_id) FROM drawn d JOIN local l USING (rec_id)"
    )
    connection.execute("DROP TABLE drawn")


def score(connection: duckdb.DuckDBPyConnection) -> int:
    """Make ``day_pair(id_l, id_r, ...)``: the scored pairs of the day's records. Returns the number of candidates."""
    propose(connection)
    _number(
        connection,
        "SELECT rec_id FROM day_stale "
        "UNION SELECT id_1 FROM day_candidate UNION SELECT id_2 FROM day_candidate",
    )
    engine = scoring.prepare(connection, 0, state.STATISTICS)
    _create_candidate(connection)
    scoring.score_candidates(connection, engine)
    columns = state.pair_columns(connection)
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_pair AS SELECT a.rec_id AS id_l, b.rec_id AS id_r, {columns}
        FROM pair JOIN local a ON a.rec_no = rec_l JOIN local b ON b.rec_no = rec_r"""
    )
    return int(connection.execute("SELECT count(*) FROM candidate").fetchall()[0][0])


def _decided(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``day_decided(id_l, id_r, decision, is_new)``: decisions on records that are here, new ones marked."""
    key = ("source_system", "org_code", "identifier_value")
    sides = ", ".join(f"{c}_{s}" for s in "lr" for c in key)
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_said AS
        WITH now AS (SELECT {sides}, decision FROM decided), was AS (SELECT {sides}, decision FROM {state.KEPT}.decided)
        SELECT *, false AS is_new FROM (SELECT * FROM now INTERSECT SELECT * FROM was)
        UNION ALL SELECT *, true FROM ((SELECT * FROM now EXCEPT SELECT * FROM was)
                                       UNION ALL (SELECT * FROM was EXCEPT SELECT * FROM now))"""
    )
    named = " UNION ".join(f"SELECT {', '.join(f'{c}_{s} AS {c}' for c in key)} FROM day_said" for s in "lr")
    everyone = f"""SELECT rec_id, {KEY} FROM {state.KEPT}.record SEMI JOIN ({named}) USING ({KEY})
        UNION SELECT rec_id, {KEY} FROM day_source"""
    on = " JOIN ".join(f"known {s} ON " + " AND ".join(f"{s}.{c} = d.{c}_{s}" for c in key) for s in "lr")
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_decided AS WITH known AS ({everyone})
        SELECT l.rec_id AS id_l, r.rec_id AS id_r, decision, is_new FROM day_said d JOIN {on}
        WHERE l.rec_id <> r.rec_id"""
    )


def spread(connection: duckdb.DuckDBPyConnection, replayed: str | None) -> None:
    """Make ``core(rec_id)``, all whom the day may move, and ``drawn_in(rec_id)``, those and who makes a pair with them.

    Also ``touched_person(empi_id)``. ``replayed``: see :func:`empi.incremental.draw`.
    """
    kept = state.KEPT
    _decided(connection)
    connection.execute(
        f"""CREATE OR REPLACE TABLE reached AS
        SELECT rec_id FROM day_stale
        UNION SELECT rec_id FROM day_source SEMI JOIN day_arrived USING ({KEY})
        UNION SELECT id_l FROM day_pair UNION SELECT id_r FROM day_pair
        UNION SELECT unnest([id_l, id_r]) FROM {kept}.pair p
              WHERE id_l IN (SELECT rec_id FROM day_stale) OR id_r IN (SELECT rec_id FROM day_stale)
        UNION SELECT unnest([id_l, id_r]) FROM day_decided WHERE is_new
        -- one trusted id and one name join whatever the score: also in a crowd that proposes nothing. Whoever has the
        -- id alone comes along: settling anew those whom nothing moves changes nothing
        UNION SELECT rec_id FROM {kept}.key
              SEMI JOIN (SELECT {keys.number(_ID)} AS {keys.column(_ID)} FROM day_record WHERE id_own)
              USING ({keys.column(_ID)})
        UNION SELECT r.rec_id FROM {kept}.record r SEMI JOIN day_death d ON d.idno = r.idno WHERE r.id_own"""
    )
    if replayed:
        connection.execute(
            f"""CREATE OR REPLACE TABLE day_replayed AS SELECT p.empi_id, s.rec_id FROM ({replayed}) p
            JOIN (SELECT rec_id, {KEY} FROM {kept}.record) s USING ({KEY})"""
        )
    else:
        connection.execute("CREATE OR REPLACE TABLE day_replayed (empi_id VARCHAR, rec_id BIGINT)")
    connection.execute("INSERT INTO reached SELECT rec_id FROM day_replayed")
    _close(connection)
    connection.execute("CREATE OR REPLACE TABLE core AS SELECT DISTINCT rec_id FROM reached")
    connection.execute(
        f"""INSERT INTO reached SELECT unnest([id_l, id_r]) FROM {kept}.pair
        WHERE id_l IN (SELECT rec_id FROM core) OR id_r IN (SELECT rec_id FROM core)"""
    )
    _close(connection)
    connection.execute(
        "CREATE OR REPLACE TABLE drawn_in AS SELECT DISTINCT rec_id FROM reached ANTI JOIN day_gone USING (rec_id)"
    )
    connection.execute(
        f"""CREATE OR REPLACE TABLE touched_person AS
        SELECT empi_id FROM {kept}.person SEMI JOIN reached USING (rec_id) UNION SELECT empi_id FROM day_replayed"""
    )


def _close(connection: duckdb.DuckDBPyConnection) -> None:
    """Add to ``reached`` whoever shares a cluster or a person with one of them, or was cut from them, to the end.

    A round doubles what hangs together; the second or third finds nothing, since cuts and replayed persons are few.
    """
    kept = state.KEPT
    reached = -1
    while True:
        connection.execute("CREATE OR REPLACE TABLE reached AS SELECT DISTINCT rec_id FROM reached")
        size = int(connection.execute("SELECT count(*) FROM reached").fetchall()[0][0])
        if size == reached:
            return
        reached = size
        for table in (
            f"{kept}.cut",
            "(SELECT id_l, id_r FROM day_decided WHERE decision = 'must_link' OR is_new)",
        ):
            connection.execute(
                f"""INSERT INTO reached SELECT unnest([id_l, id_r]) FROM {table}
                WHERE id_l IN (SELECT rec_id FROM reached) OR id_r IN (SELECT rec_id FROM reached)"""
            )
        connection.execute(
            f"""INSERT INTO reached SELECT rec_id FROM {kept}.person
            SEMI JOIN (SELECT DISTINCT cluster_id FROM {kept}.person SEMI JOIN reached USING (rec_id)) USING (cluster_id)
            UNION SELECT rec_id FROM day_replayed
            SEMI JOIN (SELECT DISTINCT empi_id FROM day_replayed SEMI JOIN reached USING (rec_id)) USING (empi_id)"""
        )


def draw(connection: duckdb.DuckDBPyConnection, run: Run) -> int:
    """Make the working tables of whoever was drawn in: ``source_record, record, linkable, birth, pair``.

    Returns the number of records. ``local(rec_no, rec_id)`` says who is who.
    """
    kept = state.KEPT
    _number(connection, "SELECT rec_id FROM drawn_in")
    sources.create_source_record(connection)
    connection.execute(f"CREATE OR REPLACE TABLE day_drawn AS SELECT {KEY} FROM record")
    sources.forget_passing(connection)
    columns = ", ".join(
        c for c in state.record_columns(connection, "source_record").split(", ") if c not in KEY.split(", ")
    )
    connection.execute(
        f"""INSERT INTO source_record BY NAME
        SELECT r.rec_no, {KEY}, {columns} FROM (
            SELECT * EXCLUDE (rec_no) FROM source_record UNION ALL BY NAME {sources.registrations(run, "day_drawn")}) s
        JOIN (SELECT rec_no, {KEY} FROM record) r USING ({KEY})"""
    )
    connection.execute("CREATE OR REPLACE VIEW linkable AS SELECT * FROM record WHERE NOT is_unknown")
    columns = state.pair_columns(connection)
    connection.execute(
        f"""CREATE OR REPLACE TABLE pair AS
        SELECT a.rec_no AS rec_l, b.rec_no AS rec_r, {columns} FROM (
            SELECT * FROM day_pair UNION ALL BY NAME
            SELECT * FROM {kept}.pair WHERE id_l NOT IN (SELECT rec_id FROM day_stale)
                                        AND id_r NOT IN (SELECT rec_id FROM day_stale)) p
        JOIN local a ON a.rec_id = p.id_l JOIN local b ON b.rec_id = p.id_r"""
    )
    return int(connection.execute("SELECT count(*) FROM record").fetchall()[0][0])
