"""What a day brings: which registrations are new, changed or gone since the kept state, and their records made anew.

The search costs what the day's Delta files cost: a row that differs between two versions of a table lies in a file
that only one of them has. Working tables of a day begin with ``day_``; records go by their lasting ``rec_id``.
"""

from __future__ import annotations

import duckdb

from empi import families, id_numbers, sources, standardise, state
from empi.sources import as_date
from lake import tables
from lake.runs import Run

KEY = "source_system, org_code, identifier_value"
#: Columns of silver tables that say something of who a patient is; a change in others is none for linking.
_READ = {
    *sources.RAW_COLUMNS,
    *("org_code", "requesting_org_code", "patient_local_id", "archive_id", "mother_patient_id", "is_deleted"),
    *("source_updated_at", "reported_at", "report_id", "study_at", "sop_instance_uid"),
}
DEATHS = "silver/death_registry"
#: What tells who lives with whom, and whether two were born together.
_FAMILY = (
    "rec_id, source_system, org_code, dob, phone, village, house, kin_phone, mother_nm, birth_mark, idno, id_own, card, "
    "is_multiple_birth"
)


#: Silver tables that linking reads.
READ = {name for name, _, _ in sources.KEYS.values()} | {DEATHS}
_TABLES = (
    "key death was arrived gone redo source id future record stale home family neighbour candidate pair said decided "
    "replayed"
).split()


def create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Define the macros on id numbers that reading the death register needs."""
    id_numbers.create_macros(connection)


def forget(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop the working tables of a day that is linked in full after all."""
    for table in _TABLES:
        connection.execute(f"DROP TABLE IF EXISTS day_{table}")


def _rows(scan: str, columns: str, where: str = "true") -> str:
    return f"SELECT {columns} FROM {scan} WHERE {where}" if scan else ""


def _difference(name: str, old: int, new: int, columns: str) -> str | None:
    """SELECT text of rows (of the named columns) that are in one version only; None where that cannot be told."""
    scans = tables.changes_sql(name, old, new)
    if scans is None:
        return None
    added, removed = (_rows(scan, columns) for scan in scans)
    if added and removed:
        return f"(({added}) EXCEPT ({removed})) UNION ALL (({removed}) EXCEPT ({added}))"
    return added or removed or _rows("(SELECT 1) LIMIT 0", "1")


def _read_columns(name: str, at: int) -> str:
    return ", ".join(c for c in tables.columns(name, at) if c in _READ)


def find_keys(connection: duckdb.DuckDBPyConnection, run: Run, about: state.About) -> bool:
    """Make ``day_key``, the record keys that anything was said of since; False where that cannot be told.

    A laboratory's patient is a record only as long as the hospital's register does not know the number.
    """
    connection.execute(
        "CREATE OR REPLACE TABLE day_key (source_system VARCHAR, org_code VARCHAR, identifier_value VARCHAR)"
    )
    for system, (name, org_code, number) in sources.KEYS.items():
        if run.versions.get(name) == about.versions.get(name):
            continue
        rows = _difference(
            name, about.versions[name], run.versions[name], _read_columns(name, run.versions[name])
        )
        if rows is None:
            return False
        systems = "('his'), ('lis'), ('pacs')" if system == "his" else f"('{system}')"
        connection.execute(
            f"""INSERT INTO day_key SELECT DISTINCT s.system, {org_code}, {number} FROM ({rows}) t
            CROSS JOIN (VALUES {systems}) s(system)
            WHERE {number} IS NOT NULL
            AND (s.system, {org_code}, {number}) NOT IN (SELECT ({KEY}) FROM day_key)"""
        )
    return True


