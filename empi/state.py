"""What a run leaves for the next: records as standardised, scored pairs, persons and frozen statistics.

One DuckDB file, ``<home>/empi/state.duckdb`` (patient data: the folder is the service account's alone, like the lake).
A full run writes it anew beside the old one and swaps it in; an incremental run changes it in one transaction. It is
worth something only as long as the crosswalk it belongs to is the visible one, so whatever is killed between the two
costs a full run and never a wrong person. Records have a ``rec_id`` here that lasts from run to run.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from empi import calibration, keys, model
from lake.errors import MedlakeError
from lake.settings import settings

#: Name under which the file is attached, and its schema of frozen statistics.
KEPT = "kept"
STATISTICS = f"{KEPT}.calibration"
FORMAT = 2
#: Seconds to wait for a reader of the state.
_PATIENCE = 5.0
#: Choosing a compression for each column by trial costs half as much again as this one, and gains a tenth of the size.
_COMPRESSION = "fsst"

_MODULES = (
    "standardise names variants look_alikes addresses id_numbers families blocking keys model guards scoring clustering "
    "golden"
).split()


@dataclass(frozen=True)
class About:
    """What a state belongs to. ``versions`` are those of the silver tables that were read."""

    run_id: str
    data_date: date
    full_date: date  # of the full run that it goes back to
    calibration_id: str
    crosswalk_version: int
    fingerprint: str
    versions: dict[str, int]
    records: int

    def text(self) -> str:
        return json.dumps(
            asdict(self)
            | {"data_date": str(self.data_date), "full_date": str(self.full_date), "format": FORMAT}
        )


def path() -> Path:
    return settings().home / "empi" / "state.duckdb"


def fingerprint() -> str:
    """Changes with the software that standardises, proposes, scores and joins, and with the model in force."""
    digest = hashlib.sha256(model.path().read_bytes())
    for name in _MODULES:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    digest.update(Path(__file__).with_name("survivorship.yaml").read_bytes())
    digest.update(duckdb.__version__.encode())  # another release may number keys otherwise (empi.keys)
    return digest.hexdigest()[:16]


def _attach_in_turn(connection: duckdb.DuckDBPyConnection) -> None:
    """Whoever only looks something up in the state (a review page) holds it for less than a second: wait for that."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute(f"ATTACH '{path()}' AS {KEPT}")
            return
        except duckdb.IOException as error:
            if "lock" not in str(error).lower() or time.monotonic() > until:
                raise
            time.sleep(0.1)


def attach(connection: duckdb.DuckDBPyConnection) -> About | None:
    """Attach the state as ``kept``. None if there is none, or none that this software can read.

    Raises:
        MedlakeError: E315, another process is linking.
    """
    if not path().exists():
        return None
    try:
        _attach_in_turn(connection)
        found = read_about(connection)
    except duckdb.IOException as error:
        if "lock" in str(error).lower():
            raise MedlakeError("E315", place=path().name) from error
        return None
    except (duckdb.Error, ValueError, IndexError):
        detach(connection)
        return None
    if found is None:
        detach(connection)
    return found


def read_about(connection: duckdb.DuckDBPyConnection) -> About | None:
    """What the attached state belongs to; None if its format is another one."""
    found: dict[str, Any] = json.loads(
        connection.execute(f"SELECT content FROM {KEPT}.about").fetchall()[0][0]
    )
    if found.pop("format", None) != FORMAT:
        return None
    days = {k: date.fromisoformat(found[k]) for k in ("data_date", "full_date")}
    return About(**(found | days))


def detach(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"DETACH DATABASE IF EXISTS {KEPT}")


