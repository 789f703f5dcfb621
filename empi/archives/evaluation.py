"""How many proposals are right, by the simulated city's truth. With ``empi.evaluation*`` the modules that open it."""

from __future__ import annotations

from math import sqrt
from typing import Any

import duckdb

from empi.archives.proposing import PROPOSAL
from empi.archives.rules import KNOWN
from lake import duck, ledger, tables
from lake.errors import MedlakeError
from lake.log import logger
from lake.truth import truth_dir

_log = logger("empi")

#: Right: all archives are of one resident, and the institution proposed is that of the place where the resident lives.
_JUDGED = """
CREATE TABLE judged AS
WITH owned AS (
    SELECT p.*, t.resident_id FROM proposal p
    LEFT JOIN registration t ON t.source_system = 'public_health' AND t.org_code = p.org_code AND t.local_id = p.archive_id),
person AS (
    SELECT empi_id, any_value(decided_by) AS decided_by, any_value(confidence) AS confidence,
           any_value(managing_org_code) AS managing_org_code, bool_or(action = 'move') AS is_move,
           any_value(address_org_code) AS address, any_value(contract_org_code) AS contract,
           any_value(service_org_code) AS service,
           count(DISTINCT resident_id) = 1 AND bool_and(resident_id IS NOT NULL) AS is_one,
           min(resident_id) AS resident_id, list(from_org_code) AS held_by
    FROM owned GROUP BY empi_id)
SELECT p.*, r.centre_code, r.death_date IS NOT NULL AND r.death_date <= $1 AS is_dead,
       p.is_one AND p.managing_org_code = r.centre_code AS is_right,
       list_contains(p.held_by, r.centre_code) AS is_held_there
FROM person p LEFT JOIN resident r USING (resident_id)
"""
#: Residents alive whose archives the lake holds as several active ones, whoever they were linked to.
_MISSED = """
SELECT count(*) FROM (
    SELECT t.resident_id FROM archive a
    JOIN registration t ON t.source_system = 'public_health' AND t.org_code = a.org_code AND t.local_id = a.archive_id
    JOIN resident r USING (resident_id)
    WHERE a.status_code = '0' AND NOT coalesce(a.is_dead, false) AND (r.death_date IS NULL OR r.death_date > $1)
    GROUP BY t.resident_id HAVING count(*) > 1)
ANTI JOIN judged USING (resident_id)
"""


def interval(right: int, all_: int) -> list[float]:
    """Wilson's 95 % interval of a share, both ends rounded to four digits; of nothing it is [0, 1]."""
    if not all_:
        return [0.0, 1.0]
    z = 1.959964
    share, spread = right / all_, z * z / all_
    middle = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / all_ + spread / (4 * all_)) / (1 + spread)
    return [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]


def _share(right: int, all_: int) -> dict[str, Any]:
    return {
        "proposals": all_,
        "right": right,
        "share": round(right / all_, 4) if all_ else None,
        "interval_95": interval(right, all_),
    }


def judge(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """All measures from ``proposal``, ``archive`` (``silver/ph_archive``), ``registration`` and ``resident``."""
    day = connection.execute("SELECT max(data_date) FROM archive").fetchall()[0][0]
    connection.execute(_JUDGED, [day])

    def shares(where: str = "true", right_if: str = "is_right") -> dict[str, Any]:
        found = connection.execute(f"SELECT count(*) FILTER ({right_if}), count(*) FROM judged WHERE {where}")
        right, all_ = found.fetchall()[0]
        return _share(int(right), int(all_))

    def number(where: str) -> int:
        return int(connection.execute(f"SELECT count(*) FROM judged WHERE {where}").fetchall()[0][0])

    result: dict[str, Any] = shares()
    for name, column in (("by_rule", "decided_by"), ("by_confidence", "confidence")):
        values = [
            r[0] for r in connection.execute(f"SELECT DISTINCT {column} FROM judged ORDER BY 1").fetchall()
        ]
        result[name] = {v: shares(f"{column} = '{v}'") for v in values}
    # what each rule would have said by itself, of the residents of whom it says anything
    result["rule_alone"] = {
        rule: shares(f"{rule} IS NOT NULL", f"is_one AND {rule} = centre_code") for rule in KNOWN
    }
    result["two_residents"] = number("NOT is_one")
    result["of_dead"] = number("coalesce(is_dead, false)")
    result["moves"] = shares("is_move")
    result["held_elsewhere"] = number("NOT coalesce(is_held_there, true)")
    result["missed"] = int(connection.execute(_MISSED, [day]).fetchall()[0][0])
    return result


def evaluate() -> dict[str, Any]:
    """See :func:`empi.archives.evaluate`."""
    folder = truth_dir()
    visible = ledger.visible("silver/")
    if PROPOSAL not in visible:
        raise MedlakeError("E361")
    connection = duck.connect()
    try:
        for view in ("registration", "resident"):
            path = folder / f"{view}.parquet"
            if not path.exists():
                raise MedlakeError("E305", place=str(path))
            connection.execute(f"CREATE VIEW {view} AS SELECT * FROM read_parquet('{path}')")
        for view, name in (("proposal", PROPOSAL), ("archive", "silver/ph_archive")):
            connection.execute(f"CREATE VIEW {view} AS SELECT * FROM {tables.scan_sql(name, visible[name])}")
        result = judge(connection)
    finally:
        connection.close()
    _log.info("archives_evaluated", persons=result["proposals"])
    return result
