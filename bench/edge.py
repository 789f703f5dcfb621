"""``make bench-edge``: 23 nodes go 72 hours without network, then all catch up, to silver, on two cores.

Real node processes spool 7,000,000 records while nobody answers; then the centre starts, the nodes forward over mutual
TLS, and two workers ingest what arrived. Catch-up counts from the centre's start to the last committed batch. Nothing
may be lost or doubled, counted by key in silver. ``BENCH_RECORDS`` makes it smaller. The floor copies the same bytes
and has DuckDB write them as Parquet.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from bench.edge_flow import FEEDS, HOURS, NODES, Flow, write
from bench.harness import Measure, measured, report, say

RECORDS = 7_000_000
PROCESSES = 2
_PROGRAM = [sys.executable, "-c", "from medlake.commands.edge import app; app()"]
_KEYS = {
    "vital_reading": "org_code, device_id, seq, metric_code, device_at",
    "htn_visit": "org_code, visit_id",
    "fee_item": "org_code, fee_id",
}


def _ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    found = [int(p.getsockname()[1]) for p in probes]
    for probe in probes:
        probe.close()
    return found


def _status(port: int) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status.json", timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found
    except OSError:
        return None


class Memory(threading.Thread):
    """Peak resident memory of the centre's machine: this process, the centre, the workers; the nodes are elsewhere."""

    def __init__(self, nodes: set[int]) -> None:
        super().__init__(daemon=True)
        self._nodes, self._ended, self.peak_mb = nodes, threading.Event(), 0.0

    def run(self) -> None:
        own = psutil.Process()
        while not self._ended.wait(0.2):
            try:
                found = [own, *own.children(recursive=True)]
                used = sum(p.memory_info().rss for p in found if p.pid not in self._nodes)
            except psutil.Error:
                continue
            self.peak_mb = max(self.peak_mb, round(used / 2**20, 1))

    def stop(self) -> float:
        self._ended.set()
        self.join()
        return self.peak_mb


class City:
    """The nodes' processes, and the centre's."""

    def __init__(self, root: Path) -> None:
        from ingestion.edge import pki

        self.root = root
        self.port, *pages = _ports(len(NODES) + 1)
        self.pages = dict(zip(NODES, pages, strict=True))
        authority = pki.init()
        for node in NODES:
            told: dict[str, object] = {
                "page_port": self.pages[node],
                "unlock": "parent",
                "settle_seconds": 0.2,
            }
            authority.issue(
                node, node, out=root / node, parent_address=f"127.0.0.1:{self.port}", settings_of_node=told
            )
        self.processes: list[subprocess.Popen[bytes]] = []

    def start_nodes(self) -> None:
        for node in NODES:
            env = os.environ | {"MEDLAKE_HOME": str(self.root / node / "home")}
            words = [*_PROGRAM, "run", "--dir", str(self.root / node)]
            self.processes.append(subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL))
        for page in self.pages.values():
            while _status(page) is None:
                self._alive()
                time.sleep(0.1)

    def start_centre(self) -> None:
        self.processes.append(
            subprocess.Popen([*_PROGRAM, "centre", "--port", str(self.port)], stdout=subprocess.DEVNULL)
        )

    def _alive(self) -> None:
        for process in self.processes:
            if process.poll() is not None:
                raise SystemExit(f"a process ended with {process.returncode}")

    def waiting(self) -> dict[str, int]:
        """Records that wait at each node."""
        self._alive()
        return {n: (_status(p) or {"waiting_records": -1})["waiting_records"] for n, p in self.pages.items()}

    def in_drops(self) -> int:
        return sum(1 for n in NODES for p in (self.root / n / "drop").rglob("*") if p.is_file())

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()


def _spool(city: City, flow: Flow, first_day: date) -> None:
    """Drop the files and wait until every node has them in its spool."""
    drops = {n: city.root / n / "drop" for n in NODES}
    for n, _ in enumerate(write(flow, first_day, drops), 1):
        while n % 69 == 0 and city.in_drops() > 200:  # the disk need not hold everything twice
            time.sleep(0.2)
    while city.in_drops():
        time.sleep(0.2)


def _arrived(files: int) -> None:
    """Wait until the centre has put every file into the drop."""
    from lake.settings import settings

    while (
        sum(1 for p in settings().sources_dir.rglob("*") if p.is_file() and not p.name.startswith("."))
        < files
    ):
        time.sleep(0.3)


def _take(feed: str, day: date) -> dict[str, Any]:
    import ingestion

    return ingestion.ingest_feed(feed, day)


