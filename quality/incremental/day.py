"""A day's evaluation, full or by changes, and what of its findings is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Literal

import duckdb

from lake import tables
from lake.errors import MedlakeError
from lake.runs import Run
from quality import corrections, findings
from quality.engine import evaluate
from quality.incremental import run as changes
from quality.incremental import signature, store
from quality.incremental.run import Outcome
from quality.incremental.store import Pair, Previous
from quality.rule import RuleBook
from quality.tickets import waiver_sql

Mode = Literal["auto", "full", "incremental"]

#: Why a check is full, as results and errors say it.
BECAUSE = {
    "asked": "要求全量 / a full one was asked for",
    "first": "之前没有完成的质控 / no check before",
    "no_state": "上一次质控没有保存增量状态 / the check before kept no state",
    "engine": "质控引擎、代码表或参考值已更新 / engine, code lists or reference values are others",
    "small": "数据量小，全量更快 / of so few records a full one is faster",
    "month": "每月一次全量 / one a month is full",
    "all": "没有可以沿用的规则结果 / there is no rule whose results could stand",
}


#: Below so many records of the judged tables ``auto`` judges all: planning what to leave out costs more than it spares.
_SMALL = 100_000


@dataclass
class Day:
    """What was evaluated. ``because`` is empty where only changes were; ``outcome`` None where all was."""

    book: RuleBook
    run: Run
    before: Previous | None
    because: str
    outcome: Outcome | None
    signatures: dict[Pair, str]
    rows: dict[str, int]
    waived: str

    @property
    def mode(self) -> str:
        return "incremental" if self.outcome else "full"

    @property
    def judged_again(self) -> int:
        """Records that were judged: near a change, or all."""
        return self.outcome.judged_again if self.outcome else sum(self.rows.values())

    @property
    def engine(self) -> str:
        return signature.engine()

    @property
    def full_on(self) -> date:
        if self.outcome is None or self.before is None or self.before.full_on is None:
            return self.run.data_date
        return self.before.full_on

    def merge(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make ``finding``, all findings with their states, from ``finding_now`` and those before."""
        waiting = corrections.waiting_sql(self.run.data_date)
        last_on = self.before.run.data_date if self.before else None
        previous = self.before.finding_sql if self.before else None
        if self.outcome:
            previous = "standing"
        findings.merge(connection, self.book, self.run.data_date, previous, self.waived, waiting, last_on)
        connection.execute("DROP TABLE finding_now")  # as large as the findings themselves, which stand now
        if self.outcome and self.before:
            connection.execute("ALTER TABLE finding RENAME TO finding_again")
            connection.execute(f"""
                CREATE OR REPLACE TEMP VIEW finding AS
                SELECT * FROM {self.before.finding_sql} ANTI JOIN (SELECT finding_id FROM finding_again) USING (finding_id)
                UNION ALL SELECT * FROM finding_again
            """)
            connection.execute(
                "CREATE OR REPLACE TEMP TABLE finding_changed AS FROM finding_again EXCEPT FROM standing"
            )

    def write_findings(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Write what changed, or all. Returns the version."""
        if self.outcome and self.before:
            at = self.before.run.versions[store.FINDING]
            if (version := store.write_changed(connection, "finding_changed", at)) is not None:
                return version
        return store.write_whole(connection, "SELECT * FROM finding")


def _is_small(book: RuleBook, run: Run) -> bool:
    judged = [f"silver/{t}" for t in book.tables]
    return sum(tables.row_count(t, run.versions[t]) for t in judged if t in run.versions) < _SMALL


def _because(before: Previous | None, book: RuleBook, run: Run, mode: Mode) -> str:
    """Why all must be judged; empty where changes are enough."""
    if mode == "full":
        return "asked"
    if before is None:
        return "first"
    if before.engine is None or before.full_on is None:
        return "no_state"
    if before.engine != signature.engine():
        return "engine"
    if mode == "incremental":
        return ""
    if (before.full_on.year, before.full_on.month) != (run.data_date.year, run.data_date.month):
        return "month"
    return "small" if _is_small(book, run) else ""


@contextmanager
def evaluate_day(
    connection: duckdb.DuckDBPyConnection, book: RuleBook, run: Run, mode: Mode
) -> Iterator[Day]:
    """Evaluate a date's run. The connection has its views and a schema ``flags``; see ``quality.engine.evaluate``.

    Raises:
        MedlakeError: E403 a rule does not run; E456 changes were asked for, and all must be judged.
    """
    before = store.previous(run.data_date)
    because = _because(before, book, run, mode)
    waived = waiver_sql(run.data_date)
    outcome = None
    if not because and before is not None:
        outcome = changes.evaluate_changes(connection, book, run, before, waived)
        because = "" if outcome else "all"
    if mode == "incremental" and because:
        raise MedlakeError("E456", data_date=run.data_date, because=BECAUSE[because])
    if outcome is not None:
        made = Day(book, run, before, "", outcome, outcome.signatures, outcome.rows, waived)
    else:
        evaluated = evaluate(connection, book, run.data_date)
        signatures = changes.signatures(connection, book, run.data_date)
        made = Day(book, run, before, because, None, signatures, evaluated.rows, waived)
    try:
        yield made
    finally:
        if outcome is not None and outcome.worlds is not None:
            outcome.worlds.close()
