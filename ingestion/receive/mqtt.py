"""MQTT: a persistent session with QoS 1 whose messages are acknowledged to the broker only when they are on disk.

What is not acknowledged the broker sends again after a restart of either side, so nothing is lost; what comes again is
known by its content (and by its key in silver). paho's network thread only wraps messages up; the journal and the
acknowledgements belong to the event loop. How much may be unacknowledged is told to the broker (receive maximum):
that bounds memory, and a slow disk slows the broker down.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingestion.readers.telemetry import envelope
from ingestion.receive import segment
from ingestion.receive.journal import Journal
from lake.errors import MedlakeError
from lake.log import logger

_log = logger("receive")

#: Every message of the group: ``hmg/<org>/<kind>/<device>/<channel>``.
TOPIC = "hmg/+/+/+/+"

#: Seconds until a message is offered to the journal again that the disk did not take.
_RETRY_SECONDS = 1.0

#: Seconds that a stop waits for a disk that takes nothing; what is not acknowledged then comes again.
_STOP_SECONDS = 10.0

#: Refusals that waiting does not mend (MQTT 5, 3.2.2.2): the operator must act.
_FATAL = frozenset({"Bad user name or password", "Not authorized", "Client identifier not valid", "Banned",
                    "Bad authentication method", "Unsupported protocol version"})  # fmt: skip


@dataclass(frozen=True)
class Broker:
    """Where the broker is and who we are there. The client id names the session: one listener an id."""

    host: str
    port: int
    client_id: str = "medlake"
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    topic: str = TOPIC
    session_days: int = 7
    receive_maximum: int = 1000
    reconnect_seconds: tuple[int, int] = (1, 60)


@dataclass
class Counts:
    """What a listener did since it started. ``repeated``: the broker sent it again, and it was on disk already."""

    received: int = 0
    journaled: int = 0
    repeated: int = 0
    acknowledged: int = 0
    bytes: int = 0
    connects: int = 0
    refused_writes: int = 0


class _Recent:
    """Hashes of the last messages that are on disk, to know what the broker sends again."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[bytes, None] = OrderedDict()

    @staticmethod
    def sign(line: bytes) -> bytes:
        """Of a journal line without its receipt time, which lies between topic and payload."""
        topic, _, rest = line.partition(b',"received_at":"')
        return hashlib.blake2b(topic + rest.partition(b'"')[2], digest_size=16).digest()

    def add(self, sign: bytes) -> None:
        self._kept[sign] = None
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)

    def __contains__(self, sign: bytes) -> bool:
        return sign in self._kept