def _ingest() -> dict[str, int]:
    from lake.settings import settings

    days = sorted(date.fromisoformat(p.name) for p in settings().sources_dir.iterdir())
    total: dict[str, int] = {}
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        tasks = [pool.submit(_take, feed, day) for day in days for feed in ("iot", "his", "public_health")]
        for task in tasks:
            for name in ("received", "loaded", "duplicate", "quarantined"):
                total[name] = total.get(name, 0) + int(task.result()[name])
    return total


def _in_silver(flow: Flow) -> tuple[int, int]:
    """Records that are not there, and records that are there more than once."""
    from lake import duck, ledger, tables

    lost = doubled = 0
    visible = ledger.visible("silver/")
    with duck.connect() as con:
        for table, wanted in flow.rows.items():
            scan = tables.scan_sql(f"silver/{table}", visible[f"silver/{table}"])
            rows, keys = con.execute(
                f"SELECT count(*), count(DISTINCT ({_KEYS[table]})) FROM {scan}"
            ).fetchall()[0]
            lost, doubled = lost + wanted - keys, doubled + rows - keys
    return lost, doubled


def _floor_one(feed: str, source: str, copy: str) -> None:
    import duckdb

    shutil.copytree(source, copy)
    read = (
        "read_json('{}/**/*.ndjson', format='newline_delimited')"
        if feed == "iot"
        else "read_csv('{}/**/*.csv', all_varchar=true)"
    )
    with duckdb.connect(config={"threads": 1, "memory_limit": "1GB"}) as con:
        con.execute(f"COPY (SELECT * FROM {read.format(copy)}) TO '{copy}.parquet' (FORMAT parquet)")


def _floor(root: Path) -> None:
    from lake.settings import settings

    root.mkdir()
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        tasks = [
            pool.submit(_floor_one, feed.name, str(feed), str(root / f"{day.name}-{feed.name}"))
            for day in settings().sources_dir.iterdir()
            for feed in day.iterdir()
        ]
        for task in tasks:
            task.result()


def main(records: int = RECORDS) -> dict[str, Any]:
    """Measure; prints one JSON object as its last line."""
    flow = Flow.of(records)
    with tempfile.TemporaryDirectory(prefix="medlake-bench-edge-") as folder:
        root = Path(folder)
        os.environ |= {"MEDLAKE_HOME": str(root / "var")}
        from lake.settings import settings

        settings.cache_clear()
        city = City(root / "nodes")
        try:
            say(f"{len(NODES)} nodes spool {sum(flow.rows.values()):,} records of {HOURS} hours …")
            with measured() as spooling:
                city.start_nodes()
                _spool(city, flow, (datetime.now() - timedelta(days=4)).date())
            waiting = city.waiting()
            spools = sum((root / "nodes" / n / "spool.db").stat().st_size for n in NODES)
            node_rss = max(psutil.Process(p.pid).memory_info().rss for p in city.processes) // 2**20
            say(
                f"  {spooling.seconds} s; {sum(waiting.values()):,} lines wait, {spools / 2**20:,.0f} MB; the network is back …"
            )
            files = len(NODES) * len(FEEDS) * 12
            memory = Memory({p.pid for p in city.processes})
            memory.start()
            with measured() as spent:
                city.start_centre()
                _arrived(files)
                forwarded = time.monotonic()
                say("  everything is at the centre; ingest …")
                ledger = _ingest()
                ingested = round(time.monotonic() - forwarded, 2)
            peak = memory.stop()
            lost, doubled = _in_silver(flow)
            left = city.waiting()
        finally:
            city.stop()
        raw = sum(p.stat().st_size for p in settings().sources_dir.rglob("*") if p.is_file())
        say("floor …")
        with measured() as least:
            _floor(root / "floor")
        whole = Measure(spent.seconds, peak)
        facts = {
            "records": sum(flow.rows.values()),
            "nodes": len(NODES),
            "hours_offline": HOURS,
            "lost": lost,
            "doubled": doubled,
            "seconds_catch_up": spent.seconds,
            "seconds_forward": round(spent.seconds - ingested, 2),
            "seconds_ingest": ingested,
            "seconds_spool": spooling.seconds,
            "megabytes": round(raw / 2**20),
            "megabytes_spooled": round(spools / 2**20),
            "waiting_before": sum(waiting.values()),
            "waiting_after": sum(left.values()),
            "node_rss_mb": node_rss,
            "peak_rss_with_nodes_mb": max(spent.peak_rss_mb, spooling.peak_rss_mb),
            "ledger": ledger,
        }
        return report(
            "edge", whole, least, floor_is="copy the same bytes, DuckDB writes them as Parquet", **facts
        )


if __name__ == "__main__":
    main(int(os.environ.get("BENCH_RECORDS", RECORDS)))
