"""The step ``link``: collect, standardise, score, guard, join, settle ids, write. Keyed by date, re-runnable."""

from __future__ import annotations

import time
from datetime import date
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from empi import golden, registry, scoring, sources
from empi.clustering import Clusters, constrained_union
from empi.standardise import standardise
from lake import kill, ledger, lineage, runs, tables
from lake.errors import MedlakeError
from lake.log import logger

PERSON, IDENTIFIER, EVENT = "silver/person", "silver/person_identifier", "silver/person_event"

_log = logger("empi")


def _column(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    return dict(connection.execute(sql).fetchnumpy())


def cluster(connection: duckdb.DuckDBPyConnection, records: int) -> Clusters:
    """Make ``cluster(rec_no, cluster_no, link_cause)`` from ``edge``, ``record`` and ``decision``.

    Raises:
        MedlakeError: E303, decisions want a pair both together and apart.
    """
    edges = _column(connection, "SELECT rec_l, rec_r, weight FROM edge")
    ids = _column(
        connection,
        """SELECT rec_no, dense_rank() OVER (ORDER BY idno) - 1 AS id_number FROM record
           WHERE id_own AND NOT is_unknown""",
    )
    apart = _column(connection, "SELECT rec_l, rec_r FROM decision WHERE decision = 'cannot_link'")
    trusted = np.full(records, -1, dtype=np.int64)
    trusted[ids["rec_no"]] = ids["id_number"]
    cannot = np.stack([apart["rec_l"], apart["rec_r"]], axis=1).astype(np.int64)
    left, right = (np.asarray(edges[c], dtype=np.int64) for c in ("rec_l", "rec_r"))
    joined = constrained_union(records, left, right, np.asarray(edges["weight"], np.float64), trusted, cannot)
    _check_decisions(connection, joined)
    found = pa.table({"rec_no": pa.array(np.arange(records)), "cluster_no": pa.array(joined.label)})
    connection.register("cluster_arrow", found)
    # why a record is where it is: the strongest reason among its accepted pairs inside the person
    connection.execute(
        """CREATE OR REPLACE TABLE cluster AS
        WITH reason AS (
            SELECT e.rec_l, e.rec_r, e.cause FROM edge e
            JOIN cluster_arrow l ON l.rec_no = e.rec_l JOIN cluster_arrow r ON r.rec_no = e.rec_r
            WHERE l.cluster_no = r.cluster_no),
        best AS (SELECT rec_no, arg_min(cause, list_position(['decision', 'same_id', 'score'], cause)) AS cause
                 FROM (SELECT rec_l AS rec_no, cause FROM reason UNION ALL SELECT rec_r, cause FROM reason)
                 GROUP BY rec_no)
        SELECT c.rec_no, c.cluster_no, coalesce(b.cause, 'first_seen') AS link_cause
        FROM cluster_arrow c LEFT JOIN best b USING (rec_no)"""
    )
    connection.unregister("cluster_arrow")
    return joined


def _check_decisions(connection: duckdb.DuckDBPyConnection, joined: Clusters) -> None:
    decided = _column(connection, "SELECT rec_l, rec_r FROM decision WHERE decision = 'must_link'")
    broken = int((joined.label[decided["rec_l"]] != joined.label[decided["rec_r"]]).sum())
    if broken:
        raise MedlakeError("E303", place=sources.DECISIONS, count=broken)


def _write(connection: duckdb.DuckDBPyConnection, visible: dict[str, int]) -> dict[str, int]:
    """Write the three tables; each starts from its visible version, so what a killed run left does not count.

    A table whose content is already what it should be keeps its version.
    """
    written: dict[str, int] = {}
    if EVENT in visible and tables.version(EVENT) != visible[EVENT]:
        tables.restore(EVENT, visible[EVENT])
    events = connection.execute("SELECT * FROM event ORDER BY event_type, event_id").to_arrow_table()
    if EVENT not in visible:
        written[EVENT] = tables.overwrite(EVENT, events)
    elif len(events):
        written[EVENT] = tables.append(EVENT, events)
    else:
        written[EVENT] = tables.version(EVENT)
    kill.point("empi.events_written")
    for name, table, order in (
        (
            IDENTIFIER,
            "crosswalk",
            "empi_id, identifier_type, source_system, org_code, identifier_value, valid_from",
        ),
        (PERSON, "person", "empi_id"),
    ):
        at = visible.get(name)
        if (
            at is not None
            and tables.version(name) == at
            and _same(connection, table, tables.scan_sql(name, at))
        ):
            written[name] = at
            continue
        rows = connection.execute(f"SELECT * FROM {table} ORDER BY {order}").to_arrow_reader(200_000)
        written[name] = tables.overwrite(name, rows)
        kill.point(f"empi.{table}_written")
    return written


def _same(connection: duckdb.DuckDBPyConnection, table: str, scan: str) -> bool:
    columns = ", ".join(r[0] for r in connection.execute(f"DESCRIBE {table}").fetchall())
    fingerprint = (
        f"SELECT count(*), bit_xor(hash(t)), sum(hash(t) % 1000003) FROM (SELECT {columns} FROM {{}}) t"
    )
    first, second = (connection.execute(fingerprint.format(s)).fetchall() for s in (table, scan))
    return first == second


def resolve(connection: duckdb.DuckDBPyConnection, today: date, records: int) -> dict[str, int]:
    """From ``source_record`` and ``decision`` to ``cluster``: everything but ids and files. Returns counts."""
    standardise(connection, today)
    pairs = scoring.score(connection, records)
    edges = scoring.accept(connection)
    joined = cluster(connection, records)
    guarded = connection.execute("SELECT count(*) FROM pair WHERE guard IS NOT NULL").fetchall()[0][0]
    return {"pairs": pairs, "edges": edges, "guarded": int(guarded), "cut": joined.cut}


@lineage.stepped("empi.link")
def link(data_date: date) -> dict[str, Any]:
    """See :func:`empi.link`."""
    started = time.monotonic()
    run = runs.open_run(data_date)
    visible = {n: v for n, v in ledger.visible("silver/").items() if n in (PERSON, IDENTIFIER, EVENT)}
    connection = sources.connect(run)
    try:
        records = sources.collect(connection, run)
        sources.collect_decisions(connection, run)
        sources.collect_deaths(connection, run)
        counts = resolve(connection, data_date, records)
        before = tables.scan_sql(IDENTIFIER, visible[IDENTIFIER]) if IDENTIFIER in visible else None
        registry.create_previous(connection, before)
        registry.assign_ids(connection, run.run_id)
        registry.build_crosswalk(connection, data_date)
        changes = registry.build_events(connection, run.run_id, data_date)
        golden.build_person(connection)
        persons = int(connection.execute("SELECT count(*) FROM person").fetchall()[0][0])
        runs.record_output(run, _write(connection, visible))
    finally:
        connection.close()
    result: dict[str, Any] = {"run_id": run.run_id, "data_date": data_date.isoformat(), "records": records}
    result |= {"persons": persons, **counts, "created": changes["create"], "linked": changes["link"]}
    result |= {"merged": changes["merge"], "split": changes["split"]}
    result["seconds"] = round(time.monotonic() - started, 2)
    _log.info("linked", **{k: v for k, v in result.items() if k not in ("guarded", "cut", "linked")})
    return result
