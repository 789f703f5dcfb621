"""A disk that is really full: nothing half done is seen, and with space again the same delivery is simply taken."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake import ledger
from lake.settings import settings
from tests.ingestion_world import content, drop, patient_csv

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="mounting a small tmpfs needs root; random schedules cover ENOSPC without"
)
INGEST = "import ingestion, datetime; ingestion.ingest_feed('his', datetime.date(2026, 11, 18))"
AT = "2026-11-18 08:00:00"


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of 12 MB; the sources lie on another disk."""
    home = tmp_path / "var"
    home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(home)], check=False).returncode:
        pytest.skip("this machine does not let us mount a small disk; random schedules cover ENOSPC without")
    monkeypatch.setenv("MEDLAKE_HOME", str(home))
    monkeypatch.setenv("MEDLAKE_SOURCES", str(tmp_path / "sources"))
    settings.cache_clear()
    try:
        yield home
    finally:
        from lake import ops

        ops.engine().dispose()
        subprocess.run(["umount", "-l", str(home)], check=True)
        settings.cache_clear()


def _ingest() -> int:
    return subprocess.run([sys.executable, "-c", INGEST], check=False, capture_output=True).returncode


def test_a_full_disk_fails_the_batch_and_space_lets_it_in(small_disk: Path) -> None:
    drop("his", "H101", "patient_1.csv", patient_csv(f"P1,王,1,1958-03-12,{AT}"))
    assert _ingest() == 0
    before, rows = ledger.visible(), content("silver/patient")
    many = [f"Q{n},{os.urandom(60).hex()},1,1958-03-12,{AT}" for n in range(60_000)]
    drop("his", "H101", "patient_2.csv", patient_csv(*many))
    assert _ingest() != 0
    assert ledger.visible() == before
    assert content("silver/patient") == rows
    subprocess.run(["mount", "-o", "remount,size=400m", str(small_disk)], check=True)
    assert _ingest() == 0
    total = ledger.totals()
    assert (total["received"], total["loaded"], total["quarantined"]) == (60_001, 60_001, 0)
    assert ledger.open_batches() == []
