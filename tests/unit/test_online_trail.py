"""Audit entries of requests that come at once: all are durable when told so, in few transactions, in one chain."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from lake import audit, ops
from portal.trail import Trail


def entry(number: int) -> dict[str, Any]:
    return {
        "action": "fhir_match", "actor": "client:1", "purpose": "TREAT", "tables": [], "fields": [],
        "rows": number, "result": "ok",
    }  # fmt: skip


def written() -> list[int]:
    with ops.engine().begin() as connection:
        rows = connection.execute(ops.audit_entry.select().order_by(ops.audit_entry.c.seq))
        return [json.loads(row.entry)["rows"] for row in rows]


def test_entries_that_come_at_once_are_all_there(lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trail, calls = Trail(), []
    own = audit.record_all
    first_in, go = threading.Event(), threading.Event()

    def counted(entries: Any) -> int:
        calls.append(len(entries))
        first_in.set()
        assert go.wait(30)
        return own(entries)

    monkeypatch.setattr(audit, "record_all", counted)
    with ThreadPoolExecutor(21) as pool:
        first = pool.submit(trail.note, **entry(0))
        assert first_in.wait(30)
        rest = [pool.submit(trail.note, **entry(n)) for n in range(1, 21)]
        while len(trail._waiting) < 20:
            pass
        assert not any(f.done() for f in [first, *rest])  # nobody is told before it is written
        go.set()
        for told in [first, *rest]:
            told.result()
    assert calls == [1, 20]
    assert sorted(written()) == list(range(21))
    assert audit.verify() == 21


def test_whoever_waits_is_told_of_a_failure_and_the_next_is_written(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail, own = Trail(), audit.record_all

    def broken(entries: Any) -> int:
        raise OperationalError("insert", {}, Exception("disk I/O error"))

    monkeypatch.setattr(audit, "record_all", broken)
    with pytest.raises(OperationalError):
        trail.note(**entry(1))
    monkeypatch.setattr(audit, "record_all", own)
    trail.note(**entry(2))
    assert written() == [2]


def test_several_entries_make_the_same_chain_as_one_by_one(lake_home: Path) -> None:
    assert audit.record(**entry(1)) == 1
    assert audit.record_all([entry(2), entry(3)]) == 3
    assert audit.record(**entry(4)) == 4
    assert (written(), audit.verify()) == ([1, 2, 3, 4], 4)
