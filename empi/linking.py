"""The step ``link``: collect, standardise, score, guard, join, settle ids, write. Keyed by date, re-runnable."""

from __future__ import annotations

import time
from datetime import date
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from empi import (
    approval,
    candidates,
    crosswalk,
    day_writes,
    decisions,
    golden,
    incremental,
    redirects,
    registry,
    replay,
    run_log,
    scoring,
    sources,
    unlinkable,
)
from empi.clustering import Clusters, Ints, components, constrained_union
from empi.standardise import standardise
from lake import copies, kill, ledger, lineage, runs, tables
from lake.errors import MedlakeError
from lake.log import logger
from lake.runs import Run
from lake.stages import Stages

PERSON, IDENTIFIER, EVENT = "silver/person", "silver/person_identifier", "silver/person_event"
_OUTPUTS = (PERSON, IDENTIFIER, EVENT, redirects.TABLE, candidates.TABLE, unlinkable.TABLE, run_log.TABLE)

_BATCH = 200_000

_log = logger("empi")


def _column(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    return dict(connection.execute(sql).fetchnumpy())


#: Two names of one home and day (a guard calls them twins) that only a nameless newborn joins: it is one of them.
_BRIDGED = """
SELECT DISTINCT p.rec_l, p.rec_r FROM pair p
JOIN beside x ON x.named = p.rec_l JOIN beside y ON y.born = x.born AND y.named = p.rec_r
WHERE p.guard = 'twin'
"""


def _create_beside(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``beside(born, named)``: nameless newborns and the records that an accepted pair joins them to."""
    sides = " UNION ALL ".join(
        f"SELECT b.rec_no AS born, e.{other} AS named FROM birth b JOIN edge e ON e.{one} = b.rec_no "
        "WHERE b.birth_mark IS NOT NULL"
        for one, other in (("rec_l", "rec_r"), ("rec_r", "rec_l"))
    )
    connection.execute(f"CREATE OR REPLACE TABLE beside AS {sides}")


def _apart(connection: duckdb.DuckDBPyConnection, records: int) -> Ints:
    """Pairs (shape (n, 2)) that are two persons: by decision, and bridged ones that no decisions hold together."""
    sides = ("rec_l", "rec_r")
    decided = _column(connection, "SELECT rec_l, rec_r FROM decision WHERE decision = 'must_link'")
    label = components(records, *(np.asarray(decided[c], np.int64) for c in sides))
    said = _column(connection, "SELECT rec_l, rec_r FROM decision WHERE decision = 'cannot_link'")
    bridged = _column(connection, _BRIDGED)
    two, one = (np.stack([np.asarray(t[c], np.int64) for c in sides], axis=1) for t in (said, bridged))
    return np.concatenate([two, one[label[one[:, 0]] != label[one[:, 1]]]])


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
    _create_beside(connection)
    trusted = np.full(records, -1, dtype=np.int64)
    trusted[ids["rec_no"]] = ids["id_number"]
    left, right = (np.asarray(edges[c], dtype=np.int64) for c in ("rec_l", "rec_r"))
    joined = constrained_union(
        records, left, right, np.asarray(edges["weight"], np.float64), trusted, _apart(connection, records)
    )
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
        raise MedlakeError(
            "E303",
            place=sources.DECISIONS,
            count=broken,
            decisions=" ".join(decisions.contradicting()) or "—",
        )


def _write_events(connection: duckdb.DuckDBPyConnection, at: int | None) -> int:
    """Append the run's events to the table's visible version, so that what a killed run left does not count."""
    if at is None:
        return copies.write(connection, EVENT, "SELECT * FROM event")
    if tables.version(EVENT) != at:
        tables.restore(EVENT, at)
    if not connection.execute("SELECT count(*) FROM event").fetchall()[0][0]:
        return tables.version(EVENT)
    columns = {r[0] for r in connection.execute("DESCRIBE event").fetchall()}
    if set(tables.columns(EVENT, at)) != columns:  # written by an older release
        both = f"SELECT * FROM {tables.scan_sql(EVENT, at)} UNION ALL BY NAME SELECT * FROM event"
        return tables.overwrite(EVENT, connection.execute(both).to_arrow_reader(_BATCH))
    return tables.append(
        EVENT, connection.execute("SELECT * FROM event ORDER BY event_type, event_id").to_arrow_reader(_BATCH)
    )


def _write(
    connection: duckdb.DuckDBPyConnection, visible: dict[str, int], made: incremental.Plan, rows_moved: int
) -> dict[str, int]:
    """Write what the run settled; each table starts from its visible version.

    A table whose content is already what it should be keeps its version.
    """
    written = {EVENT: _write_events(connection, visible.get(EVENT))}
    kill.point("empi.events_written")
    if made.is_incremental:
        written[IDENTIFIER] = day_writes.write_identifier(connection, IDENTIFIER, visible[IDENTIFIER])
        kill.point("empi.crosswalk_written")
        written[PERSON] = day_writes.write_person(connection, PERSON, visible[PERSON])
    else:
        written[IDENTIFIER] = _write_crosswalk(connection, visible.get(IDENTIFIER), rows_moved)
        kill.point("empi.crosswalk_written")
        written[PERSON] = _write_persons(connection, visible.get(PERSON))
        kill.point("empi.person_written")
    for name, table, order in (
        (redirects.TABLE, "redirect", "empi_id"),
        (candidates.TABLE, "match_candidate", ", ".join(candidates.SIDES)),
        (unlinkable.TABLE, "unlinkable_key", ", ".join(unlinkable.KEY)),
    ):
        written[name] = _overwrite(connection, name, table, order, visible.get(name))
    return written


def _write_crosswalk(connection: duckdb.DuckDBPyConnection, at: int | None, moved: int) -> int:
    """Write ``crosswalk``, in the order of its persons; ``moved`` rows differ from the visible version."""
    if at is not None and tables.version(IDENTIFIER) == at and not moved:
        return at
    copy = copies.Copy(connection, IDENTIFIER)
    for rows in crosswalk.crosswalk_slices(connection):
        copy.add(rows, bounds=("empi_id",))
    return copy.commit("overwrite")


def _write_persons(connection: duckdb.DuckDBPyConnection, at: int | None) -> int:
    if (
        at is not None
        and tables.version(PERSON) == at
        and _same(connection, "person", tables.scan_sql(PERSON, at))
    ):
        return at
    return copies.write(connection, PERSON, "SELECT * FROM person")


def _overwrite(
    connection: duckdb.DuckDBPyConnection, name: str, table: str, order: str, at: int | None
) -> int:
    if at is not None and tables.version(name) == at and _same(connection, table, tables.scan_sql(name, at)):
        return at
    rows = connection.execute(f"SELECT * FROM {table} ORDER BY {order}").to_arrow_reader(_BATCH)
    return tables.overwrite(name, rows)


def _same(connection: duckdb.DuckDBPyConnection, table: str, scan: str) -> bool:
    """Whether a table of the run holds what is read by ``scan``: the same columns, and a fingerprint of all rows."""
    first, second = (
        {r[0] for r in connection.execute(f"DESCRIBE SELECT * FROM {s}").fetchall()} for s in (table, scan)
    )
    if first != second:  # written by an older release
        return False
    columns = ", ".join(sorted(first))
    fingerprint = (
        f"SELECT count(*), bit_xor(hash(t)), sum(hash(t) % 1000003) FROM (SELECT {columns} FROM {{}}) t"
    )
    ours, theirs = (connection.execute(fingerprint.format(s)).fetchall() for s in (table, scan))
    return bool(ours == theirs)


def resolve(
    connection: duckdb.DuckDBPyConnection, today: date, records: int, kept: str | None = None
) -> dict[str, int]:
    """From ``source_record`` and ``decision`` to ``cluster``: everything but ids and files. Returns counts.

    ``kept``: schema of frozen statistics to use (``empi.calibration.use`` was called), instead of counting anew.
    """
    standardise(connection, today, frozen=kept is not None)
    scoring.score(connection, records, kept)
    return settle(connection, records)


def settle(connection: duckdb.DuckDBPyConnection, records: int) -> dict[str, int]:
    """From ``record``, ``pair`` and ``decision`` to ``edge`` and ``cluster``. Returns counts."""
    edges = scoring.accept(connection)
    joined = cluster(connection, records)
    pairs, guarded = connection.execute(
        "SELECT count(*), count(*) FILTER (guard IS NOT NULL) FROM pair"
    ).fetchall()[0]
    return {"pairs": int(pairs), "edges": edges, "guarded": int(guarded), "cut": joined.cut}


def _draw(
    connection: duckdb.DuckDBPyConnection,
    run: Run,
    made: incremental.Plan,
    before: str | None,
    changes: list[Any],
    clock: Stages,
) -> dict[str, int]:
    """Make ``cluster`` and ``previous``: of all records, or of whoever the day may move. Returns counts."""
    if made.is_incremental and before:
        clock.lap("standardise")
        counts = incremental.draw(connection, run, replay.selected(changes))
        clock.lap("score")
        counts |= settle(connection, counts.pop("records"))
        incremental.recall(connection, before)
        registry.create_previous(connection, incremental.previous_of(before))
    else:
        records = sources.collect(connection, run)
        sources.match_decisions(connection)
        clock.lap("collect")
        standardise(connection, run.data_date)
        connection.execute("DROP TABLE name_key")
        sources.forget_passing(connection)
        clock.lap("standardise")
        scoring.score(connection, records)
        clock.lap("score")
        counts = settle(connection, records)
        registry.create_previous(connection, before, is_whole=True)
    clock.lap("cluster")
    return counts


@lineage.stepped("empi.link")
def link(data_date: date, *, mode: str = "auto") -> dict[str, Any]:
    """See :func:`empi.link`."""
    started, clock = time.monotonic(), Stages("link", _log)
    decisions.take_answers()
    decisions.snapshot()
    run = runs.open_run(data_date)
    visible = {n: v for n, v in ledger.visible("silver/").items() if n in _OUTPUTS}
    scans = {n: tables.scan_sql(n, v) for n, v in visible.items()}
    before = scans.get(IDENTIFIER)
    connection = sources.connect(run)
    try:
        sources.collect_decided(connection, run)
        changes = replay.collect(connection)
        made = incremental.plan(connection, run, visible.get(IDENTIFIER), mode=mode)
        sources.collect_deaths(connection, run)
        counts = _draw(connection, run, made, before, changes, clock)
        everyone = before if made.is_incremental else None
        registry.assign_ids(connection, run.run_id, everyone, is_replayed=bool(changes))
        rows_moved = registry.build_crosswalk(connection, data_date, is_replayed=bool(changes))
        moved = registry.build_events(connection, run.run_id, data_date)
        if PERSON in visible:
            approval.check(connection, run, tables.row_count(PERSON, visible[PERSON]))
        replay.into_events(connection, run.run_id, data_date, scans.get(EVENT) if changes else None)
        redirects.create_redirect(connection, scans.get(redirects.TABLE))
        counts["uncertain"] = candidates.create_candidate(
            connection, run.run_id, scans.get(candidates.TABLE) if made.is_incremental else None
        )
        counts["unlinkable"] = unlinkable.create_unlinkable(
            connection, run.run_id, scans.get(unlinkable.TABLE) if made.is_incremental else None
        )
        clock.lap("registry")
        golden.build_person(connection, data_date)
        clock.lap("golden")
        written = _write(connection, visible, made, rows_moved)
        clock.lap("write")
        persons = tables.row_count(PERSON, written[PERSON])
        told = {
            "mode": made.mode,
            "reason": made.reason,
            "persons": persons,
            **counts,
            **_moved(moved, changes),
        }
        written[run_log.TABLE] = run_log.write(run, told, visible.get(run_log.TABLE))
        runs.record_output(run, written)
        kill.point("empi.outputs_recorded")
        replay.taken(changes, run.run_id)
        records = incremental.keep(connection, made, run, written[IDENTIFIER])
        clock.lap("keep")
    finally:
        connection.close()
    result: dict[str, Any] = {"run_id": run.run_id, "data_date": data_date.isoformat(), "records": records}
    result |= told
    result["seconds"] = round(time.monotonic() - started, 2)
    logged = (
        "guarded",
        "cut",
        "linked",
        "mode",
        "reason",
        "candidates",
        "core",
        "uncertain",
        "unlinkable",
        "replayed",
    )
    _log.info("linked", **{k: v for k, v in result.items() if k not in logged})
    return result | {"stages": clock.seconds}


def _moved(moved: dict[str, int], changes: list[Any]) -> dict[str, int]:
    return {
        "created": moved["create"],
        "linked": moved["link"] + moved["relink"],
        "merged": moved["merge"],
        "split": moved["split"],
        "replayed": len(changes),
    }
