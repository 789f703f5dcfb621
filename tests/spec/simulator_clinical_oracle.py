"""The forty rules read as plainly as possible, over the simulator's tables: the yardstick of its truth.

Each entry gives (table, condition) on the view `<table>`: the newest version of every record delivered by `$end`,
with `age` columns, the previous and next row of the person where a rule needs them. Parameters: `$end` is the date
being processed. Rules on many tables appear once per table.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

GRACE = 4
KEYS = {
    "ph_archive": "archive_id", "htn_card": "card_id", "dm_card": "card_id", "htn_visit": "visit_id", "dm_visit": "visit_id",
    "ph_exam": "exam_id",
}  # fmt: skip
STAMP = {"htn_visit": "recorded_at", "dm_visit": "recorded_at", "ph_exam": "recorded_at"}

ORDERED = """
CREATE TABLE {table} AS SELECT *, lag(visit_class_code) OVER w AS prev_class, lag(visited_on) OVER w AS prev_on,
    lead(visited_on) OVER w AS next_seen_on, date_diff('year', birth_date, visited_on)
    - CASE WHEN strftime(visited_on, '%m%d') < strftime(birth_date, '%m%d') THEN 1 ELSE 0 END AS age {more}
FROM newest_{table} WINDOW w AS (PARTITION BY archive_id ORDER BY visited_on, recorded_at, visit_id)
"""
PREVIOUS_HTN = ", " + ", ".join(
    f"lag({c}) OVER w AS prev_{c}"
    for c in (
        "sbp_mmhg",
        "dbp_mmhg",
        "heart_rate_bpm",
        "weight_kg",
        "salt_level_code",
        "exercise_min",
        "drugs",
    )
)
EXAM_VECTOR = (
    "sbp_l_mmhg", "dbp_l_mmhg", "weight_kg", "waist_cm", "fbg_mmol_l", "tc_mmol_l", "tg_mmol_l", "alt_u_l", "scr_umol_l", "hgb_g_l",
)  # fmt: skip


def _rules() -> list[tuple[str, str, str]]:
    """(rule_id, table, condition) of simulator_clinical_rules.sql."""
    text = (Path(__file__).parent / "simulator_clinical_rules.sql").read_text(encoding="utf-8")
    found = re.findall(r"^-- ([A-Z]+-[0-9]{3}) ([a-z_, ]+)\n((?:[^-\n].*\n?)+)", text, re.MULTILINE)
    return [
        (rule, table, " ".join(sql.split())) for rule, tables, sql in found for table in tables.split(", ")
    ]


RULES = _rules()

FACE_TO_FACE = """
WITH card AS (
    SELECT *, greatest(carded_on, make_date($year, 1, 1)) AS since FROM {card}
    WHERE status_code = 'active' AND carded_on <= make_date($year, 12, 31)
), counted AS (
    SELECT c.card_id, any_value(5 - quarter(c.since)) AS need,
        count(v.visit_id) FILTER (v.visit_way_code IN ('1', '2')) AS seen,
        count(v.visit_id) FILTER (v.visit_way_code IN ('1', '2') AND {tested}) AS tested
    FROM card AS c LEFT JOIN {visit} AS v ON v.archive_id = c.archive_id AND year(v.visited_on) = $year
    GROUP BY c.card_id
)
SELECT card_id FROM counted WHERE least(seen, tested) < need
"""


def load(tables: dict[str, pa.Table], end: date) -> duckdb.DuckDBPyConnection:
    """The state that the platform holds after the delivery of `end`."""
    con = duckdb.connect()
    for name, key in KEYS.items():
        con.register(f"raw_{name}", tables[name])
        stamp = STAMP.get(name, "source_updated_at")
        con.execute(
            f"CREATE TABLE newest_{name} AS SELECT * FROM raw_{name} WHERE deliver_on <= DATE '{end}' "
            f"QUALIFY row_number() OVER (PARTITION BY org_code, {key} ORDER BY {stamp} DESC, deliver_on DESC) = 1"
        )
    con.execute("ALTER TABLE newest_ph_archive RENAME TO ph_archive")
    for name in ("htn_card", "dm_card", "htn_visit", "dm_visit", "ph_exam"):
        con.execute(
            f"CREATE OR REPLACE TABLE newest_{name} AS SELECT t.*, a.birth_date FROM newest_{name} AS t "
            "LEFT JOIN ph_archive AS a USING (archive_id)"
        )
    con.execute("ALTER TABLE newest_htn_card RENAME TO htn_card")
    con.execute("ALTER TABLE newest_dm_card RENAME TO dm_card")
    con.execute(ORDERED.format(table="htn_visit", more=PREVIOUS_HTN))
    con.execute(ORDERED.format(table="dm_visit", more=""))
    con.execute(
        "ALTER TABLE htn_visit ADD COLUMN goal INTEGER; UPDATE htn_visit SET goal = CASE WHEN age < 65 THEN 140 ELSE 150 END"
    )
    previous = ", ".join(f"lag({c}) OVER w AS prev_{c}" for c in (*EXAM_VECTOR, "height_cm"))
    con.execute(
        f"CREATE TABLE ph_exam AS SELECT *, exam_on AS visited_on, lag(exam_on) OVER w AS prev_on, {previous}, "
        "date_diff('year', birth_date, exam_on) "
        "- CASE WHEN strftime(exam_on, '%m%d') < strftime(birth_date, '%m%d') THEN 1 ELSE 0 END AS age "
        "FROM newest_ph_exam WINDOW w AS (PARTITION BY archive_id ORDER BY exam_on)"
    )
    return con


def findings(con: duckdb.DuckDBPyConnection, end: date) -> set[tuple[str, str, str]]:
    """(rule_id, table, record key) of everything that breaks one of the rules on services."""
    out: set[tuple[str, str, str]] = set()
    for rule, table, condition in RULES:
        parameters: dict[str, Any] = {"end": end} if "$end" in condition else {}
        rows = con.execute(
            f"SELECT key FROM (SELECT {KEYS[table]} AS key, {condition} AS broken FROM {table}) WHERE broken",
            parameters,
        ).fetchall()
        out.update((rule, table, row[0]) for row in rows)
    year = end.year - 1
    for rule, card, visit, tested in (
        ("HTN-002", "htn_card", "htn_visit", "true"),
        ("DM-002", "dm_card", "dm_visit", "v.fbg_mmol_l IS NOT NULL"),
    ):
        rows = con.execute(
            FACE_TO_FACE.format(card=card, visit=visit, tested=tested), {"year": year}
        ).fetchall()
        out.update((rule, card, row[0]) for row in rows)
    services = (("htn_visit", "visited_on"), ("dm_visit", "visited_on"), ("ph_exam", "exam_on"))
    after = " OR ".join(
        f"EXISTS (FROM {t} AS v WHERE v.archive_id = a.archive_id AND v.{day} > a.death_date)"
        for t, day in services
    )
    late = con.execute(f"SELECT archive_id FROM ph_archive AS a WHERE {after}").fetchall()
    out.update(("ARC-017", "ph_archive", row[0]) for row in late)
    return out
