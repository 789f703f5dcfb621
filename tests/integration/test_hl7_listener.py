"""The MLLP door as a real process: what is acknowledged is in silver exactly once, whatever is killed or full."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

import ingestion
from lake.settings import settings
from tests.hl7_door import Door, Sender
from tests.ingestion_world import adt, content, oru


def ingest_all() -> None:
    """Ingest every date of the drop, as the daily run does."""
    for folder in sorted(settings().sources_dir.iterdir()):
        ingestion.ingest_feed("hl7v2", date.fromisoformat(folder.name))


def in_silver() -> Counter[str]:
    return Counter(row[0] for row in content("silver/hl7v2_message", "message_control_id"))


def result(number: int, value: str = "5.6") -> str:
    return oru(f"M{number}", f"R{number}", f"OBX|1|NM|2345-7^葡萄糖^LN||{value}|mmol/L|3.9-6.1|N|||F\r")


def test_messages_are_answered_and_come_into_silver(lake_home: Path, tmp_path: Path) -> None:
    mapped = tmp_path / "orgs.yaml"
    mapped.write_text("中心医院: H001\nLIS|OLD: H101\n", "utf-8")
    with Door("--org-map", str(mapped)) as door:
        sender = Sender(door.port)
        assert sender.send(result(1)) == "AA"
        assert sender.send(adt("A1", "P1").replace("|H001|", "|中心医院|", 1)) == "AA"
        assert sender.send(result(2).replace("|H101|", "|OLD|", 1)) == "AA"
        assert sender.send(result(3).replace("|H101|", "|NOBODY|", 1)) == "AR"
        assert sender.send(result(4).replace("|P|2.5.1", "|T|2.5.1")) == "AR"
        assert sender.send(result(5).replace("|M5|", "||")) == "AE"
        assert sender.send("no message") == "AE"
        assert sender.send(result(6) + result(7)) == "AE", (
            "two messages in one frame have one answer: refuse both"
        )
        gb = adt("A2", "P2").replace("UNICODE UTF-8", "GB18030").encode("gb18030")
        assert sender.send(gb) == "AA"
        sender.socket.sendall(b"\r\n garbage \r\n")
        assert sender.send(result(8).replace("\r", "\n")) == "AA"
        facts = door.stop()
    wanted = {"received": 10, "accepted": 5, "rejected": 2, "refused": 3, "handed_over": 5, "durable": 5}
    assert facts | wanted == facts
    assert facts["garbage"] == len("garbage")
    ingest_all()
    assert in_silver() == Counter(["M1", "A1", "M2", "A2", "M8"])
    orgs = dict(content("silver/hl7v2_message", "message_control_id, org_code"))
    assert orgs == {"M1": "H101", "A1": "H001", "M2": "H101", "A2": "H001", "M8": "H101"}


def test_a_door_of_one_institution_takes_its_messages_only(lake_home: Path) -> None:
    with Door("--org", "C201") as door:
        sender = Sender(door.port)
        assert sender.send(result(1).replace("|H101|", "|LOCAL|", 1)) == "AA"
        assert sender.send(result(2)) == "AR"
        door.stop()
    assert [p.parent.name for p in settings().sources_dir.rglob("*.hl7")] == ["C201"]


def load(
    door: Door, numbers: range, acked: list[str], enough: threading.Event, many: int
) -> list[threading.Thread]:
    """Four senders, one outstanding message each, until the door goes away."""

    def run(own: range) -> None:
        with contextlib.suppress(OSError, AssertionError):
            sender = Sender(door.port)
            for n in own:
                if sender.send(result(n)) == "AA":
                    acked.append(f"M{n}")
                if len(acked) >= many:
                    enough.set()

    threads = [threading.Thread(target=run, args=(numbers[n::4],)) for n in range(4)]
    for t in threads:
        t.start()
    return threads


def test_a_kill_under_load_loses_nothing_acknowledged_and_doubles_nothing(lake_home: Path) -> None:
    acked: list[str] = []
    for round_ in range(3):
        enough = threading.Event()
        many = len(acked) + 150
        with Door("--seal-seconds", "0.2") as door:
            # the second round's senders repeat what they are not sure of: everything from the first round's end
            numbers = range(max(0, len(acked) - 50), 10_000)
            threads = load(door, numbers, acked, enough, many)
            enough.wait()
            if round_ < 2:
                door.kill()
            else:
                door.stop()
            for t in threads:
                t.join()
    ingest_all()
    found = in_silver()
    assert set(acked) <= set(found)
    assert set(found.values()) == {1}
    assert len(content("silver/lab_result")) == len(found)
    again = len(list(settings().sources_dir.rglob("*.hl7")))
    ingest_all()
    assert in_silver() == found
    assert again > 1


@pytest.mark.parametrize("point", ["journal.sealed", "journal.handed"])
def test_a_kill_while_handing_over_doubles_nothing(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    monkeypatch.setenv("MEDLAKE_KILL_AT", point)
    with Door("--seal-seconds", "0.1") as door:
        sender = Sender(door.port)
        assert sender.send(result(1)) == "AA"
        assert door.process.wait() == -signal.SIGKILL
    monkeypatch.delenv("MEDLAKE_KILL_AT")
    with Door("--seal-seconds", "0.1") as door:
        assert Sender(door.port).send(result(2)) == "AA"
        door.stop()
    assert len(list(settings().sources_dir.rglob("*.hl7"))) == 2
    ingest_all()
    assert in_silver() == Counter(["M1", "M2"])


def test_an_orderly_stop_under_load_leaves_no_journal(lake_home: Path) -> None:
    acked: list[str] = []
    enough = threading.Event()
    with Door() as door:
        threads = load(door, range(5000), acked, enough, 100)
        enough.wait()
        facts = door.stop()
        for t in threads:
            t.join()
    assert facts["handed_over"] == facts["accepted"] >= len(acked)
    left = [p.name for p in (lake_home / "receive" / "mllp").iterdir() if p.suffix == ".wal"]
    assert left == [] or facts["lane_behind"] > 0
    ingest_all()
    assert set(acked) <= set(in_silver())


def test_two_listeners_of_one_door_and_a_taken_port_are_numbered_errors(lake_home: Path) -> None:
    with Door() as door:
        second = Door.__new__(Door)
        with pytest.raises(AssertionError, match="E250"):
            Door.__init__(second)
        with pytest.raises(AssertionError, match="E254"):
            Door.__init__(second, "--door", "other", "--port", str(door.port))
        door.stop()


@pytest.fixture
def small_disk(lake_home: Path) -> Iterator[Path]:
    """The journal's folder on a file system of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = settings().folder("receive") / "mllp"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_answered_with_ae_and_the_door_lives(small_disk: Path) -> None:
    with Door() as door:
        sender = Sender(door.port)
        answers = []
        number = 0
        while "AE" not in answers:
            answers.append(sender.send(result(number, "5" * 20_000)))
            number += 1
        assert answers.count("AA") > 10
        refused = result(number - 1, "5" * 20_000)
        assert Sender(door.port).send(refused) == "AE"
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
        assert sender.send(refused) == "AA"
        facts = door.stop()
    assert facts["refused"] == 2
    assert facts["handed_over"] == len(sender.acked) == number
    ingest_all()
    assert in_silver() == Counter(sender.acked)


def test_the_measurement_finds_everything_again(tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("MEDLAKE_")}
    env |= {"BENCH_MESSAGES": "800", "MEDLAKE_BENCH_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "bench.mllp"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["messages"], told["unanswered"], told["lost"]) == (800, 0, 0)
    assert (told["critical"], told["critical_missed"]) == (8, 0)
    assert {"messages_per_second", "p99_ack_ms", "fast_lane_p99_s", "ratio_to_floor", "peak_rss_mb"} <= set(
        told
    )