def find_deaths(connection: duckdb.DuckDBPyConnection, run: Run, about: state.About) -> bool:
    """Make ``day_death(idno)``, the ids in the death register that changed; False where that cannot be told."""
    connection.execute("CREATE OR REPLACE TABLE day_death (idno VARCHAR)")
    old, new = about.versions.get(DEATHS), run.versions.get(DEATHS)
    if old == new:
        return True
    if old is None or new is None:
        return False
    rows = _difference(DEATHS, old, new, _read_columns(DEATHS, new) + ", died_on")
    if rows is None:
        return False
    connection.execute(f"INSERT INTO day_death SELECT DISTINCT id_18(id_clean(id_no)) FROM ({rows})")
    return True


def find_changes(connection: duckdb.DuckDBPyConnection, run: Run) -> tuple[int, int, int]:
    """Make ``day_arrived`` (new and changed rows as given) and ``day_gone`` (``rec_id``) from ``day_key``.

    Returns the numbers of new, changed and gone registrations.
    """
    kept = state.KEPT
    columns = f"{KEY}, {', '.join(sources.RAW_COLUMNS)}"
    sources.create_source_record(connection)
    connection.execute(
        f"INSERT INTO source_record BY NAME SELECT * FROM ({sources.registrations(run, 'day_key')})"
    )
    connection.execute(f"CREATE OR REPLACE TABLE day_arrived AS SELECT {columns} FROM source_record")
    connection.execute(
        f"CREATE OR REPLACE TABLE day_was AS SELECT rec_id, {KEY} FROM {kept}.record SEMI JOIN day_key USING ({KEY})"
    )
    connection.execute(
        f"CREATE OR REPLACE TABLE day_gone AS SELECT rec_id FROM day_was ANTI JOIN day_arrived USING ({KEY})"
    )
    arrived, changed, gone = connection.execute(
        f"""SELECT (SELECT count(*) FROM day_arrived),
                   (SELECT count(*) FROM day_arrived SEMI JOIN day_was USING ({KEY})),
                   (SELECT count(*) FROM day_gone)"""
    ).fetchall()[0]
    return int(arrived - changed), int(changed), int(gone)


def _choose(connection: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Fill ``source_record`` with whatever must be made anew: what came, its newborns, dates come true.

    Their mothers are there to be borrowed from; they are not made anew (``day_redo.is_redo``), since a mother who is a
    newborn herself would need her own.
    """
    kept = state.KEPT
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_redo AS
        WITH touched AS (SELECT {KEY} FROM day_arrived
                         UNION SELECT {KEY} FROM day_was SEMI JOIN day_gone USING (rec_id)),
        again AS (SELECT rec_id FROM {kept}.mother m WHERE EXISTS (SELECT 1 FROM touched t
                      WHERE t.source_system = m.source_system AND t.org_code = m.org_code
                            AND t.identifier_value = m.mother_identifier)
                  UNION SELECT rec_id FROM {kept}.future WHERE day <= {as_date(run.data_date)}),
        redo AS (SELECT {KEY} FROM day_arrived
                 UNION SELECT {KEY} FROM {kept}.record SEMI JOIN again USING (rec_id)),
        mother AS (SELECT source_system, org_code, mother_identifier AS identifier_value
                   FROM (SELECT source_system, org_code, mother_identifier FROM day_arrived
                         UNION ALL SELECT source_system, org_code, mother_identifier FROM {kept}.mother
                              SEMI JOIN again USING (rec_id))
                   WHERE mother_identifier IS NOT NULL)
        SELECT {KEY}, bool_or(is_redo) AS is_redo
        FROM (SELECT {KEY}, true AS is_redo FROM redo UNION ALL SELECT {KEY}, false FROM mother) GROUP BY ALL"""
    )
    sources.create_source_record(connection)
    connection.execute(
        f"""INSERT INTO source_record BY NAME
        SELECT row_number() OVER (ORDER BY {KEY}) - 1 AS rec_no, * FROM ({sources.registrations(run, "day_redo")})"""
    )


