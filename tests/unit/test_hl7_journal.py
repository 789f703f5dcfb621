"""The journal: what was acknowledged is in the drop, whatever happens in between."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ingestion.receive import segment, spool
from ingestion.receive.follow import Follower
from ingestion.receive.journal import Journal
from ingestion.receive.segment import Record, encode, scan
from lake.errors import MedlakeError
from lake.settings import settings


def made(**changed: object) -> Journal:
    return Journal("door", "hl7v2", suffix=".hl7", framing="lines", **changed)  # type: ignore[arg-type]


def dropped() -> dict[str, list[bytes]]:
    """Institution -> lines in the drop, in the order of the files' names."""
    found: dict[str, list[bytes]] = {}
    for path in sorted(settings().sources_dir.rglob("*.hl7")):
        found.setdefault(path.parent.name, []).extend(path.read_bytes().splitlines())
    return found


def left() -> list[str]:
    return sorted(p.name for p in (settings().home / "receive" / "door").iterdir() if p.suffix)


def in_loop(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(work())  # type: ignore[arg-type]


def test_records_are_numbered_and_reach_the_drop_by_institution(lake_home: Path) -> None:
    async def work() -> None:
        async with made() as journal:
            numbers = await asyncio.gather(*(journal.append(f"C20{n % 2}", b"m%d" % n) for n in range(6)))
            assert sorted(numbers) == [1, 2, 3, 4, 5, 6]
            assert journal.durable == 6

    in_loop(work)
    assert dropped() == {"C200": [b"m0", b"m2", b"m4"], "C201": [b"m1", b"m3", b"m5"]}
    assert left() == []
    assert not list(settings().sources_dir.rglob("*.part"))


def test_numbers_and_file_names_go_on_after_a_restart(lake_home: Path) -> None:
    async def work() -> None:
        for n in (1, 2):
            async with made() as journal:
                assert await journal.append("C201", b"m%d" % n) == n

    in_loop(work)
    names = sorted(p.name for p in settings().sources_dir.rglob("*.hl7"))
    assert names == ["door_000000000001.hl7", "door_000000000002.hl7"]


def test_callers_share_a_sync(lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fdatasync

    def sync(handle: int) -> None:
        synced.append(handle)
        real(handle)

    monkeypatch.setattr(spool.os, "fdatasync", sync)

    async def work() -> None:
        async with made() as journal:
            await asyncio.gather(*(journal.append("C201", b"x") for _ in range(100)))

    in_loop(work)
    assert len(synced) <= 3


def test_a_segment_is_sealed_by_size_and_by_age_while_the_door_is_open(lake_home: Path) -> None:
    async def work() -> None:
        async with made(seal_bytes=1000, seal_seconds=0.05) as journal:
            await journal.append("C201", b"x" * 2000)
            while journal.handed < 1:
                await asyncio.sleep(0.005)
            await journal.append("C201", b"small")
            while journal.handed < 2:
                await asyncio.sleep(0.005)
            assert len(dropped()["C201"]) == 2

    in_loop(work)


def test_files_are_for_the_owner_alone(lake_home: Path) -> None:
    async def work() -> None:
        async with made() as journal:
            await journal.append("C201", b"x")
            own = next(journal.folder.glob("*.wal"))
            assert own.stat().st_mode & 0o777 == 0o600
            assert journal.folder.stat().st_mode & 0o777 == 0o700
            assert journal.folder.parent.stat().st_mode & 0o777 == 0o700

    in_loop(work)
    assert next(settings().sources_dir.rglob("*.hl7")).stat().st_mode & 0o777 == 0o600


def test_a_door_has_one_holder(lake_home: Path) -> None:
    async def work() -> None:
        async with made():
            with pytest.raises(MedlakeError, match="E250"):
                made()
        journal = made()
        await journal.close()
        with pytest.raises(MedlakeError, match="E252"):
            await journal.append("C201", b"x")

    in_loop(work)


def crashed(*records: Record, tail: bytes = b"") -> Path:
    """A segment as a killed process leaves it."""
    folder = settings().folder("receive") / "door"
    folder.mkdir(exist_ok=True)
    path = folder / f"{records[0].seq:016d}.wal"
    body = b"".join(
        encode(r.seq, int(r.received_at.timestamp() * 1e6), r.org_code, r.payload) for r in records
    )
    path.write_bytes(body + tail)
    return path


def record(seq: int, payload: bytes = b"m") -> Record:
    from datetime import UTC, datetime

    return Record(seq, datetime(2026, 11, 18, 1, 2, 3, 456789, UTC), "C201", payload + b"%d" % seq)


@pytest.mark.parametrize("cut", [1, 5, 9, 20, 33])
def test_a_torn_tail_is_cut_and_the_rest_handed_over(lake_home: Path, cut: int) -> None:
    torn = encode(3, 0, "C201", b"never acknowledged")
    crashed(record(1), record(2), tail=torn[:cut])

    async def work() -> None:
        async with made() as journal:
            assert journal.durable == 2
            assert await journal.append("C201", b"m3") == 3

    in_loop(work)
    assert dropped() == {"C201": [b"m1", b"m2", b"m3"]}


def test_damage_in_the_middle_loses_no_neighbour_and_is_told(lake_home: Path) -> None:
    path = crashed(record(1), record(2), record(3))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert [r.seq for r in scan(path).records] == [1, 3]

    async def work() -> None:
        async with made():
            pass

    in_loop(work)
    assert dropped() == {"C201": [b"m1", b"m3"]}
    assert path.with_suffix(".damaged").read_bytes() == bytes(data)
    assert "E251" in (settings().log_dir / "medlake.jsonl").read_text()


def test_a_hand_over_that_was_done_already_changes_nothing(lake_home: Path) -> None:
    async def work() -> None:
        async with made():
            pass

    for _ in range(2):
        path = crashed(record(1), record(2))
        path.with_suffix(".sealed").write_text("2026-11-18")
        in_loop(work)
    target = settings().sources_dir / "2026-11-18" / "hl7v2" / "C201"
    assert [p.name for p in target.iterdir()] == ["door_000000000001.hl7"]
    crashed(record(1, b"other")).with_suffix(".sealed").write_text("2026-11-18")
    in_loop(work)
    assert len(list(target.iterdir())) == 2, "another content under the same name is kept beside it"


def test_a_full_disk_refuses_and_the_door_goes_on(lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    full = {"now": False}

    def write(handle: int, data: memoryview) -> int:
        if full["now"]:
            if len(data) > 1:
                return real(handle, data[:1])  # some bytes still fit, then none
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(spool.os, "write", write)

    async def work() -> None:
        async with made() as journal:
            await journal.append("C201", b"before")
            full["now"] = True
            with pytest.raises(OSError, match="No space"):
                await journal.append("C201", b"refused")
            full["now"] = False
            assert await journal.append("C201", b"after") == 2

    in_loop(work)
    assert dropped() == {"C201": [b"before", b"after"]}


def test_a_failed_sync_is_not_trusted_with_a_second_try_on_the_same_file(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fdatasync
    fails = {"left": 1}

    def sync(handle: int) -> None:
        if fails["left"]:
            fails["left"] -= 1
            raise OSError(errno.EIO, "Input/output error")
        real(handle)

    async def work() -> None:
        async with made() as journal:
            monkeypatch.setattr(spool.os, "fdatasync", real)
            await journal.append("C201", b"one")
            first = {p.name for p in journal.folder.glob("*.wal")}
            monkeypatch.setattr(spool.os, "fdatasync", sync)
            with pytest.raises(OSError, match="Input/output"):
                await journal.append("C201", b"lost")
            await journal.append("C201", b"two")
            assert {p.name for p in journal.folder.glob("*.wal")} != first

    in_loop(work)
    assert dropped() == {"C201": [b"one", b"two"]}


def test_a_drop_that_cannot_take_it_is_tried_again(lake_home: Path) -> None:
    blocked = settings().sources_dir
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where the drop's folder should be")

    async def work() -> None:
        async with made(seal_seconds=0.01) as journal:
            await journal.append("C201", b"one")
            while "handover_failed" not in (settings().log_dir / "medlake.jsonl").read_text():
                await asyncio.sleep(0.01)
            blocked.unlink()
            while journal.handed < 1:
                await asyncio.sleep(0.01)

    settings().folder("logs").joinpath("medlake.jsonl").touch()
    in_loop(work)
    assert dropped() == {"C201": [b"one"]}


def follower(journal: Journal, seen: list[int], *, fails: int = 0) -> Follower:
    trouble = {"left": fails}

    def handle(records: list[Record]) -> None:
        if trouble["left"]:
            trouble["left"] -= 1
            raise RuntimeError("the other room does not answer")
        seen.extend(r.seq for r in records)

    return Follower(journal, "lane", handle)


def test_a_follower_sees_every_record_in_order_and_again_after_a_failure(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.receive.follow.RETRY_SECONDS", 0.01)
    monkeypatch.setattr(segment, "BLOCK", 200)
    seen: list[int] = []

    async def work() -> None:
        async with made(seal_bytes=500, seal_seconds=0.01) as journal:
            lane = follower(journal, seen, fails=2)
            task = asyncio.create_task(lane.run())
            for n in range(60):
                await journal.append("C201", b"x" * (n * 7))
            while lane.position < 60:
                await asyncio.sleep(0.005)
            lane.stop()
            await task

    in_loop(work)
    assert seen == list(range(1, 61))
    assert left() == ["lane.position"]


def test_segments_wait_for_a_follower_that_is_behind_and_it_goes_on_after_a_restart(lake_home: Path) -> None:
    seen: list[int] = []

    async def unread() -> None:
        async with made() as journal:
            follower(journal, seen)  # never run: it was killed before it saw anything
            await journal.append("C201", b"1")
            await journal.append("C201", b"2")

    async def read() -> None:
        async with made() as journal:
            lane = follower(journal, seen)
            task = asyncio.create_task(lane.run())
            while lane.position < 2:
                await asyncio.sleep(0.005)
            lane.stop()
            await task

    in_loop(unread)
    assert len(dropped()["C201"]) == 2, "the drop does not wait for the fast lane"
    assert any(name.endswith(".wal") for name in left())
    in_loop(read)
    assert seen == [1, 2]
    assert left() == ["lane.position"]
    assert len(dropped()["C201"]) == 2
