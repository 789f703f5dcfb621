"""The step ``propose``: who has several active archives, what speaks for which institution, and the table of proposals."""

from __future__ import annotations

from datetime import date
from typing import Any

import duckdb

from empi.archives import deciding, evidence, members, rules
from lake import ledger, lineage, runs, tables
from lake.log import logger

PROPOSAL = "silver/archive_proposal"
_log = logger("empi")


def _counts(connection: duckdb.DuckDBPyConnection, column: str, what: str) -> dict[str, int]:
    found = connection.execute(f"SELECT {column}, {what} FROM proposal GROUP BY 1 ORDER BY 1").fetchall()
    return {str(name): int(n) for name, n in found}


def _write(connection: duckdb.DuckDBPyConnection) -> int:
    """Write the table unless its visible version holds the same rows. Returns its version."""
    at = ledger.visible("silver/").get(PROPOSAL)
    rows = connection.execute(
        "SELECT * FROM proposal ORDER BY empi_id, org_code, archive_id"
    ).to_arrow_table()
    if at is not None and tables.version(PROPOSAL) == at:
        before = tables.read(PROPOSAL, at).to_table()
        if set(before.column_names) == set(rows.column_names):
            connection.register("before", before.select(rows.column_names))
            differing = connection.execute(
                """SELECT count(*) FROM ((FROM proposal EXCEPT ALL FROM before) UNION ALL
                                         (FROM before EXCEPT ALL FROM proposal))"""
            ).fetchall()[0][0]
            connection.unregister("before")
            if not differing:
                return at
    return tables.overwrite(PROPOSAL, rows)


@lineage.stepped("empi.archives")
def propose(data_date: date) -> dict[str, Any]:
    """See :func:`empi.archives.propose`."""
    run = runs.get_run(data_date)
    now = rules.in_force(data_date)
    connection = members.connect(run, [*now.tables, "fd_contract"])
    try:
        members.collect(connection, run)
        members.locate(connection, data_date)
        evidence.gather(connection, run, data_date, now)
        deciding.decide(connection, data_date, now)
        at = _write(connection)
        actions = _counts(connection, "action", "count(*)")
        persons = "count(DISTINCT empi_id)"
        result: dict[str, Any] = {
            "run_id": run.run_id,
            "data_date": data_date.isoformat(),
            "persons": sum(_counts(connection, "'all'", persons).values()),
            "archives": sum(actions.values()),
            **{a: actions.get(a, 0) for a in ("keep", "move", "close")},
            "contradicted": _counts(connection, "is_contradicted", persons).get("True", 0),
            "by_rule": _counts(connection, "decided_by", persons),
            "by_confidence": _counts(connection, "confidence", persons),
        }
    finally:
        connection.close()
    runs.record_output(run, {PROPOSAL: at})
    _log.info("archives_proposed", run_id=run.run_id, data_date=data_date, persons=result["persons"])
    return result
