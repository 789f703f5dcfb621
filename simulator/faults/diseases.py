"""Faults of the programmes for single diseases, in their order and from a stream of their own."""

from __future__ import annotations

import dataclasses

import duckdb
import numpy as np
import pyarrow as pa

from simulator.clinical.draw import stream
from simulator.faults import copd, details, habits, infectious, mental, tuberculosis
from simulator.faults.record import KEYS, World


def inject(world: World, seed: int) -> None:
    """SMI, TB, IDR and COPD, then the rest of ARC, EXM, HTN and DM; tables and log are the world's, the dice are not."""
    own = dataclasses.replace(world, rng=stream(seed, "faults", "diseases"))
    mental.inject(own)
    tuberculosis.inject(own)
    infectious.inject(own)
    copd.inject(own)
    further = dataclasses.replace(world, rng=stream(seed, "faults", "details"))
    details.inject(further)
    habits.inject(further)


def note(world: World) -> None:
    """What is wrong in the programmes without anybody having put it there, read on the state at the end."""
    for table, rule, rows in (
        ("encounter", "TB-007", _suspects_not_referred(world)),
        ("ph_archive", "COPD-001", _unscreened(world)),
    ):
        world.note(
            table, rows, rule, "rule", "archive_id" if table == "ph_archive" else "chief_complaint", "natural"
        )
    for org in _silent(world):
        world.note_group("org_reporting", org, org, "IDR-014", "of_org_code", "natural")


def _state(world: World, *tables: str) -> duckdb.DuckDBPyConnection:
    """The newest delivered version of each record, with its row number in the world's table."""
    con = duckdb.connect()
    for name in tables:
        rows = world.tables[name]
        rows = rows.append_column("row_no", pa.array(np.arange(rows.num_rows)))
        con.register("given", rows)
        stamp = "source_updated_at" if "source_updated_at" in rows.column_names else "deliver_on"
        con.execute(
            f"CREATE TABLE {name} AS SELECT * FROM given WHERE deliver_on <= $end "
            f"QUALIFY row_number() OVER (PARTITION BY org_code, {', '.join(KEYS[name])} ORDER BY {stamp} DESC, row_no DESC) = 1",
            {"end": world.window.end},
        )
        con.unregister("given")
    return con


def _rows(con: duckdb.DuckDBPyConnection, sql: str, world: World) -> np.ndarray:
    found = con.execute(sql, {"end": world.window.end}).fetchall()
    return np.array(sorted(row for (row,) in found), dtype="int64")


def _suspects_not_referred(world: World) -> np.ndarray:
    """Encounters of people who coughed for weeks or coughed blood, with no referral or notice within a week (TB-007)."""
    con = _state(world, "encounter", "referral", "tb_notice")
    return _rows(
        con,
        """
        SELECT e.row_no FROM encounter AS e
        WHERE e.class_code IN ('AMB', 'EMER') AND e.started_at::DATE + 11 < $end
        AND regexp_matches(e.chief_complaint, '咯血|血痰|(咳嗽|咳痰).{0,6}(2周|两周|3周|三周|半月|半个月|[1-9一二两三]个?月)')
        AND NOT EXISTS (SELECT 1 FROM referral AS r WHERE r.org_code = e.org_code AND r.patient_local_id = e.patient_local_id
                        AND r.applied_at::DATE BETWEEN e.started_at::DATE AND e.started_at::DATE + 7)
        AND NOT EXISTS (SELECT 1 FROM tb_notice AS n WHERE n.resident = e.resident
                        AND n.noticed_at::DATE BETWEEN e.started_at::DATE AND e.started_at::DATE + 7)""",
        world,
    )


def _unscreened(world: World) -> np.ndarray:
    """Active archives from 35 whose newest examination shows a risk and who were not asked for a year (COPD-001)."""
    con = _state(world, "ph_archive", "ph_exam", "copd_screen")
    named = {r["record_key"] for r in world.truth().to_pylist() if r["rule_id"] == "COPD-001"}
    rows = _rows(
        con,
        """
        WITH newest AS (
            SELECT * FROM ph_exam WHERE exam_on <= $end
            QUALIFY row_number() OVER (PARTITION BY resident ORDER BY exam_on DESC, exam_id) = 1
        ), asked AS (SELECT resident, max(screened_on) AS last_on FROM copd_screen WHERE screened_on <= $end GROUP BY resident)
        SELECT a.row_no FROM ph_archive AS a JOIN newest AS n USING (resident) LEFT JOIN asked USING (resident)
        WHERE a.status_code = '0' AND a.birth_date + INTERVAL 35 YEAR <= $end AND n.exam_on + 4 < $end
        AND (n.smoke_status_code <> '1' OR regexp_matches(n.symptoms, '慢性咳嗽|咳痰|呼吸困难'))
        AND coalesce(last_on <= ($end - INTERVAL 12 MONTH)::DATE - 4, true)""",
        world,
    )
    keys = world.array("ph_archive", "archive_id")
    return np.array([r for r in rows if keys[r] not in named], dtype="int64")


def _silent(world: World) -> list[str]:
    """Institutions with ordinary numbers of visits and no report card for eight weeks and more (IDR-014)."""
    named = {r["record_key"] for r in world.truth().to_pylist() if r["rule_id"] == "IDR-014"}
    found = _state(world, "encounter", "idr_card").execute("""
        WITH visit AS (SELECT org_code, min(started_at)::DATE AS first_on,
                              count(*) FILTER (started_at::DATE > $end - 56 AND started_at::DATE <= $end) AS visits
                       FROM encounter GROUP BY org_code),
        card AS (SELECT org_code, max(net_reported_at::DATE) FILTER (net_reported_at::DATE <= $end) AS last_on
                 FROM idr_card GROUP BY org_code),
        usual AS (SELECT quantile_cont(visits, 0.25) AS p25 FROM visit WHERE visits > 0)
        SELECT org_code FROM visit JOIN usual ON visits > p25 LEFT JOIN card USING (org_code)
        WHERE $end - first_on >= 56 AND $end - coalesce(greatest(last_on, first_on), first_on) >= 56 ORDER BY 1""",
        {"end": world.window.end}).fetchall()  # fmt: skip
    return [org for (org,) in found if org not in named]
