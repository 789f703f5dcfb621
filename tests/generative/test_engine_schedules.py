"""Random schedules of deliveries and faults against the simplest model there is: a dictionary of the newest versions.

Deliveries come late, twice, out of order and with corrections and deletes; storage refuses a write, or loses the
answer after the commit landed; the disk is full; the process dies between two effects (the exception is raised past
every handler of ours, as a kill would be). Whatever happens, once the schedule is through silver is what the model
says, every accepted record is in bronze once, and the ledger balances.
"""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ingestion
from lake import duck, kill, ledger, tables
from lake.settings import settings as platform
from tests.ingestion_world import DAY, drop

KEYS = ("P1", "P2", "P3")
ORGS = ("H101", "C201")
START = datetime(2026, 11, 18, 0, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Version:
    key: str
    minute: int  # of the source's own time stamp
    name: str


VERSION = st.builds(
    Version, st.sampled_from(KEYS), st.integers(0, 30), st.sampled_from(["王", "李", "张", "王小东"])
)
DELIVERY = st.tuples(st.sampled_from(ORGS), st.lists(VERSION, min_size=1, max_size=4))
FAULTS = ("refused", "lost answer", "disk full", "killed")
#: (number of the write to storage, fault) of one attempt; None: it goes through
ATTEMPT = st.none() | st.tuples(st.integers(0, 5), st.sampled_from(FAULTS))
STEP = st.tuples(DELIVERY, st.lists(ATTEMPT, max_size=3), st.booleans())


class Killed(BaseException):
    """The process is gone: nobody may catch this."""


class Storage:
    """Fails at one numbered write."""

    def __init__(self, at: int, fault: str) -> None:
        self.at, self.fault, self.seen = at, fault, -1

    def __call__(self, when: str, table: str) -> None:
        if when == "before":
            self.seen += 1
        if self.seen != self.at:
            return
        if when == "before" and self.fault == "refused":
            self.at = -2  # once
            raise ConnectionError(errno.ECONNRESET, "reset")
        if when == "after" and self.fault == "lost answer":
            self.at = -2
            raise TimeoutError(errno.ETIMEDOUT, "no answer")
        if when == "before" and self.fault == "disk full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.fault == "killed":
            raise Killed


def _rows(versions: list[Version]) -> bytes:
    """A drop file as an extract writes it: NDJSON with the physical names."""
    lines = []
    for v in versions:
        at = (START + timedelta(minutes=v.minute)).isoformat()
        lines.append(
            json.dumps(
                {"PATIENT_LOCAL_ID": v.key, "NAME": v.name, "SOURCE_UPDATED_AT": at}, ensure_ascii=False
            )
        )
    return ("\n".join(lines) + "\n").encode()


def _silver() -> dict[tuple[str, str], tuple[str, datetime]]:
    if "silver/patient" not in ledger.visible():
        return {}
    with duck.connect() as con:
        duck.create_views(con, ledger.visible())
        rows = con.execute(
            "SELECT org_code, patient_local_id, name, source_updated_at FROM silver.patient"
        ).fetchall()
    found = {(org, key): (name, at) for org, key, name, at in rows}
    assert len(found) == len(rows), "one current row a key"
    return found


def _die(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill leaves no time to undo: what runs on the way out of an exception must do nothing."""
    monkeypatch.setattr(ledger, "undo", lambda *_a, **_k: (_ for _ in ()).throw(Killed()))


@given(steps=st.lists(STEP, min_size=1, max_size=6))
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_happens_silver_is_the_newest_of_what_was_delivered(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    home = tmp_path_factory.mktemp("lake") / "var"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(home))
        platform.cache_clear()
        model: dict[tuple[str, str], tuple[str, datetime]] = {}
        delivered: set[tuple[str, str, str, int]] = set()
        sent = 0
        for number, ((org, versions), attempts, again) in enumerate(steps):
            path = drop("his", org, f"patient_{number}.ndjson", _rows(versions))
            sent += len(versions)
            for fault in [*attempts, None]:
                kill.on_storage = Storage(*fault) if fault else None
                try:
                    with pytest.MonkeyPatch.context() as dying:
                        if fault and fault[1] == "killed":
                            _die(dying)
                        ingestion.ingest_feed("his", DAY)
                except (Killed, OSError):
                    pass
                finally:
                    kill.on_storage = None
            for v in versions:
                at = START + timedelta(minutes=v.minute)
                old = model.get((org, v.key))
                if old is None or at >= old[1]:
                    model[org, v.key] = (v.name, at)
                delivered.add((org, v.key, v.name, v.minute))
            if again:  # the very same file by another door: known by content
                done = ingestion.ingest_paths([path], "his", org_code=org, data_date=DAY)
                assert done["duplicate"] >= len(versions)
                sent += len(versions)
        found = _silver()
        assert {k: at for k, (_, at) in found.items()} == {k: at for k, (_, at) in model.items()}
        for key, (name, at) in found.items():  # of versions with one time stamp the last delivered counts
            assert (key[0], key[1], name, int((at - START).total_seconds() // 60)) in delivered
        total = ledger.totals()
        assert total["received"] == sent
        assert total["received"] == total["loaded"] + total["duplicate"] + total["quarantined"]
        assert ledger.open_batches() == []
        assert (
            tables.row_count("bronze/his/patient", ledger.visible("bronze/")["bronze/his/patient"])
            == total["loaded"]
        )
    platform.cache_clear()


def test_the_homes_of_examples_differ(tmp_path: Path) -> None:
    """The hook is off unless a test sets it."""
    assert kill.on_storage is None
