"""Measures what the portal lets out: 300,000 rows x 40 columns as XLSX, and a cohort of three criteria over six million.

``python -m bench.portal_export`` prints one JSON object: ``export_rows, export_columns, export_seconds,
export_peak_mb, export_bytes, cohort_residents, cohort_seconds``. Data are made by SQL under a temporary home.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

_DAY = date(2026, 11, 20)

#: Forty fields of an examination and its resident: texts, codes, dates, instants and numbers as they come.
_COLUMNS = [
    "org.org_name", "person.name", "person.sex_code", "person.birth_date", "person.id_no", "person.phone",
    "person.addr_detail", "exam_id", "archive_id", "exam_on", "exam_type_code", "symptoms", "temp_c", "pulse_bpm",
    "resp_bpm", "sbp_l_mmhg", "dbp_l_mmhg", "sbp_r_mmhg", "dbp_r_mmhg", "height_cm", "weight_kg", "waist_cm", "bmi",
    "smoke_status_code", "exercise_freq_code", "selfcare_score", "hgb_g_l", "wbc_10_9_l", "plt_10_9_l", "fbg_mmol_l",
    "alt_u_l", "ast_u_l", "scr_umol_l", "tc_mmol_l", "tg_mmol_l", "ldl_mmol_l", "hdl_mmol_l", "eval_abnormal_code",
    "doctor_id", "recorded_at",
]  # fmt: skip


def _exams(rows: int) -> None:
    """silver/ph_exam, silver/person and silver/person_identifier of so many residents."""
    from lake import contracts, duck, tables

    known = {f.name: f.type for f in contracts.contracts()["public_health"].tables["ph_exam"].fields}
    given = {
        "exam_id": "'X' || i", "archive_id": "'DA' || i", "exam_on": "DATE '2026-01-01' + (i % 300)::INTEGER",
        "exam_type_code": "'elder'", "symptoms": "'无症状'", "smoke_status_code": "'1'", "exercise_freq_code": "'2'",
        "eval_abnormal_code": "'1'", "doctor_id": "'D' || (i % 200)", "recorded_at": "TIMESTAMPTZ '2026-05-01 02:00:00Z'",
    }  # fmt: skip
    kinds = {
        "string": "VARCHAR",
        "integer": "BIGINT",
        "number": "DOUBLE",
        "boolean": "BOOLEAN",
        "date": "DATE",
    }
    parts = []
    for name, kind in known.items():  # the fields of one table
        usual = (
            "round(20 + (i % 977) / 7.0, 1)"
            if kind == "number"
            else f"NULL::{kinds.get(kind, 'TIMESTAMPTZ')}"
        )
        parts.append(f'{given.get(name, usual)} AS "{name}"')
    envelope = ("'C201' AS org_code, DATE '2026-11-20' AS data_date, 'b' AS source_file, NULL::VARCHAR AS source_sheet, "
                "i AS source_line, 'b' AS batch_id, lpad(i::VARCHAR, 16, '0') AS raw_hash, "
                "TIMESTAMPTZ '2026-11-20 12:00:00Z' AS received_at, false AS is_deleted")  # fmt: skip
    con = duck.connect()
    for name, sql in {
        "silver/ph_exam": f"SELECT {', '.join(parts)}, {envelope}",
        "silver/person": "SELECT 'E' || i AS empi_id, 'T' || i AS person_token, '王小' || chr((19968 + i % 5000)::INTEGER) "
        "AS name, "
        "'1' AS sex_code, DATE '1950-01-01' + (i % 9000)::INTEGER AS birth_date, "
        "'42970119500101' || lpad((i % 10000)::VARCHAR, 4, '0') "
        "AS id_no, '139' || lpad(i::VARCHAR, 8, '0') AS phone, '湖东区湖滨街道北桥社区' || i || '号' AS addr_detail, "
        "'429701' AS region_code, false AS is_deceased, NULL::DATE AS death_date, "
        "1::BIGINT AS record_count, true AS has_trusted_id",
        "silver/person_identifier": "SELECT 'E' || i AS empi_id, 'T' || i AS person_token, 'public_health' AS source_system, "
        "'C201' AS org_code, 'MR' AS identifier_type, 'DA' || i AS identifier_value, DATE '2026-11-20' AS valid_from, "
        "NULL::DATE AS valid_to, 'same_id' AS link_cause",
    }.items():
        tables.overwrite(name, con.execute(f"{sql} FROM range({rows}) AS t(i)").to_arrow_table())
    con.close()


def _make_export(rows: int) -> None:
    from products.exports import store

    _exams(rows)
    node = {"template": "bench", "title_zh": "体检", "table": "ph_exam", "source": "public_health", "record": "archive_id",
            "columns": _COLUMNS, "period": "exam_on", "sort": ["exam_on"], "purpose": "public_health"}  # fmt: skip
    store.propose(node, actor="a", org_code="H001")
    store.decide("bench", 1, actor="b", role="steward", agree=True)


def _export() -> dict[str, Any]:
    from lake.access import Caller
    from products.exports import jobs

    began = time.monotonic()
    report = jobs.run("bench", Caller("officer", "officer", "H001", "public_health"))
    return {
        "export_rows": report["rows_written"], "export_columns": len(report["columns"]),
        "export_seconds": round(time.monotonic() - began, 2), "export_bytes": report["bytes"],
        "export_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }  # fmt: skip


def _make_cohort(residents: int, path: Path) -> None:
    """The published tables that three criteria read: residents, cards, laboratory results, encounters."""
    import duckdb

    con = duckdb.connect(str(path), config={"threads": 2, "memory_limit": "1GB"})
    token = "substr(md5(i::VARCHAR), 1, 26)"
    con.execute("CREATE SCHEMA gold")
    for name, sql in {
        "dim_org": "SELECT 'C201' AS org_code, 'C201' AS managing_org_code, '1' AS org_level_code",
        "dim_person": f"SELECT {token} AS person_token, (1 + i % 2)::VARCHAR AS sex_code, (i * 7 % 95)::INTEGER AS age_years, "
        f"'429701' AS county_code, 'C201' AS managing_org_code, false AS is_deceased, i % 8 = 0 AS has_htn_card, "
        f"i % 20 = 0 AS has_dm_card FROM range({residents}) t(i)",
        "htn_management": f"SELECT {token} AS person_token, i % 3 = 0 AS is_controlled FROM range(0, {residents}, 8) t(i)",
        "fct_lab_result": f"SELECT {token} AS person_token, '22748-8' AS loinc_code, 1 + (i * 13 % 50) / 10.0 AS value_num, "
        f"'' AS comparator, 'mmol/L' AS unit, DATE '2026-11-20' - (i % 900)::INTEGER AS reported_on FROM range({residents}) t(i)",
        "fct_encounter": f"SELECT {token} AS person_token, 'IMP' AS class_code, CASE WHEN i % 40 = 0 THEN 'I63.9' ELSE 'J06' END "
        f"AS main_icd10_code, DATE '2026-11-20' - (i % 900)::INTEGER AS started_on FROM range({residents}) t(i)",
    }.items():
        con.execute(f'CREATE TABLE gold."{name}" AS {sql}')
    con.close()


def _cohort(path: Path) -> dict[str, Any]:
    from lake import duck
    from products.cohort import count
    from products.cohort_definition import FOLDER, load
    from products.cohorts.run import attrition
    from products.serving_file import attach

    definition = load(FOLDER / "htn_with_high_ldl.yaml")
    con = duck.connect()
    attach(con, path, "served")
    began = time.monotonic()
    steps = attrition(con, definition, _DAY)
    counts, _ = count(con, definition, _DAY)
    seconds = round(time.monotonic() - began, 2)
    residents = con.execute("SELECT count(*) FROM served.gold.dim_person").fetchone()
    con.close()
    if steps[-1][1] != int(counts.sum()):
        raise SystemExit(f"attrition ends at {steps[-1][1]}, the table holds {int(counts.sum())}")
    return {"cohort_residents": residents[0] if residents else 0, "cohort_criteria": len(steps) - 1,
            "cohort_seconds": seconds}  # fmt: skip


def main() -> None:
    """Make the data in processes of their own, so that the measured ones hold nothing of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--residents", type=int, default=6_000_000)
    parser.add_argument("--step", default="")
    given = parser.parse_args()
    if given.step:
        file = Path(os.environ["MEDLAKE_HOME"]).parent / "served.duckdb"
        steps: dict[str, Any] = {"make_export": lambda: _make_export(given.rows), "export": _export,
                 "make_cohort": lambda: _make_cohort(given.residents, file), "cohort": lambda: _cohort(file)}  # fmt: skip
        print(json.dumps(steps[given.step]() or {}))
        return
    with tempfile.TemporaryDirectory(prefix="medlake-bench-") as folder:
        env = os.environ | {"MEDLAKE_HOME": f"{folder}/var"}
        result: dict[str, Any] = {}
        for step in ("make_export", "export", "make_cohort", "cohort"):
            done = subprocess.run(
                [sys.executable, "-m", "bench.portal_export", "--step", step, "--rows", str(given.rows),
                 "--residents", str(given.residents)], env=env, check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            result |= json.loads(done.stdout.splitlines()[-1])
        print(json.dumps(result))


if __name__ == "__main__":
    main()
