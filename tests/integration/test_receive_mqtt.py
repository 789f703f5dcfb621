"""MQTT against a real mosquitto: nothing that the broker took is lost, nothing is double in silver."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select

import ingestion
from lake import ledger, ops
from lake.local_time import local_today
from tests import mqtt_world as world
from tests.ingestion_world import content
from tests.mqtt_world import Publisher, listening, vital
from tests.servers import certificates
from tests.servers.mosquitto import Mosquitto, a_broker

TOPIC = "hmg/C201/vital/{}/telemetry"
FAST = ("--batch-seconds", "0.5")


def _silver() -> list[tuple[str, int, str]]:
    return content("silver/vital_reading", "device_id, seq, org_code")


def _asked(kind: str) -> list[tuple[str, str]]:
    """(institution, origin) of the requests for work of a kind."""
    query = select(ops.work_request.c.org_code, ops.work_request.c.origin).where(
        ops.work_request.c.kind == kind
    )
    with ops.engine().begin() as connection:
        return [(r.org_code, r.origin) for r in connection.execute(query)]


def test_messages_become_silver_in_seconds(lake_home: Path, mosquitto_server: Mosquitto) -> None:
    with listening(lake_home, mosquitto_server.port, "--client-id", "m1", *FAST) as listener:
        listener.wait_ready()
        gateway = Publisher(mosquitto_server.port)
        gateway.send_all(TOPIC.format("D1"), [[vital("D1", n), vital("D1", n + 1)] for n in (1, 3, 5)])
        gateway.send_all(TOPIC.format("D2"), [vital("D2", 1)])
        gateway.close()
        while len(_silver()) < 7:  # ends with the listener at the latest
            assert listener.process.poll() is None, listener.told
            time.sleep(0.1)
        told = listener.stop()
    assert told["journaled"] == told["acknowledged"] == 4 and told["records"]["loaded"] == 7
    assert _silver() == [*(("D1", n, "C201") for n in range(1, 7)), ("D2", 1, "C201")]


def test_a_warm_refrigerator_asks_for_work_before_any_batch(
    lake_home: Path, mosquitto_server: Mosquitto
) -> None:
    now = datetime.now(UTC)
    with listening(
        lake_home, mosquitto_server.port, "--client-id", "m8", "--batch-seconds", "600", "--no-ingest"
    ) as listener:
        listener.wait_ready()
        gateway = Publisher(mosquitto_server.port, "gateway-8")
        for minute in range(9, -1, -1):
            taken = (now - timedelta(minutes=minute)).isoformat()
            reading = {"seq": 10 - minute, "temp": 11.5, "ts_device": taken}
            gateway.send_all("hmg/C201/cold_chain/FRIDGE-1/telemetry", [[reading]])
        gateway.close()
        while not (asked := _asked("cold_chain_alarm")):
            assert listener.process.poll() is None, listener.told
            time.sleep(0.05)
        waited = (datetime.now(UTC) - now).total_seconds()
        told = listener.stop()
    assert asked == [("C201", "fast_lane")] and told["lane_behind"] == 0
    assert waited < 60


def test_a_last_will_is_the_devices_state(lake_home: Path, mosquitto_server: Mosquitto) -> None:
    topic = "hmg/C201/vital/WATCH-1/status"
    with listening(lake_home, mosquitto_server.port, "--client-id", "m9", "--no-ingest", *FAST) as listener:
        listener.wait_ready()
        watch = Publisher(mosquitto_server.port, "watch", will=topic)
        watch.send_all(topic, [{"status": "online", "ts_status": "2026-11-18T08:00:00Z"}])
        watch.vanish()
        world.acknowledged(lake_home, 2, listener)
        listener.stop()
    broom = Publisher(mosquitto_server.port, "broom")
    broom.wait([broom.send(topic, b"", retain=True)])
    broom.close()
    assert ingestion.ingest_feed("iot", local_today())["loaded"] == 2
    found = content("silver/device_status", "status_at, device_id, status_code, org_code")
    assert [r[1:] for r in found] == [("WATCH-1", "online", "C201"), ("WATCH-1", "offline", "C201")]


def test_what_means_nothing_is_quarantined_with_its_reason(
    lake_home: Path, mosquitto_server: Mosquitto
) -> None:
    with listening(lake_home, mosquitto_server.port, "--client-id", "m2", "--no-ingest", *FAST) as listener:
        listener.wait_ready()
        gateway = Publisher(mosquitto_server.port)
        for topic, payload in (
            (TOPIC.format("D1"), b"{broken"),
            (TOPIC.format("D1"), b"\xff\xfe"),
            (TOPIC.format("D1"), b"12"),
            (TOPIC.format("D1"), [vital("D1", 1), "no object", vital("D1", 2)]),
            ("hmg/XXXX/vital/D1/telemetry", [vital("D1", 3)]),
            ("hmg/../vital/D1/telemetry", [vital("D1", 3)]),
            ("hmg/C201/teapot/D1/telemetry", [vital("D1", 3)]),
            ("hmg/C201/vital/D1/telemetry", b'[1], "topic": "hmg/H001/vital/D1/telemetry'),
            (TOPIC.format("D1"), []),
        ):
            gateway.send_all(topic, [payload])
        gateway.close()
        world.acknowledged(lake_home, 9, listener)
        listener.stop()
    done = ingestion.ingest_feed("iot", local_today())
    assert done["received"] == done["loaded"] + done["quarantined"] and done["loaded"] == 2, done
    assert _silver() == [("D1", 1, "C201"), ("D1", 2, "C201")]
    codes = [r[0] for r in content("quarantine/iot/file", "error_code")]
    assert sorted(codes) == ["E265"] * 3 + ["E266"] * 5


def test_a_kill_under_load_loses_nothing(lake_home: Path, mosquitto_server: Mosquitto) -> None:
    """The listener is killed again and again while a gateway publishes; the last one finishes the work."""
    options = ("--client-id", "m3", *FAST)
    with listening(lake_home, mosquitto_server.port, *options) as first:
        first.wait_ready()
        gateway = Publisher(mosquitto_server.port)
        for n in range(400):
            gateway.send(TOPIC.format("D3"), [vital("D3", 5 * n + i) for i in range(5)])
        time.sleep(0.4)
        first.kill()
    with listening(lake_home, mosquitto_server.port, *options) as second:
        second.wait_ready()
        last = [
            gateway.send(TOPIC.format("D3"), [vital("D3", 5 * n + i) for i in range(5)])
            for n in range(400, 800)
        ]
        time.sleep(0.7)
        second.kill()
    gateway.wait(last)
    gateway.close()
    with listening(lake_home, mosquitto_server.port, *options) as third:
        third.wait_ready()
        while len(_silver()) < 4000:
            assert third.process.poll() is None, third.told
            time.sleep(0.1)
        third.stop()
    found = content("silver/vital_reading", "seq")
    assert [r[0] for r in found] == list(range(4000))
    total = ledger.totals()
    assert total["received"] == total["loaded"] + total["duplicate"] + total["quarantined"]


def test_a_broker_that_restarts_loses_nothing(lake_home: Path, mosquitto_server: Mosquitto) -> None:
    with listening(lake_home, mosquitto_server.port, "--client-id", "m4", *FAST) as listener:
        listener.wait_ready()
        gateway = Publisher(mosquitto_server.port, "gateway-4")
        gateway.send_all(TOPIC.format("D4"), [[vital("D4", n)] for n in range(200)])
        mosquitto_server.stop()
        waiting = [gateway.send(TOPIC.format("D4"), [vital("D4", n)]) for n in range(200, 300)]
        mosquitto_server.start()
        gateway.wait(waiting)
        gateway.close()
        while len(_silver()) < 300:
            assert listener.process.poll() is None, listener.told
            time.sleep(0.1)
        told = listener.stop()
    assert told["connects"] >= 2
    assert [r[0] for r in content("silver/vital_reading", "seq")] == list(range(300))


def test_what_came_while_nobody_listened_is_there(lake_home: Path, mosquitto_server: Mosquitto) -> None:
    options = ("--client-id", "m5", "--no-ingest", *FAST)
    with listening(lake_home, mosquitto_server.port, *options) as listener:
        listener.wait_ready()
        listener.stop()
    gateway = Publisher(mosquitto_server.port, "gateway-5")
    gateway.send_all(TOPIC.format("D5"), [[vital("D5", n)] for n in range(1500)])
    gateway.close()
    with listening(lake_home, mosquitto_server.port, *options) as listener:
        world.acknowledged(lake_home, 1500, listener)
        told = listener.stop()
    assert told["acknowledged"] == told["journaled"] == 1500
    assert world.held(lake_home) == 1500


def test_a_refused_login_ends_the_listener_with_its_number(lake_home: Path) -> None:
    closed = a_broker(("allow_anonymous false",))
    with closed as broker, listening(lake_home, broker.port, "--client-id", "m6") as listener:
        told = listener.result()
    assert told["error"] == "E267" and listener.process.returncode == 1


SECURED = (
    "allow_anonymous false",
    "password_file {folder}/users",
    "cafile {folder}/ca.pem",
    "certfile {folder}/server.pem",
    "keyfile {folder}/server.key",
)


def _prepare(folder: Path) -> None:
    certificates.make(folder)
    certificates.password(folder / "users", "medlake", "w0rd")
    (folder / "word").write_text("w0rd\n", "utf-8")


def test_tls_and_login(lake_home: Path) -> None:
    with a_broker(SECURED, _prepare) as broker:
        words = ("--client-id", "m7", "--username", "medlake", "--password-file", str(broker.folder / "word"),
                 "--ca", str(broker.folder / "ca.pem"), "--no-ingest", *FAST)  # fmt: skip
        with listening(lake_home, broker.port, *words) as listener:
            listener.wait_ready()
            told = listener.stop()
    assert told["connects"] == 1
    logs = "".join(p.read_text("utf-8") for p in (lake_home / "logs").glob("*"))
    assert "w0rd" not in logs + json.dumps(told)
