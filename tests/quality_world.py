"""A scratch city for tests of quality: real Delta tables, a real ledger and run; rows made by SQL, faults by hash.

Clean rows pass every rule; ``faults`` adds a known share of wrong ones, so that counts have something to equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import pyarrow as pa

from lake import contracts, ledger, runs, tables

DAY_1 = date(2026, 11, 18)
DAY_2 = date(2026, 11, 19)
DAY_3 = date(2026, 11, 20)
FEEDS = ("his", "lis", "pacs", "iot", "public_health")

_WEIGHTS = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
_DIGITS = f"list_transform(range(1, 18), lambda i: substr(b, i, 1)::int * {_WEIGHTS}[i])"
_CHECK = f"substr('10X98765432', (1 + list_sum({_DIGITS}) % 11)::int, 1)"

_PEOPLE = f"""
    CREATE OR REPLACE TEMP TABLE people AS
    SELECT *, b || {_CHECK} AS id_no
    FROM (
        SELECT
            i,
            format('A{{:07d}}', i) AS archive_id,
            'C2' || format('{{:02d}}', 1 + i % 18) AS org_code,
            DATE '1941-01-01' + ((i * 37) % 15000)::int AS birth_date,
            '429701' || strftime(DATE '1941-01-01' + ((i * 37) % 15000)::int, '%Y%m%d')
            || format('{{:03d}}', (i * 7 + i // 15000 * 2) % 1000) AS b
        FROM range(1, $n + 1) AS r(i)
    )
"""

_TABLES: dict[str, str] = {
    "ph_archive": """
        SELECT archive_id, org_code, '王建国' AS name, birth_date, '01' AS id_type_code,
            CASE WHEN i % 50 = 0 AND $faults THEN b || 'A' WHEN i % 50 = 1 AND $faults
                THEN b || CASE right(id_no, 1) WHEN '0' THEN '1' ELSE '0' END ELSE id_no END AS id_no,
            CASE WHEN substr(id_no, 17, 1)::int % 2 = 1 THEN '1' ELSE '2' END AS sex_code,
            CASE WHEN i % 40 = 7 AND $faults THEN '1380013800' ELSE '13800138000' END AS phone,
            '0' AS status_code, false AS is_dead, TIMESTAMPTZ '2024-01-01 00:00:00+00' AS source_updated_at
        FROM people
    """,
    "htn_card": """
        SELECT 'H' || archive_id AS card_id, archive_id, org_code, DATE '2023-02-01' AS carded_on,
            'active' AS status_code, TIMESTAMPTZ '2024-01-01 00:00:00+00' AS source_updated_at
        FROM people WHERE i % 3 = 0
    """,
    "htn_visit": """
        SELECT 'V' || archive_id || '-' || q AS visit_id, archive_id, org_code,
            DATE '2024-01-20' + (q * 90)::int AS visited_on, CASE WHEN q = 5 AND i % 24 = 0 AND $faults THEN '3' ELSE '1' END
            AS visit_way_code,
            CASE WHEN (i + q) % 60 = 0 AND $faults THEN 150 ELSE 120 + (i * q) % 9 END AS sbp_mmhg,
            78 + (i + q) % 5 AS dbp_mmhg, 70 + (i * q) % 11 AS heart_rate_bpm, 165 AS height_cm, 62 + q * 0.1 AS weight_kg,
            round((62 + q * 0.1) / 2.7225, 1) AS bmi, '1' AS visit_class_code, false AS is_referred,
            DATE '2024-01-20' + (q * 90 + CASE WHEN (i + q) % 70 = 3 AND $faults THEN -2 ELSE 90 END)::int AS next_visit_on,
            ((DATE '2024-01-20' + (q * 90)::int)::TIMESTAMP + INTERVAL 9 HOUR) AT TIME ZONE 'Asia/Shanghai' AS recorded_at,
            'D' || i % 7 AS doctor_id
        FROM people, range(0, 11) AS quarters(q) WHERE i % 3 = 0
    """,
    "dm_card": """
        SELECT 'M' || archive_id AS card_id, archive_id, org_code, DATE '2023-02-01' AS carded_on, '2' AS dm_type_code,
            'active' AS status_code, TIMESTAMPTZ '2024-01-01 00:00:00+00' AS source_updated_at
        FROM people WHERE i % 10 = 1
    """,
    "dm_visit": """
        SELECT 'W' || archive_id || '-' || q AS visit_id, archive_id, org_code,
            DATE '2024-01-25' + (q * 90)::int AS visited_on, '1' AS visit_way_code, 122 + q AS sbp_mmhg, 78 AS dbp_mmhg,
            CASE WHEN (i + q) % 45 = 0 AND $faults THEN 126 ELSE 6 END AS fbg_mmol_l,
            CASE WHEN (i + q) % 2 = 0 THEN 8.4 END AS ppg_mmol_l, '1' AS visit_class_code, '1' AS hypoglycemia_code,
            false AS is_referred, DATE '2024-01-25' + (q * 90 + 85)::int AS next_visit_on,
            ((DATE '2024-01-25' + (q * 90)::int)::TIMESTAMP + INTERVAL 9 HOUR) AT TIME ZONE 'Asia/Shanghai' AS recorded_at
        FROM people, range(0, 11) AS quarters(q) WHERE i % 10 = 1
    """,
    "ph_exam": """
        SELECT 'X' || archive_id AS exam_id, archive_id, org_code, DATE '2026-04-10' AS exam_on,
            CASE WHEN age >= 65 THEN 'elder' ELSE 'general' END AS exam_type_code,
            CASE WHEN i % 55 = 0 AND $faults THEN 12.8 ELSE 126 END AS sbp_l_mmhg, 78 AS dbp_l_mmhg, 128 AS sbp_r_mmhg,
            80 AS dbp_r_mmhg, 165 AS height_cm, 65 AS weight_kg,
            CASE WHEN i % 33 = 0 AND $faults THEN 31 ELSE 23.9 END AS bmi,
            '1' AS elder_health_self_code, 0 AS selfcare_eat, 1 AS selfcare_wash, 0 AS selfcare_dress, 0 AS selfcare_toilet,
            0 AS selfcare_move, 1 AS selfcare_score, '1' AS selfcare_grade_code, '1' AS cog_screen_code, '1' AS emo_screen_code,
            130 AS hgb_g_l, 6.1 AS wbc_10_9_l, 210 AS plt_10_9_l, '-' AS urine_protein, 5.6 AS fbg_mmol_l, 5.7 AS hba1c_pct,
            22 AS alt_u_l, 24 AS ast_u_l, 11 AS tbil_umol_l, 70 AS scr_umol_l, 5.2 AS bun_mmol_l, 4.9 AS tc_mmol_l,
            1.3 AS tg_mmol_l, 2.9 AS ldl_mmol_l, 1.3 AS hdl_mmol_l, '1' AS ecg_result_code, '1' AS abd_us_result_code,
            '1' AS chest_dr_result_code, '1' AS eval_abnormal_code, TIMESTAMPTZ '2026-04-10 03:00:00+00' AS recorded_at
        FROM (SELECT *, date_diff('year', birth_date, DATE '2026-04-10') - 1 AS age FROM people) WHERE i % 2 = 0
    """,
    "death_registry": """
        SELECT 'none' AS death_id, 'C201' AS org_code, DATE '2026-01-01' AS died_on FROM people WHERE false
    """,
}


def silver(table: str, rows: duckdb.DuckDBPyRelation | pa.Table) -> pa.Table:
    """Give rows the full silver shape of a table: missing columns NULL, an envelope, the contract's types."""
    kinds = contracts.table_contract(table).silver_columns
    data = rows if isinstance(rows, pa.Table) else rows.to_arrow_table()
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("given", data)
        envelope = {
            "data_date": f"DATE '{DAY_1}'",
            "source_file": f"'{table}_0.csv'",
            "source_line": "row_number() OVER () + 1",
            "batch_id": "'b'",
        }
        picked = [
            f"{c if c in data.column_names else envelope.get(c, 'NULL')}::{kind} AS {c}"
            for c, kind in kinds.items()
        ]
        made = connection.execute(f"SELECT {', '.join(picked)} FROM given").to_arrow_table()
    return made.cast(contracts.table_contract(table).silver_schema())


def city(residents: int = 300, *, faults: bool = True) -> dict[str, int]:
    """Write a city's silver tables and its person index. Returns rows per table."""
    counts = {}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(_PEOPLE.replace("$n", str(residents)))
        for table, sql in _TABLES.items():
            data = silver(table, connection.sql(sql.replace("$faults", "true" if faults else "false")))
            tables.overwrite(f"silver/{table}", data)
            counts[table] = data.num_rows
        index = connection.sql("""
            SELECT 'P' || archive_id AS empi_id, 't' AS person_token, 'public_health' AS source_system, org_code,
                'MR' AS identifier_type, archive_id AS identifier_value, DATE '2026-11-17' AS valid_from,
                NULL::DATE AS valid_to, 'single' AS link_cause
            FROM people
        """).to_arrow_table()
        tables.overwrite("silver/person_identifier", index)
    return counts


def write(table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace one silver table by a few rows."""
    tables.overwrite(f"silver/{table}", silver(table, pa.Table.from_pylist([dict(r) for r in rows])))


def deliver(data_date: date, *, received: int = 100, feeds: Sequence[str] = FEEDS) -> runs.Run:
    """Commit one batch per feed for a date and pin all silver tables in the date's run."""
    written = [n for n in tables.names("silver/") if not n.startswith("silver/person")]
    for feed in feeds:
        batch = ledger.begin(
            f"{feed}-{data_date}",
            feed,
            data_date,
            contract_version="1",
            writes=written if feed == "public_health" else [],
            received_at=datetime(2026, 11, 20, tzinfo=UTC),
        )
        if batch.state == "open":
            ledger.commit(batch, [ledger.Line("t", "C201", "f", received, received, 0, 0)])
    run = runs.open_run(data_date)
    if tables.exists("silver/person_identifier"):
        run = runs.record_output(
            run, {"silver/person_identifier": tables.version("silver/person_identifier")}
        )
    return run
