"""The MLLP door as one process: listener, journal, fast lane, and an orderly end on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

from ingestion.receive.facilities import Facilities
from ingestion.receive.follow import Follower
from ingestion.receive.journal import Journal
from ingestion.receive.mllp import Limits, Listener
from lake.log import logger

_log = logger("receive")


async def serve(
    host: str,
    port: int,
    facilities: Facilities,
    *,
    door: str = "mllp",
    feed: str = "hl7v2",
    seal_bytes: int = 16 << 20,
    seal_seconds: float = 30.0,
    limits: Limits | None = None,
    ready: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Listen until SIGTERM or SIGINT; returns what was done.

    Args:
        ready: called with the port once connections are taken.

    Raises:
        MedlakeError: E250, another process holds the door.
        OSError: the port is taken.
    """
    from ingestion.receive import hl7_lane

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    journal = Journal(
        door, feed, suffix=".hl7", seal_bytes=seal_bytes, seal_seconds=seal_seconds, framing="mllp-batch"
    )
    async with journal:
        lane = Follower(journal, "fastlane", hl7_lane.results, pause=hl7_lane.PAUSE)
        following = asyncio.create_task(lane.run(), name="fastlane")
        listener = Listener(journal, facilities, limits)
        try:
            ready(await listener.start(host, port))
            await stop.wait()
        finally:
            await listener.stop()
            lane.stop()
            await following
    facts = listener.facts() | {
        "durable": journal.durable,
        "handed_over": journal.handed,
        "lane_behind": journal.durable - lane.position,
    }
    _log.info("door_closed", received=facts["received"], records=facts["handed_over"])
    return facts
