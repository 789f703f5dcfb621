"""``python -m bench.quality_entry``: how long a HIS waits before it may save. Four clients ask a running ``medlake serve``.

Each client has a connection that is kept alive and asks about records of the public-health tables in turn, half of them
with faults; the floor is the same clients asking ``/healthz`` in the same run. Reported: latencies as the clients see them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.harness import Measure, report, say
from bench.match import _free_port, _percentile, _serving

REQUESTS = 4_000
CLIENTS = 4
WARM_UP = 50

#: A record of each table as a form sends it, and what a typing error makes of it.
RECORDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "htn_visit": (
        {"archive_id": "A1", "visited_on": "2026-11-10", "visit_way_code": "1", "sbp_mmhg": 136, "dbp_mmhg": 84,
         "heart_rate_bpm": 72, "weight_kg": 66.5, "height_cm": 168, "visit_class_code": "1", "doctor_id": "D1"},
        {"sbp_mmhg": 84, "dbp_mmhg": 136},
    ),
    "dm_visit": (
        {"archive_id": "A1", "visited_on": "2026-11-10", "visit_way_code": "1", "fpg_mmol_l": 6.4, "sbp_mmhg": 130,
         "dbp_mmhg": 80, "visit_class_code": "1"},
        {"fpg_mmol_l": 64.0},
    ),
    "ph_exam": (
        {"archive_id": "A1", "exam_on": "2026-11-10", "height_cm": 168, "weight_kg": 66.5, "bmi": 23.6},
        {"bmi": 40},
    ),
    "ph_archive": (
        {"archive_id": "A1", "name": "张三", "birth_date": "1956-03-02", "sex_code": "1", "id_no": "11010519491231002X"},
        {"id_no": "110105194912310021"},
    ),
}  # fmt: skip


def _residents(home: str) -> tuple[str, list[str]]:
    """An institution and archives that it keeps, from the residents' store; ("H001", []) if there is none."""
    import duckdb

    stores = sorted((Path(home) / "quality" / "entry").glob("*.duckdb"))
    if not stores:
        return "H001", []
    with duckdb.connect(str(stores[-1]), read_only=True) as connection:
        found = connection.execute(
            "SELECT org_code, list(archive_id ORDER BY archive_id) FROM by_archive GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
        ).fetchone()
    return (found[0], found[1]) if found else ("H001", [])


def _bodies(count: int, archives: list[str]) -> list[tuple[str, bytes]]:
    """Questions in turn over the tables, every second one with a fault; of residents in turn where some are known."""
    from lake.contracts import table_contract

    tables = list(RECORDS)
    made = []
    for n in range(count):
        table = tables[n % len(tables)]
        good, fault = RECORDS[table]
        known = {f.name for f in table_contract(table).fields}
        row = good | (fault if n // len(tables) % 2 else {})
        row |= {"archive_id": archives[n * 7 % len(archives)]} if archives else {}
        made.append(
            (f"/quality/check/{table}", json.dumps({k: v for k, v in row.items() if k in known}).encode())
        )
    return made


def _ask(port: int, word: str, bodies: list[tuple[str, bytes]], together: Any, answers: Any) -> None:
    """One client: first as many requests that ask for nothing (the floor), then its questions."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    headers = {"authorization": f"Bearer {word}", "content-type": "application/json"}

    def timed(method: str, path: str, body: bytes | None) -> tuple[float, int]:
        began = time.perf_counter()
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise SystemExit(f"{path} answered {response.status}: {content[:400]!r}")
        spent = time.perf_counter() - began
        return spent, json.loads(content)["violations"] if body else 0

    together.wait()
    for path, body in bodies[:WARM_UP]:
        timed("POST", path, body)
    together.wait()
    least = [timed("GET", "/healthz", None)[0] for _ in bodies]
    together.wait()
    answers.put((least, [timed("POST", path, body) for path, body in bodies]))


def measure(home: str, *, requests: int = REQUESTS, clients: int = CLIENTS) -> dict[str, Any]:
    """Serve a home and ask it; the residents' store is used if there is one."""
    os.environ["MEDLAKE_HOME"] = home
    from lake.settings import settings

    settings.cache_clear()
    from portal import clients as tokens

    org_code, archives = _residents(home)
    word = tokens.create(org_code, ["public_health"], note="bench")[1]
    os.environ |= {"MEDLAKE_ENTRY_RATE_PER_SECOND": "1000000", "MEDLAKE_ENTRY_BURST": "1000000"}
    bodies = _bodies(requests, archives)
    context = multiprocessing.get_context("spawn")
    port = _free_port()
    serving = _serving(home, port)
    try:
        together, queues = context.Barrier(clients), [context.Queue() for _ in range(clients)]
        askers = [
            context.Process(target=_ask, args=(port, word, bodies[n::clients], together, queue))
            for n, queue in enumerate(queues)
        ]
        for asker in askers:
            asker.start()
        floor: list[float] = []
        told: list[tuple[float, int]] = []
        for asker, queue in zip(askers, queues, strict=True):
            while queue.empty():
                if asker.exitcode:
                    raise SystemExit("a client failed")
                time.sleep(0.1)
            least, found = queue.get()
            floor += least
            told += found
            asker.join()
        rss = round(psutil.Process(serving.pid).memory_info().rss / 2**20, 1)
    finally:
        for left in multiprocessing.active_children():
            left.terminate()
        serving.terminate()
        serving.wait()
    times = [spent for spent, _ in told]
    return {
        "requests": len(times),
        "clients": clients,
        "residents": len(archives),
        "entry_p50_ms": _percentile(times, 0.5),
        "entry_p99_ms": _percentile(times, 0.99),
        "entry_max_ms": round(max(times) * 1000, 2),
        "floor_p50_ms": _percentile(floor, 0.5),
        "floor_p99_ms": _percentile(floor, 0.99),
        "per_second": round(clients * len(times) / sum(times)),
        "violations": sum(n for _, n in told),
        "server_rss_mb": rss,
    }


def main() -> dict[str, Any]:
    """Prints one JSON object as its last line. ``BENCH_HOME`` names a lake to serve; else an empty one is made."""
    with tempfile.TemporaryDirectory(prefix="medlake-bench-entry-") as folder:
        home = os.environ.get("BENCH_HOME") or str(Path(folder) / "var")
        say(f"asking {REQUESTS:,} questions, {CLIENTS} clients …")
        return report(
            "quality_entry",
            Measure(),
            Measure(),
            **measure(home, requests=int(os.environ.get("BENCH_REQUESTS", REQUESTS))),
        )


if __name__ == "__main__":
    main()
