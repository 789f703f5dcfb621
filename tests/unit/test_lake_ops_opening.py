"""Processes that open a new operational database at once: each waits, none fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

OPEN = "import sys; from lake import ops; ops.connect('sqlite:///' + sys.argv[1]).connect().close()"


def test_processes_that_open_a_new_database_at_once_all_open_it(tmp_path: Path) -> None:
    for attempt in range(2):
        made = tmp_path / f"{attempt}.db"
        opened = [subprocess.Popen([sys.executable, "-c", OPEN, str(made)]) for _ in range(4)]
        assert {p.wait() for p in opened} == {0}


def test_a_database_that_somebody_is_writing_is_waited_for(tmp_path: Path) -> None:
    """Another process holds the lock of a database that is not in write-ahead mode yet, and lets go of it."""
    made = tmp_path / "held.db"
    hold = (
        "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('CREATE TABLE t (a)'); c.execute('BEGIN IMMEDIATE'); print('held', flush=True); "
        "time.sleep(0.5); c.execute('COMMIT')"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold, str(made)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert subprocess.run([sys.executable, "-c", OPEN, str(made)], check=False).returncode == 0
    assert holder.wait() == 0
