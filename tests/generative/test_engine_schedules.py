"""Random schedules of deliveries and faults against the simplest model there is: a dictionary of the newest versions.

Deliveries come late, twice, together and out of order, with corrections and deletes. Storage refuses a write, loses
the answer after the commit landed, says that another writer came first, cannot be read, is full; the process dies
before or after any write, also while it undoes a batch or between two parts of a merge; then perhaps another door that
shares the table comes first. Whatever happens: once the schedule is through, silver is what the model says, every
accepted record is in bronze once, and the ledger balances.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake.exceptions import CommitFailedError
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

import ingestion
from ingestion import plan as plans
from lake import duck, kill, ledger, tables
from lake.errors import MedlakeError
from lake.settings import settings as platform
from tests.ingestion_world import DAY, adt, content, drop

KEYS = ("P1", "P2", "P3")
ORGS = ("H101", "C201")
START = datetime(2026, 11, 18, 0, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Version:
    """What a source says of a patient at a minute of its own clock; without a name: that it is deleted."""

    key: str
    minute: int
    name: str | None


@dataclass(frozen=True)
class Fault:
    kind: str
    at: int  # number of the write (of the read, for ``unreadable``) of one attempt


NAMES = st.none() | st.sampled_from(["王", "李", "王小东"])
VERSION = st.builds(Version, st.sampled_from(KEYS), st.integers(0, 9), NAMES)
DELIVERY = st.tuples(st.sampled_from(ORGS), st.lists(VERSION, min_size=1, max_size=5))
WRITE_FAULTS = ("refused", "lost answer", "conflict", "lost conflict", "disk full", "killed", "killed after")
FAULT = st.builds(Fault, st.sampled_from(WRITE_FAULTS), st.integers(0, 6)) | st.builds(
    Fault, st.just("unreadable"), st.integers(0, 30)
)
#: The second fault meets the undoing that the first one causes.
UNDOING = st.builds(
    lambda kind, at: [Fault("disk full", at), Fault(kind, at + 1)],
    st.sampled_from(("refused", "conflict", "killed", "killed after")),
    st.integers(0, 5),
)
ATTEMPT = st.lists(FAULT, min_size=1, max_size=3) | UNDOING
STEP = st.tuples(
    DELIVERY,
    st.lists(ATTEMPT, max_size=3),
    st.sampled_from(["left", "taken", "taken twice"]),
    st.booleans(),  # whether the other door comes before the next attempt
)


class Killed(BaseException):
    """The process is gone: nobody may catch this."""


class Storage:
    """Fails at numbered reads and writes of one attempt, each once."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults, self.writes, self.reads, self.dead = list(faults), -1, -1, False

    def _due(self, number: int, kinds: tuple[str, ...]) -> str | None:
        for fault in self.faults:
            if fault.at == number and fault.kind in kinds:
                self.faults.remove(fault)
                return fault.kind
        return None

    def __call__(self, when: str, table: str) -> None:
        if when == "read":
            self.reads += 1
            if self._due(self.reads, ("unreadable",)):
                raise OSError(errno.EIO, "read error")
            return
        self.writes += when == "before"
        before = ("refused", "conflict", "disk full", "killed")
        kind = self._due(
            self.writes, before if when == "before" else ("lost answer", "lost conflict", "killed after")
        )
        if kind in ("killed", "killed after"):
            self.dead = True
            raise Killed
        if kind in ("conflict", "lost conflict"):
            raise CommitFailedError("transaction failed: concurrent commit")
        if kind == "refused":
            raise ConnectionError(errno.ECONNRESET, "reset")
        if kind == "lost answer":
            raise TimeoutError(errno.ETIMEDOUT, "no answer")
        if kind == "disk full":
            raise OSError(errno.ENOSPC, "No space left on device")

    def attempt(self) -> None:
        """Ingest under the faults. Who is dead tidies nothing up on the way out, as after SIGKILL."""

        def unless_dead(real: Any) -> Any:
            def run(*given: Any, **named: Any) -> Any:
                if self.dead:
                    raise Killed
                return real(*given, **named)

            return run

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kill, "on_storage", self)
            patch.setattr(ledger, "undo", unless_dead(ledger.undo))
            patch.setattr(plans, "discard", unless_dead(plans.discard))
            try:
                ingestion.ingest_feed("his", DAY)
            except (Killed, OSError):
                pass
            except MedlakeError as error:
                assert error.code == "E108"


