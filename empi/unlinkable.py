"""Registrations that cannot be found to be anybody's, and why: ``silver/unlinkable``, for whoever corrects them.

A record that no blocking rule proposes, and that has no trusted id with a name either, is compared with nobody: it is
a person of its own whatever the others say. The reason tells what would have to be corrected at the source.
"""

from __future__ import annotations

import duckdb

from empi import state
from empi.blocking import key_column
from empi.decisions import RecordKey
from empi.model import BLOCKING

TABLE = "silver/unlinkable"
KEY = RecordKey._fields

#: Reason -> condition on an unlinkable record ``r`` with its given values ``s``; the first that holds is told.
REASONS: dict[str, str] = {
    # nobody knows who it was (无名氏): linked to nobody by rule
    "unknown_person": "r.is_unknown",
    # its only number is one that too many share
    "shared_id": "id_18(id_clean(s.id_no)) IN (SELECT idno FROM shared_id)",
    "shared_phone": "mobile(phone_digits(s.phone)) IN (SELECT phone_11 FROM shared_phone)",
    # it agrees with more records than a family, a village of one name or a ward has (empi.blocking.BLOCK_MAX_RECORDS)
    "crowded_key": "r.rec_no IN (SELECT rec_no FROM crowded)",
    "no_usable_field": "coalesce(r.nm, r.dob, r.phone, r.kin_phone, r.kin_nm, r.village) IS NULL",
    # a name alone, a birth date alone: as good as anybody's
    "too_few_fields": "true",
}


def _complete(rule: tuple[str, ...]) -> str:
    return "(" + " AND ".join(f"{key_column(c, 'r')} IS NOT NULL" for c in rule) + ")"


def _crowded() -> str:
    """Rows ``(rec_no)``, one for each rule by which a record belongs to a crowd."""
    return " UNION ALL ".join(
        f"SELECT r.rec_no FROM record r JOIN crowd_{number} x ON "
        + " AND ".join(f"{key_column(c, 'r')} = x.k{i}" for i, c in enumerate(rule))
        for number, rule in enumerate(BLOCKING)
    )


def find(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Make ``unlinkable(rec_no, reason)``; returns how many records there are of each reason that occurs.

    Reads ``record`` and ``source_record``, the crowds (:func:`empi.blocking.find_crowds`) and ``shared_id`` and
    ``shared_phone``, with the macros that :func:`empi.standardise.standardise` made. A record that a person decided
    about is told all the same: the decision, not its fields, says whose it is.
    """
    ways = " + ".join(f"{_complete(rule)}::INTEGER" for rule in BLOCKING)
    reason = " ".join(f"WHEN {sql} THEN '{name}'" for name, sql in REASONS.items())
    connection.execute(
        f"""CREATE OR REPLACE TABLE crowded AS SELECT rec_no, count(*) AS rules FROM ({_crowded()}) GROUP BY rec_no"""
    )
    connection.execute(
        f"""CREATE OR REPLACE TABLE unlinkable AS
        WITH alone AS (
            SELECT r.* FROM record r LEFT JOIN crowded c USING (rec_no)
            WHERE r.is_unknown OR (({ways}) = coalesce(c.rules, 0) AND NOT (r.id_own AND r.nm IS NOT NULL)))
        SELECT r.rec_no, CASE {reason} END AS reason
        FROM alone r JOIN source_record s ON s.rec_no = r.rec_no ORDER BY r.rec_no"""
    )
    rows = connection.execute("SELECT reason, count(*) FROM unlinkable GROUP BY reason ORDER BY reason")
    return {str(name): int(count) for name, count in rows.fetchall()}


def create_unlinkable(connection: duckdb.DuckDBPyConnection, run_id: str, before: str | None) -> int:
    """Make ``unlinkable_key(source_system, org_code, identifier_value, reason, run_id)``; returns its length.

    ``before``: FROM text of the visible table, for an incremental run: it tells anew of the records that it drew in and
    keeps the others, but for those that went away.
    """
    find(connection)
    key = ", ".join(KEY)
    connection.execute(
        f"""CREATE OR REPLACE TABLE unlinkable_key AS
        SELECT {", ".join(f"s.{c}" for c in KEY)}, u.reason, '{run_id}' AS run_id
        FROM unlinkable u JOIN source_record s USING (rec_no)"""
    )
    if before:
        connection.execute(
            f"""INSERT INTO unlinkable_key BY NAME SELECT p.* FROM {before} p
            WHERE ({key}) NOT IN (SELECT ({key}) FROM source_record)
              AND ({key}) NOT IN (SELECT ({key}) FROM {state.KEPT}.record SEMI JOIN day_gone USING (rec_id))"""
        )
    return int(connection.execute("SELECT count(*) FROM unlinkable_key").fetchall()[0][0])