def record_columns(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """The columns of a working table but ``rec_no``, as text for SELECT."""
    return ", ".join(
        r[0] for r in connection.execute(f"DESCRIBE {table}").fetchall() if r[0] not in ("rec_no", "rec_id")
    )


def write(connection: duckdb.DuckDBPyConnection, about: About, *, renew: bool = True) -> None:
    """Keep the working tables of a full run (see ``empi.linking.resolve``) as the state.

    Reads ``source_record, record, future, pair, edge, cluster, now, decided`` and the statistics. ``renew``: the
    statistics are this run's own; otherwise they are those of the state that is attached.
    """
    settings().folder("empi").chmod(0o700)
    draft = path().with_suffix(".draft")
    for stale in (draft, draft.with_name(draft.name + ".wal")):
        stale.unlink(missing_ok=True)
    connection.execute(f"ATTACH '{draft}' AS draft")
    connection.execute(f"SET force_compression = '{_COMPRESSION}'")
    try:
        for table in ("record", "future"):
            columns = record_columns(connection, table)
            connection.execute(
                f"CREATE TABLE draft.{table} AS SELECT rec_no::BIGINT AS rec_id, {columns} FROM {table}"
            )
        connection.execute(
            f"CREATE TABLE draft.key AS {keys.select('(SELECT rec_no::BIGINT AS rec_id, * FROM record)')}"
        )
        connection.execute(
            """CREATE TABLE draft.mother AS SELECT rec_no::BIGINT AS rec_id, source_system, org_code, mother_identifier
            FROM source_record WHERE mother_identifier IS NOT NULL"""
        )
        columns = pair_columns(connection)
        connection.execute(
            f"CREATE TABLE draft.pair AS SELECT rec_l::BIGINT AS id_l, rec_r::BIGINT AS id_r, {columns} FROM pair"
        )
        connection.execute(
            "CREATE TABLE draft.person AS SELECT rec_no::BIGINT AS rec_id, cluster_no::BIGINT AS cluster_id, empi_id "
            "FROM now"
        )
        connection.execute(
            """CREATE TABLE draft.cut AS SELECT e.rec_l::BIGINT AS id_l, e.rec_r::BIGINT AS id_r FROM edge e
            JOIN cluster l ON l.rec_no = e.rec_l JOIN cluster r ON r.rec_no = e.rec_r
            WHERE l.cluster_no <> r.cluster_no"""
        )
        connection.execute("CREATE TABLE draft.decided AS SELECT * FROM decided")
        if renew:
            calibration.save(connection, "draft.calibration", about.records, about.calibration_id)
        else:
            calibration.copy(connection, STATISTICS, "draft.calibration")
        connection.execute("CREATE TABLE draft.about AS SELECT $1::VARCHAR AS content", [about.text()])
    finally:
        connection.execute("DETACH draft")
        connection.execute("SET force_compression = 'auto'")
    detach(connection)
    draft.replace(path())


def pair_columns(connection: duckdb.DuckDBPyConnection) -> str:
    """The columns of ``pair`` but the two record numbers."""
    return ", ".join(
        r[0] for r in connection.execute("DESCRIBE pair").fetchall() if r[0] not in ("rec_l", "rec_r")
    )


def update(connection: duckdb.DuckDBPyConnection, about: About) -> None:
    """Put an incremental run's records, pairs and persons in the place of what the attached state says, and detach it.

    One transaction: the cost is that of the records drawn in, and a killed one has not happened.
    """
    connection.execute("BEGIN")
    try:
        mothers = "(SELECT * EXCLUDE (identifier_value) FROM day_source WHERE mother_identifier IS NOT NULL)"
        for table, rows, whose in (
            ("record", "day_record", "day_record"),
            ("key", f"({keys.select('day_record')})", "day_record"),
            ("mother", mothers, "day_source"),
            ("future", "day_future", "day_source"),
        ):
            connection.execute(
                f"""DELETE FROM {KEPT}.{table}
                WHERE rec_id IN (SELECT rec_id FROM day_gone) OR rec_id IN (SELECT rec_id FROM {whose})"""
            )
            connection.execute(f"INSERT INTO {KEPT}.{table} BY NAME SELECT * FROM {rows}")
        stale = "SELECT rec_id FROM day_stale"
        connection.execute(f"DELETE FROM {KEPT}.pair WHERE id_l IN ({stale}) OR id_r IN ({stale})")
        connection.execute(f"INSERT INTO {KEPT}.pair BY NAME SELECT * FROM day_pair")
        drawn = "SELECT rec_id FROM local UNION SELECT rec_id FROM day_gone"
        connection.execute(f"DELETE FROM {KEPT}.person WHERE rec_id IN ({drawn})")
        connection.execute(
            f"""INSERT INTO {KEPT}.person BY NAME
            SELECT l.rec_id, c.rec_id AS cluster_id, n.empi_id
            FROM now n JOIN local l ON l.rec_no = n.rec_no JOIN local c ON c.rec_no = n.cluster_no"""
        )
        connection.execute(f"DELETE FROM {KEPT}.cut WHERE id_l IN ({drawn}) OR id_r IN ({drawn})")
        connection.execute(
            f"""INSERT INTO {KEPT}.cut SELECT a.rec_id, b.rec_id FROM edge e
            JOIN cluster l ON l.rec_no = e.rec_l JOIN cluster r ON r.rec_no = e.rec_r
            JOIN local a ON a.rec_no = e.rec_l JOIN local b ON b.rec_no = e.rec_r WHERE l.cluster_no <> r.cluster_no"""
        )
        connection.execute(f"DELETE FROM {KEPT}.decided")
        connection.execute(f"INSERT INTO {KEPT}.decided BY NAME SELECT * FROM decided")
        connection.execute(f"UPDATE {KEPT}.about SET content = $1", [about.text()])
        connection.execute("COMMIT")
    except duckdb.Error:
        connection.execute("ROLLBACK")
        raise
    detach(connection)
