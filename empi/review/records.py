"""The records behind pairs, as given and standardised, by the very rules and frozen statistics of the last run.

The kept state (``empi.state``) is one file with one user at a time: what is needed of it is copied and it is let go at
once, so that a person who looks at a pair never keeps a run waiting. While a run holds it, or before any run made
one, records are standardised by what they say themselves, and frequencies and neighbours are not told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

import duckdb
import pyarrow as pa

from empi import model, sources, state
from empi.id_numbers import create_macros
from empi.review.pairs import COLUMNS, RecordKey
from empi.standardise import standardise
from lake import duck, ledger, runs
from lake.errors import MedlakeError
from lake.local_time import local_today
from lake.runs import Run

KEYS = ", ".join(COLUMNS)
_FROZEN = ("region", "nearby", "shared_id", "shared_phone")
#: What others in the registers may share with a record.
_NEIGHBOUR = "phone, kin_phone, town, village, house, source_system, org_code"


@dataclass
class Bench:
    """A connection with views ``silver.*`` and, for the records asked for, ``source_record`` and ``record``.

    ``neighbour`` holds whoever else has one of their telephones or homes (``is_informed`` tells whether that, the
    frequencies and the number of records are known).
    """

    connection: duckdb.DuckDBPyConnection
    run: Run
    number: dict[RecordKey, int] = field(default_factory=dict)
    is_informed: bool = False
    records: int = 0
    shares: dict[tuple[str, str], float] = field(default_factory=dict)
    unseen: dict[str, float] = field(default_factory=dict)

    def frequency(self, column: str, value: str) -> float | None:
        """Share of records with a value, as the last full run counted it; None if that is not known."""
        return self.shares.get((column, value), self.unseen.get(column))


def visible_run(data_date: date | None = None) -> Run:
    """What readers may see now, in the shape of a run.

    Raises:
        MedlakeError: E350, nothing was linked yet.
    """
    versions = ledger.visible("silver/")
    if "silver/person_identifier" not in versions:
        raise MedlakeError("E350")
    newest = runs.latest_run()
    return Run("", data_date or (newest.data_date if newest else local_today()), versions)


@contextmanager
def bench(run: Run | None = None) -> Iterator[Bench]:
    """A connection to look at pairs with, closed at the end."""
    run = run or visible_run()
    connection = duck.connect()
    try:
        duck.create_views(connection, run.versions)
        create_macros(connection)
        yield Bench(connection, run)
    finally:
        connection.close()


def register_keys(connection: duckdb.DuckDBPyConnection, name: str, keys: Iterable[RecordKey]) -> None:
    """Make a table of record keys."""
    distinct = sorted(set(keys))
    columns = {c: pa.array([k[i] for k in distinct], pa.string()) for i, c in enumerate(COLUMNS)}
    connection.register("given_keys", pa.table(columns))
    connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM given_keys")
    connection.unregister("given_keys")


def collect(on: Bench, keys: Iterable[RecordKey]) -> None:
    """Fill ``source_record`` with the records asked for that are in the registers now, and their mothers."""
    connection = on.connection
    register_keys(connection, "asked", keys)
    sources.create_source_record(connection)
    connection.execute("CREATE OR REPLACE TABLE found AS SELECT * EXCLUDE (rec_no) FROM source_record")
    wanted = f"SELECT {KEYS} FROM asked"
    mothers = (
        "SELECT source_system, org_code, mother_identifier FROM found WHERE mother_identifier IS NOT NULL"
    )
    for asked_for in (wanted, mothers):
        # an institution's systems know a patient by one number: it is looked up in all of them
        connection.execute(
            f"""CREATE OR REPLACE TABLE looked_up AS
            SELECT DISTINCT s.source_system, a.org_code, a.identifier_value
            FROM ({asked_for}) a({KEYS}) CROSS JOIN (VALUES ('his'), ('lis'), ('pacs'), ('public_health')) s(source_system)
            WHERE (a.source_system = 'public_health') = (s.source_system = 'public_health')"""
        )
        systems = connection.execute(
            f"SELECT DISTINCT a.source_system FROM ({asked_for}) a({KEYS})"
        ).fetchall()
        run = _only(on.run, {str(row[0]) for row in systems})
        if not systems or not run.versions:
            continue
        connection.execute(
            f"""INSERT INTO found BY NAME SELECT * FROM ({sources.registrations(run, "looked_up")})
            SEMI JOIN (SELECT * FROM ({asked_for}) a({KEYS})) USING ({KEYS}) ANTI JOIN found USING ({KEYS})"""
        )
    connection.execute(
        f"INSERT INTO source_record BY NAME SELECT row_number() OVER (ORDER BY {KEYS}) - 1 AS rec_no, * FROM found"
    )
    rows = connection.execute(f"SELECT {KEYS}, rec_no FROM source_record SEMI JOIN asked USING ({KEYS})")
    on.number = {RecordKey(*row[:3]): int(row[3]) for row in rows.fetchall()}


def _only(run: Run, systems: set[str]) -> Run:
    """The run with just the tables that records of the systems come from: messages are many, and seldom asked for."""
    wanted = set(sources.REGISTERS) | {sources.KEYS[s][0] for s in systems if s in sources.KEYS}
    return Run(run.run_id, run.data_date, {n: v for n, v in run.versions.items() if n in wanted})


def load(on: Bench, keys: Iterable[RecordKey]) -> None:
    """Make ``source_record``, ``record`` and ``neighbour`` for the records; fill what the bench knows of the rest."""
    connection = on.connection
    collect(on, keys)
    with attached(connection) as is_frozen:
        for table in _FROZEN if is_frozen else ():
            connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM {state.STATISTICS}.{table}")
    standardise(connection, on.run.data_date, frozen=is_frozen)
    with attached(connection) as is_there:
        on.is_informed = is_frozen and is_there
        _learn(on)


@contextmanager
def attached(connection: duckdb.DuckDBPyConnection) -> Iterator[bool]:
    """The kept state for reading; False while a run has it, or if there is none of this software's making."""
    is_there = state.path().exists()
    if is_there:
        try:
            connection.execute(f"ATTACH '{state.path()}' AS {state.KEPT} (READ_ONLY)")
            connection.execute(f"SELECT calibration_id, records FROM {state.STATISTICS}.about").fetchall()
            connection.execute(f"SELECT {_NEIGHBOUR} FROM {state.KEPT}.record LIMIT 0").fetchall()
        except duckdb.Error:
            is_there = False
    try:
        yield is_there
    finally:
        state.detach(connection)


