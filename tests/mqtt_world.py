"""Devices that publish to a real mosquitto, and a real ``medlake listen mqtt``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

_LISTEN = "from medlake.commands.listen import app; app()"
START = datetime(2026, 11, 18, tzinfo=UTC)


def vital(device: str, seq: int, *, at: datetime | None = None, **more: Any) -> dict[str, Any]:
    """One reading under the contract's source names."""
    taken = at or START + timedelta(seconds=seq)
    return {
        "device": device,
        "seq": seq,
        "metric": "8867-4",
        "value": 60 + seq % 40,
        "unit": "/min",
        "ts_device": taken.isoformat(),
        "ts_gateway": taken.isoformat(),
    } | more


class Publisher:
    """A gateway: publishes with QoS 1 and knows what the broker has taken."""

    def __init__(self, port: int, name: str = "gateway", **options: Any) -> None:
        self.client = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
        self.client.max_queued_messages_set(0)
        self.client.max_inflight_messages_set(500)
        self.client.reconnect_delay_set(1, 1)
        if will := options.get("will"):
            self.client.will_set(will, json.dumps({"status": "offline"}), qos=1, retain=True)
        self.client.connect(options.get("host", "127.0.0.1"), port)
        self.client.loop_start()

    def send(self, topic: str, payload: Any, *, retain: bool = False) -> paho.MQTTMessageInfo:
        data = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False)
        return self.client.publish(topic, data, qos=1, retain=retain)

    def send_all(self, topic: str, payloads: Sequence[Any]) -> None:
        """Returns when the broker has acknowledged all of them."""
        self.wait([self.send(topic, p) for p in payloads])

    @staticmethod
    def wait(infos: Sequence[paho.MQTTMessageInfo]) -> None:
        """Until the broker has acknowledged all, those too that were published while it was away."""
        for info in infos:
            while not info._published:
                time.sleep(0.01)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self) -> None:
        """Break the connection without a word, as a device without power does."""
        sock = self.client.socket()
        assert sock is not None
        self.client.loop_stop()
        sock.close()


class Listener:
    """A running ``medlake listen mqtt``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.told: list[str] = []
        self._ready = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told.append(line)
            if line.startswith("MQTT "):
                self._ready.set()
        self._ready.set()

    def wait_ready(self) -> None:
        self._ready.wait()
        assert any(line.startswith("MQTT ") for line in self.told), "".join(self.told[-20:])

    def stop(self) -> dict[str, Any]:
        """In good order; what it did."""
        self.process.send_signal(signal.SIGTERM)
        return self.result()

    def result(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        self.process.wait()
        return dict(json.loads(out.strip().splitlines()[-1])) if out.strip() else {}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def listening(home: Path, port: int, *words: str) -> Iterator[Listener]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("MEDLAKE_")} | {"MEDLAKE_HOME": str(home)}
    command = [sys.executable, "-c", _LISTEN, "mqtt", "--broker", f"127.0.0.1:{port}", "--json", *words]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running = Listener(process)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def acknowledged(home: Path, n: int, listener: Listener) -> None:
    """Wait until the journal and the drop together hold so many messages; ends with the listener at the latest."""
    while True:
        assert listener.process.poll() is None, "".join(listener.told[-20:])
        if held(home) >= n:
            return
        time.sleep(0.05)


def held(home: Path) -> int:
    """Messages in the drop."""
    return sum(f.read_bytes().count(b"\n") for f in (home / "sources").glob("*/iot/mqtt_*.mqtt"))
