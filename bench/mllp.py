"""``make bench-mllp``: HL7 v2 over MLLP at full speed, and how soon a critical value is an item on the worklist.

Three processes beside this one, as in operation: ``medlake listen mllp``, ``medlake worklist run``, and the senders
(8 connections, one outstanding message each). Afterwards everything that was acknowledged is looked for in silver.
The floor answers the same frames with fixed bytes after one shared ``fdatasync``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from bench.harness import Measure, measured, report, say
from bench.mllp_load import CRITICAL_EVERY

CONNECTIONS = 8
_LISTEN = "import sys; from medlake.commands.listen import app; app(sys.argv[1:])"
_WORKLIST = "import sys; from medlake.commands.worklist import app; app(sys.argv[1:])"


@contextmanager
def _server(*command: str) -> Iterator[int]:
    """A server that prints ``MLLP <port>`` first; ended by SIGTERM and waited for."""
    process = subprocess.Popen(
        [sys.executable, *command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        if not line.startswith("MLLP "):
            raise SystemExit(line + process.stderr.read())
        yield int(line.split()[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def _engine() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", _WORKLIST, "run"], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _load(port: int, count: int, out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.mllp_load", str(port), str(CONNECTIONS), str(count), str(out)]
    subprocess.run(command, check=True)
    return dict(json.loads(out.read_text()))


def _high(values: list[float], share: float = 0.99) -> float:
    """The value that ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _waits() -> list[float]:
    """Seconds from receipt to item of every item the fast lane led to."""
    from sqlalchemy import select

    from worklist import store, tables

    query = select(tables.item.c.payload, tables.item.c.created_at).where(
        tables.item.c.kind == "critical_value"
    )
    with store.begin() as connection:
        rows = connection.execute(query).all()
    from datetime import datetime

    return [
        (r.created_at - datetime.fromisoformat(json.loads(r.payload)["received_at"])).total_seconds()
        for r in rows
    ]


def _until(wanted: int, seconds: float) -> list[float]:
    """The waits, once all items are there; what is not there after ``seconds`` is missing."""
    end = time.monotonic() + seconds
    while len(found := _waits()) < wanted and time.monotonic() < end:
        time.sleep(0.2)
    return found


def _in_silver() -> set[str]:
    import ingestion
    from lake import duck, tables
    from lake.settings import settings

    for folder in sorted(settings().sources_dir.iterdir()):
        ingestion.ingest_feed("hl7v2", date.fromisoformat(folder.name))
    with duck.connect() as con:
        scan = tables.scan_sql("silver/hl7v2_message")
        return {row[0] for row in con.execute(f"SELECT message_control_id FROM {scan}").fetchall()}


def main(count: int = 20_000) -> dict[str, Any]:
    """Measure; prints one JSON object as its last line."""
    with tempfile.TemporaryDirectory(prefix="medlake-bench-mllp-") as folder:
        os.environ["MEDLAKE_HOME"] = str(Path(folder) / "var")
        from lake.settings import settings

        settings.cache_clear()
        say(f"floor: {count:,} messages …")
        with _server("-m", "bench.mllp_floor", str(Path(folder) / "floor.bin")) as port:
            least = _load(port, count, Path(folder) / "floor.json")
        say(f"listener, worklist, {CONNECTIONS} senders: {count:,} messages …")
        with measured() as spent:
            with _engine(), _server("-c", _LISTEN, "mllp", "--port", "0") as port:
                done = _load(port, count, Path(folder) / "acks.json")
                critical = [n for n in done["acked"] if int(n[2:]) % CRITICAL_EVERY == 7]
                waits = _until(len(critical), 60)
            say("ingest …")
            lost = set(done["acked"]) - _in_silver()
        spent.seconds = round(done["seconds"], 2)
        floor = Measure(seconds=round(least["seconds"], 2))
        return report(
            "mllp",
            spent,
            floor,
            messages=len(done["acked"]),
            messages_per_second=round(len(done["acked"]) / done["seconds"]),
            floor_messages_per_second=round(len(least["acked"]) / least["seconds"]),
            p99_ack_ms=round(_high(list(done["acked"].values())) * 1000, 1),
            unanswered=count - len(done["acked"]),
            lost=len(lost),
            critical=len(critical),
            critical_missed=len(critical) - len(waits),
            fast_lane_p99_s=round(_high(waits), 2) if waits else None,
            fast_lane_max_s=round(max(waits), 2) if waits else None,
            connections=CONNECTIONS,
        )


if __name__ == "__main__":
    main(int(os.environ.get("BENCH_MESSAGES", "20000")))