def _learn(on: Bench) -> None:
    connection = on.connection
    if not on.is_informed:
        connection.execute(
            f"CREATE OR REPLACE TABLE neighbour AS SELECT {_NEIGHBOUR}, NULL AS empi_id FROM record LIMIT 0"
        )
        counted = connection.execute(
            "SELECT count(*) FROM silver.person_identifier WHERE identifier_type = 'MR' AND valid_to IS NULL"
        )
        on.records = int(counted.fetchall()[0][0])
        return
    kept, statistics = state.KEPT, state.STATISTICS
    on.records = int(connection.execute(f"SELECT records FROM {statistics}.about").fetchall()[0][0])
    on.unseen = {
        str(c): float(tf)
        for c, tf in connection.execute(f"SELECT column_name, tf FROM {statistics}.unseen").fetchall()
    }
    for column in model.FREQUENCY.values():
        rows = connection.execute(
            f"SELECT {column}, tf_{column} FROM {statistics}.frequency_{column} SEMI JOIN record USING ({column})"
        )
        on.shares |= {(column, str(value)): float(tf) for value, tf in rows.fetchall()}
    # what a small set cannot tell: whole homes are needed to see who was born together
    connection.execute(
        f"""UPDATE record SET is_multiple_birth = k.is_multiple_birth FROM {kept}.record k
        WHERE k.source_system = record.source_system AND k.org_code = record.org_code
              AND k.identifier_value = record.identifier_value"""
    )
    connection.execute(
        f"""CREATE OR REPLACE TABLE neighbour AS
        SELECT {", ".join(f"k.{c.strip()}" for c in _NEIGHBOUR.split(","))}, k.identifier_value, p.empi_id
        FROM {kept}.record k LEFT JOIN {kept}.person p USING (rec_id)
        WHERE k.phone IN (SELECT phone FROM record) OR k.phone IN (SELECT kin_phone FROM record)
              OR (k.village IS NOT NULL AND k.house IS NOT NULL
                  AND (coalesce(k.town, ''), k.village, k.house) IN
                      (SELECT (coalesce(town, ''), village, house) FROM record))"""
    )


def fingerprints(on: Bench) -> dict[RecordKey, str]:
    """SHA-256 of what each record of ``source_record`` says, standardised by itself (``collect`` was called).

    Only what the record itself says goes in, nothing that other records change (how many share a telephone): a decision
    is asked for again when its ground changes, not when the city grows.
    """
    from empi import addresses
    from empi.standardise import _MACROS, register_names

    connection = on.connection
    for macro in _MACROS:
        connection.execute(macro)
    addresses.create_macros(connection)
    register_names(connection)
    rows = connection.execute(
        f"""SELECT {KEYS}, sha256(to_json([
            coalesce(n.nm, n.mother_nm), n.birth_mark, s.sex_code, s.birth_date::VARCHAR,
            coalesce(id_18(id_clean(s.id_no)), id_clean(s.id_no)), card_plain(s.health_card_no),
            card_plain(s.insurance_no), phone_digits(s.phone), k.nm, phone_digits(s.contact_phone),
            s.mother_identifier, s.addr_region_code, addr_clean(s.addr_detail)])::VARCHAR)
        FROM source_record s LEFT JOIN name_key n USING (name) LEFT JOIN name_key k ON k.name = s.contact_name"""
    )
    return {RecordKey(*row[:3]): str(row[3]) for row in rows.fetchall()}
