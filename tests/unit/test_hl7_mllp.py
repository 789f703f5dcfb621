"""The listener's manners: slow lines, vanished peers, too many of them, messages too long, a slow or failing disk."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ingestion.receive import facilities, spool
from ingestion.receive.facilities import Facilities
from ingestion.receive.journal import Journal
from ingestion.receive.mllp import Limits, Listener, limits
from lake.errors import MedlakeError
from tests.ingestion_world import adt

Work = Callable[[Listener, int], Awaitable[None]]


def with_listener(work: Work, **changed: object) -> Listener:
    """Run something against a listener in this process; returns it for its counts."""

    async def run() -> Listener:
        given: Limits = replace(limits(), **changed)  # type: ignore[arg-type]
        journal = Journal("mllp", "hl7v2", suffix=".hl7", framing="mllp-batch")
        async with journal:
            listener = Listener(journal, Facilities(), given)
            port = await listener.start("127.0.0.1", 0)
            try:
                await work(listener, port)
            finally:
                await listener.stop()
        return listener

    return asyncio.run(run())


def frame(text: str) -> bytes:
    return b"\x0b" + text.encode() + b"\x1c\r"


def code(answer: bytes) -> str:
    return answer.split(b"\rMSA|")[1].split(b"|")[0].decode()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> str:
    writer.write(data)
    return code(await reader.readuntil(b"\x1c\r"))


def test_a_frame_that_never_ends_is_closed_and_the_others_go_on(lake_home: Path) -> None:
    async def work(listener: Listener, port: int) -> None:
        slow_reader, slow = await asyncio.open_connection("127.0.0.1", port)
        slow.write(b"\x0bMSH|^~\\&|")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(ConnectionResetError):
            raise ConnectionResetError if await slow_reader.read() == b"" else AssertionError
        assert await ask(reader, writer, frame(adt("M1", "P1"))) == "AA", "an idle line is not a slow one"

    counts = with_listener(work, frame_seconds=0.1).counts
    assert (counts.closed_slow, counts.accepted) == (1, 1)


def test_a_message_in_small_pieces_and_two_at_once_are_answered_in_order(lake_home: Path) -> None:
    async def work(listener: Listener, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = frame(adt("M1", "P1")) + frame(adt("M2", "P2"))
        for n in range(0, len(data), 50):
            writer.write(data[n : n + 50])
            await writer.drain()
        answers = [await reader.readuntil(b"\x1c\r") for _ in range(2)]
        assert [b"|M1" in answers[0], b"|M2" in answers[1]] == [True, True]

    assert with_listener(work).counts.accepted == 2


def test_more_connections_than_allowed_are_turned_away(lake_home: Path) -> None:
    async def work(listener: Listener, port: int) -> None:
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in pairs:
            assert await ask(reader, writer, frame(adt("M1", "P1"))) == "AA"
        third, _ = await asyncio.open_connection("127.0.0.1", port)
        assert await third.read() == b""
        pairs[0][1].close()
        while listener.facts()["open"] > 1:
            await asyncio.sleep(0.005)
        again = await asyncio.open_connection("127.0.0.1", port)
        assert await ask(*again, frame(adt("M2", "P2"))) == "AA"

    assert with_listener(work, max_connections=2).counts.turned_away == 1


def test_a_message_too_long_is_refused_and_the_connection_lives(lake_home: Path) -> None:
    async def work(listener: Listener, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        long = adt("M1", "P1") + "NTE|1||" + "x" * 5000
        assert await ask(reader, writer, frame(long)) == "AE"
        assert await ask(reader, writer, frame(adt("M2", "P2"))) == "AA"

    counts = with_listener(work, max_message_bytes=2000).counts
    assert (counts.refused, counts.accepted) == (1, 1)


def test_a_slow_disk_slows_senders_and_not_the_memory(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fdatasync

    def slow(handle: int) -> None:
        time.sleep(0.05)
        real(handle)

    monkeypatch.setattr(spool.os, "fdatasync", slow)
    waiting: list[int] = []

    async def work(listener: Listener, port: int) -> None:
        async def sender(connection: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                b"".join(frame(adt(f"{connection}-{n}", "P1")) for n in range(5))
            )  # not waiting for answers
            for _ in range(5):
                assert code(await reader.readuntil(b"\x1c\r")) == "AA"
                waiting.append(listener.facts()["received"] - listener.facts()["accepted"])

        began = time.monotonic()
        await asyncio.gather(*(sender(n) for n in range(4)))
        assert time.monotonic() - began < 20 * 0.05, "connections share a sync"

    assert with_listener(work).counts.accepted == 20
    assert max(waiting) <= 4, "one message a connection at most waits for the disk"


def test_a_map_of_facilities(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text("中心: H001\nLIS|X: C201\n", "utf-8")
    found = facilities.load(path)
    assert [found.org_of(*pair) for pair in (("A", "中心"), ("LIS", "X"), ("A", "X"), ("A", "H101"))] == [
        "H001",
        "C201",
        None,
        "H101",
    ]
    own = facilities.load(path, "C201")
    assert [own.org_of("A", "any"), own.org_of("LIS", "X"), own.org_of("A", "中心")] == ["C201", "C201", None]


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: NOWHERE\n", "a: [\n", None])
def test_a_wrong_map_is_a_numbered_error(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "map.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(MedlakeError, match="E253"):
        facilities.load(path)


def test_an_unknown_institution_is_a_numbered_error() -> None:
    with pytest.raises(MedlakeError, match="E253"):
        facilities.load(None, "NOWHERE")
