"""What a run changes of persons, as events; with what was before and after where something was before."""

from __future__ import annotations

from datetime import date

import duckdb

from empi.decisions import RecordKey
from empi.sources import as_date

TYPES = ("create", "link", "relink", "merge", "split")
_KEY = ", ".join(RecordKey._fields)


def build_events(connection: duckdb.DuckDBPyConnection, run_id: str, data_date: date) -> dict[str, int]:
    """Make ``person_change`` and the view ``event`` (new rows of ``silver/person_event``). Returns counts by type.

    ``create``: a new id, with its first record. ``link``: a new record came to a person. ``relink``: a record came from
    ``other_empi_id``. ``split``: a new id took records of ``other_empi_id``. ``merge``: ``other_empi_id`` is retired
    into the id. Merges and splits carry both persons' records ``before`` and ``after`` (JSON ``{empi_id: [record]}``).

    Reads ``held``, ``now``, ``was`` and ``assigned``. ``person_change`` holds merges and splits (and what people changed,
    ``empi.replay``); to them the view adds what happened to records: at a first load each record is an event, and those
    are made only while they are written.
    """
    connection.execute(
        """CREATE OR REPLACE TABLE moved AS
        SELECT n.rec_no, n.empi_id, n.is_new, n.cluster_no, w.empi_id AS old_id
        FROM now n JOIN was w USING (rec_no) WHERE w.empi_id <> n.empi_id"""
    )
    connection.execute(f"CREATE OR REPLACE TABLE person_change AS {_of_persons(run_id, data_date)}")
    for side, table in (("before", "was"), ("after", "now")):
        _tell_records(connection, side, table)
    records = f"SELECT * FROM ({_of_records(run_id, data_date)})"
    connection.execute(f"CREATE OR REPLACE VIEW event AS FROM person_change UNION ALL BY NAME {records}")
    counts = dict(connection.execute("SELECT event_type, count(*) FROM event GROUP BY 1").fetchall())
    return {kind: int(counts.get(kind, 0)) for kind in TYPES}


def _row(run_id: str, data_date: date, event_type: str, key: str) -> str:
    """Columns of an event, its id made of what it is (MD5 names it, it guards nothing)."""
    return f"""'V' || left(md5(concat_ws('|', '{run_id}', {event_type}, empi_id, coalesce(other_empi_id, ''), {key})), 20)
        AS event_id, {event_type} AS event_type, empi_id, other_empi_id, {key},
        '{run_id}' AS run_id, {as_date(data_date)} AS occurred_on"""


def _of_persons(run_id: str, data_date: date) -> str:
    """SELECT text of merges and splits, with all columns of the table."""
    nothing = ", ".join(f"NULL::VARCHAR AS {c}" for c in _KEY.split(", "))
    later = ", ".join(f"NULL::VARCHAR AS {c}" for c in ("before", "after", "actor", "change_id", "undoes"))
    row = _row(run_id, data_date, "event_type", _KEY)
    return f"""
        WITH heir AS (SELECT old_id, empi_id, count(*) AS records FROM moved
                      WHERE old_id NOT IN (SELECT empi_id FROM assigned) GROUP BY ALL),
        happened AS (
            SELECT DISTINCT 'split' AS event_type, empi_id, old_id AS other_empi_id FROM moved
            WHERE is_new AND old_id IN (SELECT empi_id FROM assigned)
            UNION ALL
            SELECT 'merge', empi_id, old_id FROM heir
            QUALIFY row_number() OVER (PARTITION BY old_id ORDER BY records DESC, empi_id) = 1)
        SELECT {row}, {later} FROM (SELECT *, {nothing} FROM happened)"""


def _of_records(run_id: str, data_date: date) -> str:
    """SELECT text of what happened to records. A new id's first record creates it, and may also have come from another."""
    founds = "is_new AND rec_no = cluster_no"
    kind = f"CASE WHEN {founds} THEN 'create' WHEN old_id IS NULL THEN 'link' ELSE 'relink' END"
    row = _row(run_id, data_date, "event_type", _KEY)
    return f"""
        SELECT {row} FROM (
            SELECT {kind} AS event_type, h.empi_id, CASE WHEN NOT ({founds}) THEN old_id END AS other_empi_id, {_KEY}
            FROM (SELECT h.*, w.empi_id AS old_id FROM held h LEFT JOIN was w USING (rec_no)) h
            WHERE old_id IS DISTINCT FROM h.empi_id)
        UNION ALL
        SELECT {row} FROM (
            SELECT 'relink' AS event_type, m.empi_id, m.old_id AS other_empi_id, {_KEY}
            FROM moved m JOIN held h USING (rec_no) WHERE m.is_new AND m.rec_no = m.cluster_no)"""


def _tell_records(connection: duckdb.DuckDBPyConnection, side: str, table: str) -> None:
    """Write into merges and splits which records each of the two persons had (``was``) or has (``now``)."""
    connection.execute(
        f"""CREATE OR REPLACE TABLE told AS
        WITH involved AS (SELECT event_id, unnest([empi_id, other_empi_id]) AS id FROM person_change),
        held AS (SELECT t.empi_id AS id, list([s.source_system, s.org_code, s.identifier_value]
                                              ORDER BY s.source_system, s.org_code, s.identifier_value) AS records
                 FROM {table} t SEMI JOIN involved i ON i.id = t.empi_id JOIN source_record s USING (rec_no) GROUP BY 1)
        SELECT i.event_id, to_json(map_from_entries(list({{'k': i.id, 'v': coalesce(h.records, [])}} ORDER BY i.id)))::VARCHAR
               AS records
        FROM involved i LEFT JOIN held h USING (id) GROUP BY i.event_id"""
    )
    connection.execute(
        f"UPDATE person_change c SET {side} = told.records FROM told WHERE told.event_id = c.event_id"
    )
