"""What is wrong without anybody having put it there: registration errors and forgotten archives of the dead.

Each statement is the rule of reference qc_rules.csv read on the state that the platform holds after the last
delivery: the newest row of each archive. It is the truth's own reading, written apart from the quality engine.
"""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.faults.record import KEYS, World, record_keys

WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_SUM = " + ".join(f"CAST(substr(u, {i + 1}, 1) AS INTEGER) * {w}" for i, w in enumerate(WEIGHTS))

# Ingestion writes full-width characters of a number as plain ones: what it mends breaks no rule.
WIDE, NARROW = "０１２３４５６７８９Ｘｘ", "0123456789XX"
STATE = f"""
CREATE TEMP TABLE state AS
WITH newest AS (
    SELECT *, row_number() OVER (PARTITION BY archive_id ORDER BY source_updated_at DESC, deliver_on DESC) AS n
    FROM archive WHERE deliver_on <= $end
), shaped AS (
    SELECT *, upper(trim(translate(id_no, '{WIDE}', '{NARROW}'))) AS u,
        id_type_code = '01' AND id_no IS NOT NULL AS is_id FROM newest WHERE n = 1
), formed AS (
    SELECT *, is_id AND regexp_full_match(u, '[0-9]{{17}}[0-9X]') AS well_formed FROM shaped
)
SELECT *, well_formed AND substr('10X98765432', (CASE WHEN well_formed THEN {_SUM} END) % 11 + 1, 1) = substr(u, 18, 1) AS checked
FROM formed
"""

RULES = {
    "ARC-001": ("is_id AND NOT well_formed", "id_no"),
    "ARC-002": ("well_formed AND NOT checked", "id_no"),
    "ARC-004": (
        "checked AND birth_date <> TRY_CAST(substr(u,7,4) || '-' || substr(u,11,2) || '-' || substr(u,13,2) AS DATE)",
        "birth_date",
    ),
    "ARC-005": (
        "checked AND sex_code IN ('1','2') AND sex_code <> CASE WHEN CAST(substr(u,17,1) AS INTEGER) % 2 = 1 THEN '1' ELSE '2' END",
        "sex_code",
    ),
    "ARC-007": (
        "is_id AND regexp_full_match(u, '[0-9]{17}[0-9X]|[0-9]{15}') AND status_code = '0' "
        "AND u IN (SELECT u FROM state WHERE is_id AND status_code = '0' GROUP BY u HAVING count(*) > 1)",
        "id_no",
    ),
    "ARC-009": (
        "name IS NULL OR length(trim(name)) < 2 OR regexp_matches(name, '[0-9]|测试|test|无名|未知|XXX')",
        "name",
    ),
    "ARC-013": (
        "phone IS NOT NULL AND NOT regexp_matches(trim(phone), '^1[3-9][0-9]{9}$') "
        "AND NOT regexp_matches(trim(phone), '^0[0-9]{2,3}-?[0-9]{7,8}$')",
        "phone",
    ),
    "ARC-016": (
        "is_dead <> (death_date IS NOT NULL) OR (is_dead AND status_code = '0')",
        "is_dead,death_date,status_code",
    ),
    "ARC-018": (
        "is_id AND status_code = '0' "
        "AND u IN (SELECT upper(trim(id_no)) FROM death WHERE deliver_on <= $end AND died_on < $end - 30)",
        "status_code",
    ),
}


def note_archives(world: World) -> None:
    """Log every archive that breaks a rule and is not yet logged as injected."""
    con = duckdb.connect()
    con.register(
        "archive",
        world.tables["ph_archive"].append_column(
            "row_no", pa.array(np.arange(world.tables["ph_archive"].num_rows))
        ),
    )
    con.register("death", world.tables["death_registry"])
    con.execute(STATE, {"end": world.window.end})
    injected = {
        (r["rule_id"], r["record_key"]) for r in world.truth().to_pylist() if r["table_name"] == "ph_archive"
    }
    for rule, (condition, fields) in RULES.items():
        parameters = {"end": world.window.end} if "$end" in condition else {}
        rows = con.execute(
            f"SELECT row_no, archive_id FROM state WHERE {condition} ORDER BY row_no", parameters
        ).fetchall()
        at = np.array([a for a, key in rows if (rule, key) not in injected], dtype="int64")
        if len(at):
            world.note("ph_archive", at, rule, "rule", fields, "natural")


def note_updates(world: World) -> None:
    """Log the records that a daily delivery brings in a newer version than an earlier one."""
    first_daily = pa.scalar(world.window.history_end, pa.date32())
    for table in KEYS:
        rows = world.tables[table]
        key = record_keys(table, rows).cast(pa.string()) if rows.num_rows else pa.array([], pa.string())
        full = pc.binary_join_element_wise(rows["org_code"].combine_chunks(), key, "|")
        counts = pc.value_counts(full)
        again = pc.is_in(full, counts.filter(pc.greater(counts.field("counts"), 1)).field("values"))
        late = pc.and_(again, pc.greater(rows["deliver_on"].combine_chunks(), first_daily))
        late = pc.and_(
            late, pc.less_equal(rows["deliver_on"].combine_chunks(), pa.scalar(world.window.end, pa.date32()))
        )
        at = np.flatnonzero(late.to_numpy(zero_copy_only=False))
        if len(at):
            world.note(table, at, None, "updated_record", "", "natural")
