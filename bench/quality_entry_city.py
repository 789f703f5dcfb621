"""The lake behind ``bench.quality_entry``: residents with the records that a form's rules look back on.

Numbers per resident are those of a county (one in five with hypertension and quarterly visits for two years, and so on);
values are drawn by hash from the row's number. Only what is asked about is judged, so that values matter little: what counts
is how much lies in the store, and how many rows come back for one resident.
"""

from __future__ import annotations

import multiprocessing
from datetime import date

from bench import empi_city

DAY = date(2026, 11, 20)

#: Table -> (one resident in so many has any, rows of each of them).
HELD: dict[str, tuple[int, int]] = {
    "ph_archive": (1, 1), "patient": (1, 1), "encounter": (2, 6), "inpatient_encounter": (10, 1), "fd_contract": (2, 2),
    "ph_exam": (3, 2), "ph_archive_disease": (4, 2), "htn_card": (5, 1), "htn_visit": (5, 8), "dm_card": (15, 1),
    "dm_visit": (15, 8), "tcm_elder": (8, 1), "allergy": (20, 1), "preg_card": (50, 1), "copd_card": (100, 1),
    "copd_screen": (30, 1), "smi_card": (200, 1), "smi_visit": (200, 8), "tb_notice": (2000, 1), "child_card": (20, 1),
    "child_visit": (20, 5), "vaccination_record": (20, 12), "lab_report": (2, 3),
}  # fmt: skip


def _value(column: str, kind: str, each: int) -> str:
    """SQL of a column's value in row ``i``; a resident's rows follow each other."""
    person = f"(i // {each})"
    drawn = f"hash(i * 64 + {len(column)})"
    if column in ("archive_id", "patient_local_id"):
        return f"'{'A' if column == 'archive_id' else 'P'}' || lpad((i // {each} * share)::VARCHAR, 8, '0')"
    if column == "org_code":
        return f"org_codes[1 + i // {each} * share % len(org_codes)]"
    if column == "birth_date":
        return f"DATE '1936-01-01' + (hash({person}) % 30000)::INTEGER"
    if column == "sex_code":
        return f"(1 + hash({person}) % 2)::VARCHAR"
    if column == "name":
        return "'张' || (hash(i) % 1000)::VARCHAR"
    if column == "doctor_id":
        return "'D' || (i % 2000)::VARCHAR"
    if column == "is_deleted":
        return "false"
    if kind == "DATE":
        return f"DATE '2024-12-01' + ({drawn} % 700)::INTEGER"
    if kind.startswith("TIMESTAMP"):
        return f"TIMESTAMPTZ '2024-12-01 02:00:00+00' + INTERVAL 1 MINUTE * ({drawn} % 1000000)"
    if kind in ("BIGINT", "INTEGER", "DOUBLE"):
        return f"(50 + {drawn} % 100)::{kind}"
    if kind == "VARCHAR" and column.endswith("_code"):
        return f"(1 + {drawn} % 3)::VARCHAR"
    return f"NULL::{kind}"


def _select(table: str, residents: int) -> str:
    from lake.contracts import table_contract

    contract = table_contract(table)
    of, each = HELD[table]
    keys = [k for k in contract.key if k not in ("archive_id", "patient_local_id")]
    columns = contract.silver_columns
    made = [f'{_value(c, k, each)} AS "{c}"' for c, k in columns.items() if c not in keys]
    made += [
        f"('{table[:2]}' || i)::{columns[k]} AS \"{k}\"" if columns[k] == "VARCHAR" else f'i AS "{k}"'
        for k in keys
    ]
    return f"SELECT {', '.join(made)} FROM (SELECT i, {of} AS share FROM range({residents // of * each}) AS t(i)), orgs"


def _write(home: str, residents: int) -> None:
    empi_city.use_home(home)
    from lake import duck, runs, tables
    from lake.settings import settings

    connection = duck.connect()
    connection.execute(
        "CREATE TABLE orgs AS SELECT list(org_code ORDER BY org_code) AS org_codes "
        f"FROM read_csv('{settings().seeds_dir / 'org.csv'}', all_varchar = true)"
    )
    for table in HELD:
        tables.overwrite(
            f"silver/{table}", connection.sql(_select(table, residents)).to_arrow_reader(200_000)
        )
        empi_city.show(table)
    entries = " UNION ALL ".join(
        f"SELECT 'E' || lpad(i::VARCHAR, 8, '0') AS empi_id, '{system}' AS source_system, "
        "org_codes[1 + i % len(org_codes)] AS org_code, 'MR' AS identifier_type, "
        f"'{letter}' || lpad(i::VARCHAR, 8, '0') AS identifier_value, NULL::DATE AS valid_to FROM range({residents}) AS t(i), orgs"
        for system, letter in (("public_health", "A"), ("his", "P"))
    )
    tables.overwrite("silver/person_identifier", connection.sql(entries).to_arrow_reader(200_000))
    empi_city.show("person_identifier")
    runs.open_run(DAY)


def make(home: str, residents: int) -> None:
    """Write the lake in a process of its own, and open the day's run on it."""
    maker = multiprocessing.get_context("spawn").Process(target=_write, args=(home, residents))
    maker.start()
    maker.join()
    if maker.exitcode:
        raise SystemExit(maker.exitcode)
