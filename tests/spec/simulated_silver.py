"""A simulated city's tables as the platform holds them on the last day, without its files: the newest version of each
record, and what the lake gives rules besides (who is whom, what was delivered, every version, the access log)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from lake.contracts import table_contract
from quality.rule import REFERENCE, RuleBook
from quality.shapes import derived
from simulator.clinical.world import FEED_OF
from simulator.faults.record import KEYS, World

#: Tables that a newer row of the same key replaces, by what tells which is newer; the others come once.
STAMPS = ("source_updated_at", "recorded_at")
#: What the feeds themselves read out of a message or a file header.
READ_OUT = {
    "lab_result": """SELECT *, TRY_CAST(value_text AS DOUBLE) AS value_num,
        TRY_CAST(split_part(ref_range_text, '-', 1) AS DOUBLE) AS ref_low,
        TRY_CAST(split_part(ref_range_text, '-', 2) AS DOUBLE) AS ref_high FROM given""",
    "imaging_series": """SELECT DISTINCT ON (org_code, series_instance_uid) * FROM given ORDER BY deliver_on""",
    "imaging_study": """SELECT org_code, study_instance_uid, any_value(accession_no) AS accession_no,
        any_value(patient_local_id) AS patient_local_id, min(study_at) AS study_at,
        count(DISTINCT series_instance_uid) AS series_count, count(*) AS instance_count, min(deliver_on) AS deliver_on
        FROM given GROUP BY ALL UNION ALL BY NAME
        SELECT org_code, study_instance_uid, study_at, instance_count, series_count, deliver_on FROM listed""",
}  # fmt: skip


def reads(book: RuleBook) -> set[str]:
    """Silver tables that the rules and what is derived for them read."""
    wanted = {r.table for r in book.rules} | {
        t for r in book.rules for x in r.targets if x.query for t in book.queries[x.query].reads
    }
    wanted |= {t for name in wanted & set(derived()) for t in derived()[name].reads}
    return wanted - set(derived()) - set(REFERENCE)


def load(connection: duckdb.DuckDBPyConnection, world: World, table: str, end: date) -> None:
    """Silver as it is on the last day: the newest version of each record, instants in UTC."""
    kinds = table_contract(table).silver_columns
    rows = world.tables["imaging_instance" if table.startswith("imaging_s") else table]
    connection.register("given", rows.filter(pc.less_equal(rows["deliver_on"], pa.scalar(end, pa.date32()))))
    connection.register("listed", world.tables["imaging_study"])
    read = READ_OUT.get(table, "FROM given")
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE read_out AS SELECT *, deliver_on AS data_date FROM ({read})"
    )
    names = [row[0] for row in connection.execute("DESCRIBE read_out").fetchall()]
    columns = [
        f"({name} - INTERVAL 8 HOUR)::TIMESTAMP AT TIME ZONE 'UTC' AS \"{name}\""
        if kind == "TIMESTAMPTZ" and name in names
        else f'{name if name in names else "NULL"}::{kind} AS "{name}"'
        for name, kind in kinds.items()
    ]
    stamp = next((s for s in STAMPS if s in names), None)
    newest = ""
    if stamp and table in KEYS:
        key = ", ".join(KEYS[table])
        newest = f"QUALIFY row_number() OVER (PARTITION BY org_code, {key} ORDER BY {stamp} DESC, deliver_on DESC) = 1"
    connection.execute(
        f"CREATE TABLE silver.{table} AS SELECT {', '.join(columns)} FROM (FROM read_out {newest})"
    )


def give(
    connection: duckdb.DuckDBPyConnection, world: World, end: date, versions_of: Collection[str]
) -> None:
    """``person_identifier`` as the truth knows it, ``delivered``, ``audit_event``, and bronze of some tables."""
    for number, (table, key, system) in enumerate(
        (("patient", "patient_local_id", "his"), ("ph_archive", "archive_id", "public_health"))
    ):
        connection.register("given", world.tables[table])
        verb = "INSERT INTO" if number else "CREATE TABLE"
        connection.execute(f"""{verb} silver.person_identifier {"" if number else "AS"}
            SELECT DISTINCT 'P' || resident AS empi_id, '{system}' AS source_system, org_code, 'MR' AS identifier_type,
                {key} AS identifier_value, NULL::DATE AS valid_to FROM given""")
    connection.execute(
        "CREATE TABLE silver.delivered (org_code VARCHAR, of_table VARCHAR, day_on DATE, records BIGINT)"
    )
    for table, feed in FEED_OF.items():
        if feed == "public_health":
            connection.register("given", world.tables[table])
            connection.execute(f"""INSERT INTO silver.delivered
                SELECT org_code, '{table}', deliver_on, count(*) FROM given WHERE deliver_on <= DATE '{end}' GROUP BY ALL""")
    connection.register("given", world.tables["audit_event"])
    connection.execute(f"""CREATE TABLE silver.audit_event AS SELECT * EXCLUDE (happened_at, deliver_on, resident),
        (happened_at - INTERVAL 8 HOUR) AT TIME ZONE 'UTC' AS happened_at FROM given WHERE deliver_on <= DATE '{end}'""")
    for table in versions_of:
        connection.register("given", world.tables[table])
        connection.execute(f"""CREATE TABLE silver.bronze_{table} AS
            SELECT *, recorded_at AS newest_by, md5(g::VARCHAR) AS raw_hash
            FROM (SELECT * EXCLUDE (deliver_on, resident) FROM given WHERE deliver_on <= DATE '{end}') AS g""")