class Subscriber:
    """One session at one broker in front of a journal; ``start`` and ``stop`` in the journal's event loop.

    Raises:
        MedlakeError: E267 from ``start``: a certificate or password file cannot be used.
    """

    def __init__(self, journal: Journal, broker: Broker) -> None:
        self.counts = Counts()
        self.refusal: MedlakeError | None = None
        self.connected = asyncio.Event()
        self.failed = asyncio.Event()
        self._journal, self._broker = journal, broker
        self._recent = _Recent(4 * broker.receive_maximum)
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection = 0  # counts connections: an acknowledgement belongs to the one its message came by
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._taken: list[tuple[int, int, bool, bytes]] = []
        self._stopping = False
        self._client = self._made()

    def _made(self) -> paho.Client:
        b = self._broker
        client = paho.Client(CallbackAPIVersion.VERSION2, b.client_id, protocol=paho.MQTTv5, manual_ack=True)
        client.on_connect, client.on_message = self._on_connect, self._on_message
        client.on_subscribe, client.on_disconnect = self._on_subscribe, self._on_disconnect
        client.reconnect_delay_set(*b.reconnect_seconds)
        try:
            if b.username:
                word = b.password_file.read_text("utf-8").rstrip("\r\n") if b.password_file else None
                client.username_pw_set(b.username, word)
            if b.ca_file or b.cert_file:
                context = ssl.create_default_context(cafile=str(b.ca_file) if b.ca_file else None)
                if b.cert_file:
                    context.load_cert_chain(b.cert_file, b.key_file)
                client.tls_set_context(context)
        except (OSError, ValueError) as error:
            raise MedlakeError("E267", place=f"{b.host}:{b.port}", detail=type(error).__name__) from None
        return client

    async def start(self) -> None:
        """Take up the session; connecting goes on in the background until ``stop``, however long the broker is away."""
        for found in self._journal.after(0)[-2:]:
            for record in segment.scan(found.path).records[-2 * self._broker.receive_maximum :]:
                self._recent.add(_Recent.sign(record.payload))
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = self._broker.session_days * 86_400
        properties.ReceiveMaximum = self._broker.receive_maximum
        self._client.connect_async(
            self._broker.host, self._broker.port, keepalive=30, clean_start=False, properties=properties
        )
        self._client.loop_start()

    async def stop(self) -> None:
        """Take no more, acknowledge what is on disk, and leave the session as it is: the rest comes to the next listener."""
        self._stopping = True
        await asyncio.sleep(0)  # what the network thread handed over before
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
        await asyncio.to_thread(self._leave)
        for task in list(self._tasks):
            task.cancel()

    def _leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def facts(self) -> dict[str, Any]:
        return asdict(self.counts) | {"waiting": len(self._tasks)}

    # ---- paho's network thread

    def _on_connect(self, client: paho.Client, _user: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            if str(reason) in _FATAL:
                self._tell_refusal(str(reason))
            return
        self._connection += 1
        self.counts.connects += 1
        _log.info(
            "mqtt_connected", count=self.counts.connects, state="session" if flags.session_present else "new"
        )
        # a subscription that is there already does not bring its retained messages again
        client.subscribe(self._broker.topic, options=SubscribeOptions(qos=1, retainHandling=1))

    def _on_subscribe(self, _client: Any, _user: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        if any(r.is_failure for r in reasons):
            self._tell_refusal(str(reasons[0]))
        else:
            self._loop.call_soon_threadsafe(self.connected.set)

    def _on_disconnect(self, _client: Any, _user: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._connection += 1
        _log.warning("mqtt_disconnected", reason=str(reason))
        with contextlib.suppress(RuntimeError):  # the loop has ended: so have we
            self._loop.call_soon_threadsafe(self.connected.clear)

    def _tell_refusal(self, detail: str) -> None:
        self.refusal = MedlakeError("E267", place=f"{self._broker.host}:{self._broker.port}", detail=detail)
        self._loop.call_soon_threadsafe(self.failed.set)

    def _on_message(self, _client: Any, _user: Any, message: paho.MQTTMessage) -> None:
        if self._stopping:
            return
        line = envelope(message.topic, datetime.now(UTC), message.payload)
        with self._lock:
            first = not self._taken
            self._taken.append((self._connection, message.mid if message.qos else 0, message.dup, line))
        if first:
            self._loop.call_soon_threadsafe(self._take)

    # ---- the event loop

    def _take(self) -> None:
        with self._lock:
            taken, self._taken = self._taken, []
        for connection, mid, dup, line in taken:
            self.counts.received += 1
            self.counts.bytes += len(line)
            task = self._loop.create_task(self._keep(connection, mid, dup, line))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _keep(self, connection: int, mid: int, dup: bool, line: bytes) -> None:
        sign = _Recent.sign(line)
        if dup and sign in self._recent:
            self.counts.repeated += 1
        else:
            while True:
                try:
                    await self._journal.append("", line)
                    break
                except OSError:  # not acknowledged meanwhile: the broker waits with us
                    self.counts.refused_writes += 1
                    await asyncio.sleep(_RETRY_SECONDS)
            self._recent.add(sign)
            self.counts.journaled += 1
        if mid and connection == self._connection:
            self._client.ack(mid, 1)
            self.counts.acknowledged += 1