def _deliver(number: int, org: str, versions: list[Version]) -> Path:
    """A database extract of the patients, as ``medlake extract`` drops it; no two files have the same bytes."""
    columns: dict[str, list[str | None]] = {
        "PATIENT_LOCAL_ID": [v.key for v in versions],
        "NAME": [v.name for v in versions],
        "SOURCE_UPDATED_AT": [(START + timedelta(minutes=v.minute)).isoformat() for v in versions],
        "_op": ["U" if v.name else "D" for v in versions],
    }
    data = pa.table({n: pa.array(c, pa.string()) for n, c in columns.items()})
    path = drop("his", org, f"patient_{number}.parquet", b"")
    pq.write_table(data.replace_schema_metadata({"delivery": str(number)}), path)
    return path


def _silver() -> dict[tuple[str, str], Version]:
    with duck.connect() as con:
        at = ledger.visible()["silver/patient"]
        rows = con.execute(f"""SELECT org_code, patient_local_id, name, source_updated_at, is_deleted
            FROM {tables.scan_sql("silver/patient", at)} WHERE org_code <> 'H001'""").fetchall()
        duck.create_views(con, ledger.visible())
        seen = con.execute(
            "SELECT org_code, patient_local_id FROM silver.patient WHERE org_code <> 'H001'"
        ).fetchall()
    assert len({row[:2] for row in rows}) == len(rows), "one row a key"
    assert set(seen) == {row[:2] for row in rows if not row[4]}, "who is deleted is not seen"
    return {
        (org, key): Version(key, int((at - START).total_seconds() // 60), None if gone else name)
        for org, key, name, at, gone in rows
    }


def _patient(key: str, minute: int) -> tuple[str, list[Version]]:
    return "H101", [Version(key, minute, "王")]


#: No shrinking: an example takes a second, and a schedule is read well enough as it is.
@given(steps=st.lists(STEP, min_size=1, max_size=5))
@example(  # it dies while it undoes what a full disk stopped: bronze is back already, silver is not
    steps=[
        (_patient("P1", 1), [], "taken", False),
        (_patient("P2", 2), [[Fault("disk full", 1), Fault("killed after", 2)]], "taken", False),
    ]
)
@example(  # and another door that writes the table finds it so
    steps=[
        (_patient("P1", 1), [], "taken", False),
        (_patient("P1", 2), [[Fault("disk full", 1), Fault("killed", 2)]], "left", True),
    ]
)
@settings(
    max_examples=15,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_whatever_happens_silver_is_the_newest_of_what_was_delivered(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(tmp_path_factory.mktemp("lake") / "var"))
        patch.setattr(tables, "_MERGE_ROWS", 2)  # a merge in parts
        patch.setattr(tables, "_MANY_FILES", 4)  # and now and then a compaction
        patch.setattr(tables.time, "sleep", lambda _seconds: None)
        platform.cache_clear()
        model: dict[tuple[str, str], Version] = {}
        delivered: set[tuple[str, str, int, str | None]] = set()
        sent = messages = 0
        for number, ((org, versions), attempts, end, other_door) in enumerate(steps):
            path = _deliver(number, org, versions)
            sent += len(versions)
            for v in versions:
                old = model.get((org, v.key))
                if old is None or v.minute >= old.minute:  # of one minute the last delivered counts
                    model[org, v.key] = v
                delivered.add((org, v.key, v.minute, v.name))
            for faults in attempts:
                Storage(faults).attempt()
            if other_door:
                messages += 1
                drop("hl7v2", "H001", f"adt_{number}.hl7", adt(f"M{number}", f"B{number}").encode())
                ingestion.ingest_feed("hl7v2", DAY)
            if end != "left":
                ingestion.ingest_feed("his", DAY)
            if end == "taken twice":  # the very same file by another way: known by content
                again = ingestion.ingest_paths([path], "his", org_code=org, data_date=DAY)
                assert again["duplicate"] >= len(versions)
                sent += len(versions)
        total = ingestion.ingest_feed("his", DAY)
        assert _silver() == model
        assert len(content("silver/hl7v2_message")) == messages
        assert total["received"] == sent == sum(total[n] for n in ("loaded", "duplicate", "quarantined"))
        assert ledger.open_batches() == []
        assert list(plans.root("his").iterdir()) == []
        bronze = [
            row
            for row in content("bronze/his/patient", "org_code, patient_local_id, source_file, source_line")
            if row[0] != "H001"
        ]
        assert len(set(bronze)) == len(bronze) == total["loaded"]
        fields = "org_code, patient_local_id, try_cast(source_updated_at AS TIMESTAMPTZ), name"
        kept = {
            (org, key, int((at - START).total_seconds() // 60), name)
            for org, key, at, name in content("bronze/his/patient", fields)
            if org != "H001"
        }
        assert kept == delivered, "whatever was accepted is in bronze"
    platform.cache_clear()
