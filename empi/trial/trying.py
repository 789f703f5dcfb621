"""``medlake empi try``: read, code, link by the platform's own functions, judge, write. The lake is not touched."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import duckdb
import psutil

from empi import linking
from empi.trial import coding, judging, mapping, reading
from lake.errors import MedlakeError
from lake.local_time import local_today
from lake.settings import settings

#: Memory of the connection: this share of what is free now; the rest goes to the spill folder.
_MEMORY_SHARE, _MEMORY_MIN_MB = 0.5, 1000
_OUT = {".parquet": "FORMAT parquet, COMPRESSION zstd", ".csv": "FORMAT csv, HEADER"}

#: Why a record that is alone cannot be found to be anybody's; from its standardised columns.
_UNLINKABLE = """CASE
    WHEN count(*) OVER (PARTITION BY c.cluster_no) > 1 THEN NULL
    WHEN r.is_unknown THEN 'unknown_person'
    WHEN r.idno IS NOT NULL OR r.card IS NOT NULL OR r.insurance IS NOT NULL THEN NULL
    WHEN known = 0 THEN 'no_usable_field'
    WHEN known = 1 THEN 'too_few_fields' END"""
_KNOWN = " + ".join(f"(r.{c} IS NOT NULL)::INT" for c in ("nm", "dob", "phone", "village", "kin_phone"))


def _connect(spill: str) -> duckdb.DuckDBPyConnection:
    free = int(psutil.virtual_memory().available * _MEMORY_SHARE) >> 20
    connection = duckdb.connect(
        config={
            "memory_limit": f"{max(free, _MEMORY_MIN_MB)}MB",
            "threads": settings().duckdb_threads,
            "temp_directory": spill,
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")  # it would stand before the JSON
    return connection


def _check_out(path: Path, out: Path) -> None:
    if out.suffix.lower() not in _OUT:
        raise MedlakeError("E375", place=str(out), detail=out.suffix or out.name)
    if not out.parent.is_dir():
        raise MedlakeError("E375", place=str(out), detail=f"没有目录 / no folder {out.parent}")
    if out.resolve() == path.resolve() or out.is_dir():
        raise MedlakeError("E375", place=str(out), detail=out.name)


def _person(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Make ``person(rec_no, person, link_cause, unlinkable)``; persons are numbered from 1 by their first record."""
    connection.execute(
        f"""CREATE OR REPLACE TABLE trial_person AS
        SELECT c.rec_no, dense_rank() OVER (ORDER BY c.first) AS person, c.link_cause, {_UNLINKABLE} AS unlinkable
        FROM (SELECT *, min(rec_no) OVER (PARTITION BY cluster_no) AS first FROM cluster) c
        JOIN record r USING (rec_no) CROSS JOIN LATERAL (SELECT {_KNOWN} AS known) k"""
    )
    persons, unlinkable = connection.execute(
        "SELECT count(DISTINCT person), count(unlinkable) FROM trial_person"
    ).fetchall()[0]
    return {"persons": int(persons), "unlinkable": int(unlinkable)}


def _write(
    connection: duckdb.DuckDBPyConnection,
    given: mapping.Mapping,
    columns: dict[str, reading.Column],
    out: Path,
) -> None:
    """Write the result beside the target first: what stands under the name asked for is whole."""
    shown = [f for f in ("record_id", "source") if f in given.columns]
    listed = ", ".join(f"g.{columns[given.columns[field][0]].name} AS {field}" for field in shown)
    draft = out.with_name(f".{out.name}.draft")
    target = "'" + str(draft).replace("'", "''") + "'"
    try:
        connection.execute(
            f"""COPY (SELECT {listed}, p.person, p.link_cause, p.unlinkable
                FROM given g JOIN trial_row t USING (row_no) JOIN trial_person p USING (rec_no) ORDER BY g.row_no)
            TO {target} ({_OUT[out.suffix.lower()]})"""
        )
        draft.replace(out)
    except (duckdb.Error, OSError) as error:
        draft.unlink(missing_ok=True)
        raise MedlakeError("E375", place=str(out), detail=type(error).__name__) from error


def _link(connection: duckdb.DuckDBPyConnection, records: int) -> dict[str, int]:
    connection.execute("CREATE TABLE decision (rec_l INTEGER, rec_r INTEGER, decision VARCHAR)")
    if records:
        counts = linking.resolve(connection, local_today(), records)
        return counts | _person(connection)
    connection.execute(
        "CREATE TABLE trial_person (rec_no INTEGER, person BIGINT, link_cause VARCHAR, unlinkable VARCHAR)"
    )
    return dict.fromkeys(("pairs", "edges", "guarded", "cut", "persons", "unlinkable"), 0)


def try_file(path: Path, map_path: Path, *, truth: str | None, out: Path | None) -> dict[str, Any]:
    """See :func:`empi.trial.try_file`."""
    given = mapping.load(map_path)
    if out is not None:
        _check_out(path, out)
    with tempfile.TemporaryDirectory(prefix="medlake-try-") as spill:
        connection = _connect(spill)
        try:
            columns, skipped = reading.read(connection, path, given, truth)
            unread = coding.create_source_record(connection, given, columns, str(path))
            records = unread.pop("records")
            counts = _link(connection, records)
            result: dict[str, Any] = {"records": records, "persons": counts.pop("persons"), **counts}
            if truth is not None:
                column = f"nullif(g.{columns[truth].name}::VARCHAR, '')"
                result |= judging.judge(
                    connection,
                    f"SELECT p.person, {column} AS truth FROM given g JOIN trial_row USING (row_no) "
                    "JOIN trial_person p USING (rec_no)",
                )
            if out is not None:
                _write(connection, given, columns, out)
                result["out"] = str(out)
        finally:
            connection.close()
    return result | {"unread": unread, "skipped_rows": skipped}
