"""What an archive answered before, per study: enough to deliver only what changed and to notice what is gone.

One SQLite file an archive (``home/pull/pacs/<name>.sqlite``, mode 0600). It is written after the drop file is
durable: a pull that is killed in between delivers the same answers again, and they become the same rows.
"""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType

from ingestion.pull.pacs_qido import Answer
from lake.settings import settings

_SCHEMA = """
CREATE TABLE IF NOT EXISTS study (
    study_instance_uid TEXT PRIMARY KEY, study_day TEXT NOT NULL, answer TEXT NOT NULL, series TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS study_by_day ON study (study_day);
CREATE TABLE IF NOT EXISTS finished (run TEXT, study_day TEXT, PRIMARY KEY (run, study_day));
"""


@dataclass(frozen=True)
class Known:
    """One study with its series as last delivered."""

    answer: Answer
    series: list[Answer]


def canonical(answer: object) -> str:
    return json.dumps(answer, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


class State:
    """The file of one archive; everything between two ``commit`` calls is one transaction."""

    def __init__(self, name: str) -> None:
        folder = settings().folder("pull", "pacs")
        folder.chmod(0o700)
        path: Path = folder / f"{name}.sqlite"
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(path)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _SCHEMA)

    def __enter__(self) -> State:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._db.close()

    def is_finished(self, run: str, day: str) -> bool:
        row = self._db.execute(
            "SELECT 1 FROM finished WHERE run = ? AND study_day = ?", (run, day)
        ).fetchone()
        return row is not None

    def known(self, study_instance_uid: str) -> Known | None:
        row = self._db.execute(
            "SELECT answer, series FROM study WHERE study_instance_uid = ?", (study_instance_uid,)
        ).fetchone()
        return Known(json.loads(row[0]), json.loads(row[1])) if row else None

    def of_day(self, day: date | None) -> set[str]:
        """Studies known for a day; all of them for None."""
        if day is None:
            return {row[0] for row in self._db.execute("SELECT study_instance_uid FROM study")}
        query = "SELECT study_instance_uid FROM study WHERE study_day = ?"
        return {row[0] for row in self._db.execute(query, (day.strftime("%Y%m%d"),))}

    def put(self, study_instance_uid: str, day: str, known: Known) -> None:
        values = (study_instance_uid, day, canonical(known.answer), canonical(known.series))
        self._db.execute("INSERT OR REPLACE INTO study VALUES (?, ?, ?, ?)", values)

    def remove(self, study_instance_uid: str) -> None:
        self._db.execute("DELETE FROM study WHERE study_instance_uid = ?", (study_instance_uid,))

    def finish(self, run: str, day: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO finished VALUES (?, ?)", (run, day))

    def forget_run(self, run: str) -> None:
        """A run that is through leaves no trace: the next one asks every day anew."""
        self._db.execute("DELETE FROM finished WHERE run = ?", (run,))

    def commit(self) -> None:
        self._db.commit()
