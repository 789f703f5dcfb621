"""The contract at the door: the same SQL as the batch's, on the few records of one upload, before they are taken.

What passes here passes in the batch: both go through ``ingestion.stage``. What the contract does not know is kept.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from ingestion import quarantine
from ingestion.readers import json_rows
from ingestion.readers.base import LandedFile
from ingestion.stage import Stage, scan
from lake.contracts import TableContract, contract
from lake.settings import settings

Problem: TypeAlias = dict[str, Any]


def rows_of(table: TableContract, records: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Uploaded objects as text under the contract's field names, ``source_line`` counting from 1."""
    con = json_rows.connection()
    texts = pa.array([json.dumps(r, ensure_ascii=False) for r in records], pa.string())
    numbers = pa.array(range(1, len(records) + 1), pa.int64())
    con.register("uploaded", pa.table({"object": texts, "source_line": numbers}))
    found = con.execute(
        json_rows.rows_sql(table, "uploaded", ["source_line"]) + " ORDER BY source_line"
    ).to_arrow_table()
    con.unregister("uploaded")
    return found


def check(table: TableContract, group: Sequence[tuple[pa.Table, str]]) -> list[list[Problem]]:
    """What the contract refuses in each of several uploads (rows, institution), in one pass.

    Returns:
        per upload its problems: ``record`` (from 0), ``field``, ``code``, texts in both languages.
    """
    found: list[list[Problem]] = [[] for _ in group]
    with tempfile.TemporaryDirectory(dir=settings().folder("tmp")) as name:
        directory = Path(name)
        files = [
            LandedFile(n, directory / "upload.http", "upload.http", "upload.http", "", 1, org, "")
            for n, (_, org) in enumerate(group)
        ]
        stage = Stage(contract(table.feed), files, directory)
        try:
            for file, (rows, _) in zip(files, group, strict=True):
                stage.rows(file, table.name, rows)
            stage.finish()
            parts = scan(directory, stage.parts[table.name])
            query = f"SELECT file_no, source_line, err FROM {parts} WHERE err IS NOT NULL ORDER BY ALL"
            refused = stage.connection.execute(query).fetchall()
        finally:
            stage.close()
    errors = sorted({e for _, _, err in refused for e in err.split(",")})
    texts = {r["err"]: r for r in quarantine.reasons(table, errors, {}).to_pylist()} if errors else {}
    for number, line, err in refused:
        found[number] += [_problem(line - 1, texts[e]) for e in err.split(",")]
    return found


def _problem(record: int, text: Mapping[str, Any]) -> Problem:
    return {
        "record": record,
        "field": text["field"],
        "code": text["error_code"],
        "zh": text["reason_zh"],
        "en": text["reason_en"],
        "remedy_zh": text["remedy_zh"],
        "remedy_en": text["remedy_en"],
    }


class Checks:
    """Checks of one event loop. DuckDB plans a contract's statement in some 0.1 s, however few the rows: what comes
    while a table's statement runs waits for the next run of it, and all that wait share that one."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[pa.Table, str, asyncio.Future[list[Problem]]]]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def problems(self, table: TableContract, rows: pa.Table, org_code: str) -> list[Problem]:
        told: asyncio.Future[list[Problem]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(table.name, []).append((rows, org_code, told))
        if table.name not in self._running:
            self._running[table.name] = asyncio.create_task(self._run(table))
        return await told

    async def _run(self, table: TableContract) -> None:
        try:
            while group := self._waiting.pop(table.name, []):
                try:
                    found = await asyncio.to_thread(check, table, [(rows, org) for rows, org, _ in group])
                except Exception as error:  # each caller answers for itself
                    for _, _, told in group:
                        if not told.done():
                            told.set_exception(error)
                    continue
                for (_, _, told), problems in zip(group, found, strict=True):
                    if not told.done():
                        told.set_result(problems)
        finally:
            del self._running[table.name]


def key_of(table: TableContract, row: Mapping[str, Any]) -> str:
    """The record's key as one text, its parts joined by ``|`` in the contract's order."""
    return "|".join(str(row[name]) for name in table.key)