def make_records(connection: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Make ``day_record``: the standardised rows (``rec_id``) that are new or differ from the kept ones.

    Also ``day_source`` (their keys, and ``mother_identifier``) and ``day_future``. New registrations get the next ids in the
    order of the key.
    """
    kept = state.KEPT
    _choose(connection, run)
    standardise.standardise(connection, run.data_date, frozen=True, mark=False)
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_id AS
        SELECT d.rec_no, coalesce(k.rec_id, (SELECT max(rec_id) FROM {kept}.record)
                                  + row_number() OVER (PARTITION BY k.rec_id IS NULL ORDER BY d.rec_no)) AS rec_id
        FROM source_record d LEFT JOIN (SELECT rec_id, {KEY} FROM {kept}.record SEMI JOIN source_record USING ({KEY})) k
             USING ({KEY})"""
    )
    for table, name, given in (
        ("source_record", "day_source", f"{KEY}, mother_identifier"),
        ("future", "day_future", "day"),
    ):
        connection.execute(
            f"CREATE OR REPLACE TABLE {name} AS SELECT rec_id, {given} FROM {table} JOIN day_id USING (rec_no)"
        )
    columns = state.record_columns(connection, "record").replace("is_multiple_birth, ", "")
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_record AS
        WITH made AS (SELECT i.rec_id, r.* EXCLUDE (rec_no) FROM record r JOIN day_id i USING (rec_no)
                      SEMI JOIN (SELECT {KEY} FROM day_redo WHERE is_redo) USING ({KEY})),
        differs AS (SELECT rec_id, {columns} FROM made EXCEPT
                    SELECT rec_id, {columns} FROM {kept}.record SEMI JOIN day_id USING (rec_id))
        SELECT * FROM made SEMI JOIN differs USING (rec_id)"""
    )
    _mark(connection)


def _mark(connection: duckdb.DuckDBPyConnection) -> None:
    """Tell multiple births anew wherever a record of ``day_record`` lives, lived, or came to a mother.

    The homes of the day's records, then all homes of whoever lives in those: each group is then whole. Records whose
    mark alone changed join ``day_record``.
    """
    kept = state.KEPT
    connection.execute(
        "CREATE OR REPLACE TABLE day_stale AS SELECT rec_id FROM day_record UNION SELECT rec_id FROM day_gone"
    )
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_home AS SELECT {_FAMILY} FROM day_record UNION ALL
        SELECT {_FAMILY} FROM {kept}.record SEMI JOIN day_stale USING (rec_id)"""
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
    if connection.execute("SELECT count(*) FROM day_marked").fetchall()[0][0]:  # few days have any
        connection.execute(
            f"""INSERT INTO day_record BY NAME
            SELECT k.* REPLACE (NOT k.is_multiple_birth AS is_multiple_birth)
            FROM {kept}.record k SEMI JOIN day_marked USING (rec_id)"""
        )
    connection.execute(
        "CREATE OR REPLACE TABLE day_stale AS SELECT rec_id FROM day_record UNION SELECT rec_id FROM day_gone"
    )


def _live_with(connection: duckdb.DuckDBPyConnection, table: str, into: str) -> None:
    """Make ``into``: the day's records and all standing ones that share a home with one of ``table``."""
    kept = state.KEPT
    sharing = []
    for home in (*families.HOMES, families.MOTHERS):
        known = " AND ".join(f"{c} IS NOT NULL" for c in home)
        keys = f"SELECT DISTINCT {', '.join(home)} FROM {table} WHERE {known}"
        sharing.append(f"SELECT rec_id FROM {kept}.record SEMI JOIN ({keys}) USING ({', '.join(home)})")
    connection.execute(
        f"""CREATE OR REPLACE TABLE {into} AS
        SELECT rec_id AS rec_no, * FROM (
            SELECT {_FAMILY} FROM day_record UNION ALL
            SELECT {_FAMILY} FROM {kept}.record SEMI JOIN ({" UNION ".join(sharing)}) USING (rec_id)
            ANTI JOIN day_stale USING (rec_id))"""
    )
