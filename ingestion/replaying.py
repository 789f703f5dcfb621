"""Quarantined records: which there are, what one holds, and running them again after a contract or a map was mended.

What the contract refused is kept as text by field, so it goes through today's contract as a delivery of its own, with
its first place (file, sheet, line); what passes is loaded, the rest is in quarantine again. A whole file that could
not be read is read again from landing. A single line that no reader could make a record of must come again from its
source. Each quarantined record runs again once: the records of a replay lie beside its batch, which the ledger knows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion import landing, prepare, run
from ingestion.readers.base import FILE_TABLE, LandedFile
from ingestion.sources import SourceFile
from ingestion.stage import Stage
from lake import audit, duck, ledger, tables
from lake.contracts import TableContract, contract
from lake.settings import settings

_ID = """md5(concat_ws('|', batch_id, table_name, source_file, coalesce(source_sheet, ''),
    coalesce(CAST(source_line AS VARCHAR), ''), errors, md5(coalesce(raw, ''))))"""
#: Numbers of the contract's own refusals: their payload is the record, field by field.
BY_CONTRACT = ("E210", "E211", "E212")


def _books() -> Path:
    return settings().landing_dir / "replay"


def _replayed() -> list[str]:
    """Files with the records of replays that were committed."""
    root = _books()
    found = sorted(root.glob("*.parquet")) if root.is_dir() else []
    return [str(p) for p in found if any(b.state == "committed" for b in ledger.attempts(p.stem))]


def waiting_view(con: duckdb.DuckDBPyConnection, feed: str) -> bool:
    """Make the view ``waiting``: quarantined records of a feed's tables that did not run again yet (the columns of
    ``quarantine.SCHEMA`` and ``record_id``). False: there are none, and no view. Values are as received: who shows
    them masks them by the policy."""
    shown = ledger.visible(f"quarantine/{feed}/" if feed else "quarantine/")
    if not shown:
        return False
    every = " UNION ALL BY NAME ".join(
        f"SELECT * FROM {tables.scan_sql(n, at)}" for n, at in sorted(shown.items())
    )
    done = _replayed()
    listed = ", ".join("'" + p.replace("'", "''") + "'" for p in done)
    seen = f" ANTI JOIN (SELECT record_id FROM read_parquet([{listed}])) USING (record_id)" if done else ""
    con.execute(
        f"CREATE TEMP VIEW waiting AS SELECT * FROM (SELECT *, {_ID} AS record_id FROM ({every})){seen}"
    )
    return True


def _where(org_code: str, code: str, table: str) -> tuple[str, list[str]]:
    wanted = {"org_code": org_code, "error_code": code, "table_name": table}
    given = {k: v for k, v in wanted.items() if v}
    return " AND ".join([f"{k} = ?" for k in given] or ["true"]), list(given.values())


def quarantine_list(feed: str = "", org_code: str = "", code: str = "") -> list[dict[str, Any]]:
    """What waits in quarantine, by reason, most records first; without a value of any record.

    Returns:
        feed, table_name, org_code, error_code, field, records, first_on, last_on (days of delivery), reason_zh,
        reason_en, remedy_zh, replayable.
    """
    with duck.connect() as con:
        if not waiting_view(con, feed):
            return []
        where, values = _where(org_code, code, "")
        codes = ", ".join(f"'{c}'" for c in BY_CONTRACT)
        return (
            con.execute(
                f"""SELECT feed, table_name, org_code, error_code, coalesce(field, '') AS field, count(*) AS records,
                       min(data_date) AS first_on, max(data_date) AS last_on, any_value(reason_zh) AS reason_zh,
                       any_value(reason_en) AS reason_en, any_value(remedy_zh) AS remedy_zh,
                       error_code IN ({codes}) OR table_name = '{FILE_TABLE}' AS replayable
                FROM waiting WHERE {where} GROUP BY ALL ORDER BY records DESC, feed, table_name, org_code, error_code""",
                values,
            )
            .to_arrow_table()
            .to_pylist()
        )


def quarantine_show(
    feed: str, *, actor: str, purpose: str, org_code: str = "", code: str = "", limit: int = 20
) -> list[dict[str, Any]]:
    """Quarantined records with their payload; the look is one line of the audit log.

    Returns:
        record_id, place, error_code, errors, field, reason_zh, remedy_zh, raw (as received), batch_id, data_date.
    """
    with duck.connect() as con:
        if not waiting_view(con, feed):
            return []
        where, values = _where(org_code, code, "")
        rows: list[dict[str, Any]] = (
            con.execute(
                f"""SELECT record_id, place, error_code, errors, field, reason_zh, remedy_zh, raw, batch_id, data_date
                FROM waiting WHERE {where} ORDER BY data_date, place LIMIT {int(limit)}""",
                values,
            )
            .to_arrow_table()
            .to_pylist()
        )
    audit.record(
        "quarantine.show",
        actor=actor,
        purpose=purpose,
        tables=[f"quarantine/{feed}"],
        fields=["raw"],
        rows=len(rows),
        result="shown",
    )
    return rows


def replay(feed: str, *, actor: str, table: str = "", org_code: str = "", code: str = "") -> dict[str, Any]:
    """Run the quarantined records of a feed's tables again.

    Returns:
        feed, replayed, loaded, duplicate, quarantined (again), left (records that only their source can mend), batches.

    Raises:
        MedlakeError: E102, no such feed.
    """
    contract(feed)
    where, values = _where(org_code, code, table)
    total = dict.fromkeys(("replayed", "loaded", "duplicate", "quarantined"), 0)
    batches: list[str] = []
    with run.feed_lock(feed), duck.connect() as con:
        run.recover_held(feed)
        if not waiting_view(con, feed):
            return {"feed": feed, **total, "left": 0, "batches": []}
        codes = ", ".join(f"'{c}'" for c in BY_CONTRACT)
        con.execute(f"CREATE TEMP TABLE chosen AS SELECT * FROM waiting WHERE {where}", values)
        groups = con.execute(
            f"""SELECT data_date, table_name FROM chosen WHERE error_code IN ({codes}) OR table_name = '{FILE_TABLE}'
            GROUP BY ALL ORDER BY ALL"""
        ).fetchall()
        for day, name in groups:
            only = "" if name == FILE_TABLE else f" AND error_code IN ({codes})"
            con.execute(
                f"""CREATE OR REPLACE TEMP TABLE again AS SELECT * FROM chosen
                WHERE data_date = DATE '{day}' AND table_name = '{name}'{only} ORDER BY record_id"""
            )
            lines = _run_again(con, feed, day, name)
            for batch_id in lines:
                batches.append(batch_id)
                for line in ledger.lines_of(batch_id):
                    total["replayed"] += line.received
                    for n in ("loaded", "duplicate", "quarantined"):
                        total[n] += getattr(line, n)
        left = con.execute(
            f"SELECT count(*) FROM chosen WHERE error_code NOT IN ({codes}) AND table_name <> '{FILE_TABLE}'"
        ).fetchone()
    audit.record(
        "quarantine.replay",
        actor=actor,
        purpose="replay",
        tables=[f"quarantine/{feed}"],
        fields=[],
        rows=total["replayed"],
        result="replayed",
        batches=batches,
    )
    return {"feed": feed, **total, "left": int(left[0]) if left else 0, "batches": batches}


def _run_again(con: duckdb.DuckDBPyConnection, feed: str, day: date, name: str) -> list[str]:
    ids = con.execute("SELECT record_id FROM again ORDER BY record_id").to_arrow_table()
    digest = hashlib.sha256("".join(ids["record_id"].to_pylist()).encode()).hexdigest()[:12]
    identity = f"replay-{feed}-{day:%Y%m%d}-{digest}"
    book = _books() / f"{identity}.parquet"
    book.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pq.write_table(ids, book)
    if name == FILE_TABLE:
        reading = _files(con, feed, day, identity)
    else:
        reading = _records(con, contract(feed).tables[name], feed, day, identity)
    run.take(reading)
    return [b.batch_id for b in ledger.attempts(identity) if b.state == "committed"]


def _landed(names: Iterable[tuple[str, str]], digest: str) -> list[LandedFile]:
    root = settings().landing_dir
    return [
        LandedFile(
            n, root / source, source, Path(source).name, f"replay:{digest}"[:64], 0, org, f"replay:{source}"
        )
        for n, (source, org) in enumerate(names)
    ]


def _records(
    con: duckdb.DuckDBPyConnection, table: TableContract, feed: str, day: date, identity: str
) -> prepare.Reading:
    """The records that a contract refused, from their payload, each with its first place."""
    sources = [r[0] for r in con.execute("SELECT DISTINCT source_file FROM again ORDER BY 1").fetchall()]
    landed = _landed([(s, "") for s in sources], identity[-12:])
    con.register(
        "numbered", pa.table({"source_file": sources, "file_no": pa.array(range(len(sources)), pa.int32())})
    )

    def path(key: str) -> str:
        return "'$.\"" + key.replace("'", "''") + "\"'"

    fields = ", ".join(f'raw ->> {path(f.physical_name)} AS "{f.name}"' for f in table.fields)
    query = f"""SELECT file_no, org_code, source_sheet, source_line, raw ->> '$._extra' AS _extra, raw ->> '$._op' AS _op,
               {fields}
        FROM again JOIN numbered USING (source_file) ORDER BY file_no, source_line"""

    def read(stage: Stage) -> None:
        for rows in con.execute(query).to_arrow_reader(100_000):
            stage.rows(landed[0], table.name, pa.Table.from_batches([rows]))

    return prepare.Reading(contract(feed), day, identity, landed, [], read)


def _files(con: duckdb.DuckDBPyConnection, feed: str, day: date, identity: str) -> prepare.Reading:
    """Whole files that could not be read, read again from landing."""
    root = settings().landing_dir
    names = con.execute("SELECT DISTINCT source_file, org_code FROM again ORDER BY ALL").fetchall()
    hashed = [
        landing.hash_file(SourceFile(root / source, "/".join(Path(source).parts[3:]), org))
        for source, org in names
        if (root / source).is_file()
    ]
    return prepare.read_files(contract(feed), day, identity, hashed, [])
