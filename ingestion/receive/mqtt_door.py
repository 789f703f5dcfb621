"""The MQTT door as one process: subscriber, journal, fast lane, micro-batches, and an orderly end on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

from ingestion.receive import offer
from ingestion.receive.follow import Follower
from ingestion.receive.journal import Journal
from ingestion.receive.mqtt import Broker, Subscriber
from ingestion.receive.mqtt_batches import Batches
from lake.log import logger

_log = logger("receive")


async def serve(
    broker: Broker,
    *,
    door: str = "mqtt",
    feed: str = "iot",
    batch_seconds: float = 5.0,
    seal_bytes: int = 16 << 20,
    ingest: bool = True,
    ready: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Subscribe until SIGTERM or SIGINT; returns what was done.

    Args:
        batch_seconds: what came reaches the drop, and with ``ingest`` silver, this often.
        ready: called when the first subscription stands.

    Raises:
        MedlakeError: E250 another process holds the door; E267 the broker refuses us for good.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    journal = Journal(
        door, feed, suffix=".mqtt", seal_bytes=seal_bytes, seal_seconds=batch_seconds, framing="lines"
    )
    batches = Batches(feed, door, batch_seconds)
    async with journal:
        lane = Follower(journal, "fastlane", offer.messages)
        following = asyncio.create_task(lane.run(), name="fastlane")
        rounds = asyncio.create_task(batches.run() if ingest else _nothing(), name="micro-batches")
        subscriber = Subscriber(journal, broker)
        try:
            await subscriber.start()
            await _first({subscriber.connected.wait(), stop.wait(), subscriber.failed.wait()})
            if subscriber.connected.is_set():
                ready()
            await _first({stop.wait(), subscriber.failed.wait()})
        finally:
            await subscriber.stop()
            lane.stop()
            await following
    batches.stop()
    await rounds
    facts = subscriber.facts() | {"durable": journal.durable, "handed_over": journal.handed}
    facts |= {
        "lane_behind": journal.durable - lane.position,
        "batches": batches.runs,
        "records": batches.totals,
    }
    _log.info("door_closed", received=facts["received"], records=facts["handed_over"])
    if subscriber.refusal is not None:
        raise subscriber.refusal
    return facts


async def _nothing() -> None:
    return


async def _first(waits: set[Any]) -> None:
    tasks = [asyncio.ensure_future(w) for w in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
