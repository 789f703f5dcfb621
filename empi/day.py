"""What a day brings: which registrations are new, changed or gone since the kept state, and their records made anew.

The search costs what the day's Delta files cost: a row that differs between two versions of a table lies in a file
that only one of them has. Working tables of a day begin with ``day_``; records go by their lasting ``rec_id``.
"""

from __future__ import annotations

import duckdb

from empi import day_homes, id_numbers, sources, standardise, state
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


#: Silver tables that linking reads.
READ = {name for name, _, _ in sources.KEYS.values()} | {DEATHS}
_TABLES = (
    "key death known was arrived rest gone redo extra source id future record stale home near family neighbour marked meets "
    "candidate pair said decided replayed"
).split()
#: Registers have one row for each record: that of a changed one lies in a file that came since.
_REGISTERS = ("his", "public_health")


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


def _came(name: str, old: int, new: int) -> str:
    """FROM text of the standing rows in the files that came to a table; "" for none."""
    scans = tables.changes_sql(name, old, new)
    if not scans or not scans[0]:
        return ""
    standing = "WHERE NOT coalesce(is_deleted, false)" if "is_deleted" in tables.columns(name, new) else ""
    return f"(SELECT * FROM {scans[0]} {standing})"


def _collect_arrived(connection: duckdb.DuckDBPyConnection, run: Run, about: state.About) -> None:
    """Fill ``source_record`` with the registrations of ``day_key`` that there are."""
    sources.create_source_record(connection)
    insert = "INSERT INTO source_record BY NAME SELECT * FROM ({})"
    for system in _REGISTERS:
        name = sources.KEYS[system][0]
        came = _came(name, about.versions[name], run.versions[name]) if name in run.versions else ""
        if came:
            found = sources.registrations(run, "day_key", systems=[system], at={name: came})
            connection.execute(insert.format(found))
    # what a hospital's register knows by now is no record of its laboratory's
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_rest AS SELECT {KEY} FROM day_key k
        WHERE source_system NOT IN {_REGISTERS} AND NOT EXISTS (
            SELECT 1 FROM source_record s WHERE s.source_system = 'his' AND s.org_code = k.org_code
                                            AND s.identifier_value = k.identifier_value)"""
    )
    if connection.execute("SELECT count(*) FROM day_rest").fetchall()[0][0]:
        systems = [s for s in sources.KEYS if s not in _REGISTERS]
        if found := sources.registrations(run, "day_rest", systems=systems):
            connection.execute(insert.format(found))


def find_changes(connection: duckdb.DuckDBPyConnection, run: Run, about: state.About) -> tuple[int, int, int]:
    """Make ``day_arrived`` (new and changed rows as given) and ``day_gone`` (``rec_id``) from ``day_key``.

    Also ``day_redo``, whatever must be made anew, and ``day_known``: which ids those of all these have that were there.
    Returns the numbers of new, changed and gone registrations.
    """
    kept = state.KEPT
    columns = f"{KEY}, {', '.join(sources.RAW_COLUMNS)}"
    _collect_arrived(connection, run, about)
    connection.execute(f"CREATE OR REPLACE TABLE day_arrived AS SELECT {columns} FROM source_record")
    _create_redo(connection, run)
    asked = f"(SELECT {KEY} FROM day_key UNION ALL SELECT {KEY} FROM day_redo)"
    connection.execute(
        f"CREATE OR REPLACE TABLE day_known AS SELECT rec_id, {KEY} FROM {kept}.record SEMI JOIN {asked} USING ({KEY})"
    )
    connection.execute(
        f"CREATE OR REPLACE TABLE day_was AS SELECT * FROM day_known SEMI JOIN day_key USING ({KEY})"
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


def _create_redo(connection: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Make ``day_redo``: what came, the newborns of whoever came or went, dates come true.

    Their mothers are there to be borrowed from; they are not made anew (``day_redo.is_redo``), since a mother who is a
    newborn herself would need her own.
    """
    kept = state.KEPT
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_redo AS
        WITH again AS (SELECT rec_id FROM {kept}.mother m WHERE EXISTS (SELECT 1 FROM day_key t
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


def _choose(connection: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Fill ``source_record`` with the registrations of ``day_redo``."""
    connection.execute(
        f"CREATE OR REPLACE TABLE day_extra AS SELECT {KEY} FROM day_redo ANTI JOIN day_arrived USING ({KEY})"
    )
    systems = [s for (s,) in connection.execute("SELECT DISTINCT source_system FROM day_extra").fetchall()]
    rows = "SELECT * FROM day_arrived"
    if systems:
        rows += f" UNION ALL BY NAME {sources.registrations(run, 'day_extra', systems=systems)}"
    sources.create_source_record(connection)
    connection.execute(
        f"""INSERT INTO source_record BY NAME
        SELECT row_number() OVER (ORDER BY {KEY}) - 1 AS rec_no, * FROM ({rows})"""
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
        FROM source_record d LEFT JOIN day_known k USING ({KEY})"""
    )
    for table, name, given in (
        ("source_record", "day_source", f"{KEY}, mother_identifier"),
        ("future", "day_future", "day"),
    ):
        connection.execute(
            f"CREATE OR REPLACE TABLE {name} AS SELECT rec_id, {given} FROM {table} JOIN day_id USING (rec_no)"
        )
    connection.execute(
        f"""CREATE OR REPLACE TABLE day_record AS
        SELECT i.rec_id, r.* EXCLUDE (rec_no) FROM record r JOIN day_id i USING (rec_no)
        SEMI JOIN (SELECT {KEY} FROM day_redo WHERE is_redo) USING ({KEY})"""
    )
    _drop_unchanged(connection)
    day_homes.mark(connection)


#: So many records made anew are settled anew without asking whether they differ: the question reads the whole state.
_FEW = 2_000


def _drop_unchanged(connection: duckdb.DuckDBPyConnection) -> None:
    """Take out of ``day_record`` what is as it was, where that may be much (a register delivered once more)."""
    kept = state.KEPT
    standing = f"(SELECT * FROM day_record WHERE rec_id <= (SELECT max(rec_id) FROM {kept}.record))"
    if connection.execute(f"SELECT count(*) FROM {standing}").fetchall()[0][0] <= _FEW:
        return
    columns = state.record_columns(connection, "record").replace("is_multiple_birth, ", "")
    connection.execute(
        f"""DELETE FROM day_record WHERE rec_id IN (
            SELECT rec_id FROM (SELECT rec_id, {columns} FROM {standing} INTERSECT
                                SELECT rec_id, {columns} FROM {kept}.record SEMI JOIN day_record USING (rec_id)))"""
    )
