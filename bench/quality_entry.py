"""``make bench-quality-entry``: how long a HIS waits before it may save. Four clients ask a running ``medlake serve``.

Each client has a connection that is kept alive and asks about records of four public-health tables in turn, half of them
with faults, of residents of a store of a million (``BENCH_RESIDENTS``; ``BENCH_HOME`` names a lake that is there). The floor
is the same clients posting the same bodies with one name more that the contract refuses: token, limits, JSON, thread, contract,
but no rule. Reported: latencies as the clients see them.
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

from bench import empi_city, quality_entry_city
from bench.harness import Measure, measured, report, say
from bench.match import _free_port, _percentile, _serving

REQUESTS = 4_000
CLIENTS = 4
WARM_UP = 50
RESIDENTS = 1_000_000
#: What makes a body one that is refused before any rule.
REFUSED = b'{"no_such_field": 1, '

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


def _residents(home: str) -> tuple[str, list[str], int]:
    """The institution that keeps most archives, those, and how many the store has of all institutions.

    Without a store: H001, none, 0.
    """
    import duckdb

    stores = sorted((Path(home) / "quality" / "entry").glob("*.duckdb"))
    if not stores:
        return "H001", [], 0
    with duckdb.connect(str(stores[-1]), read_only=True) as connection:
        found = connection.execute(
            "SELECT org_code, list(key ORDER BY key), sum(count(*)) OVER ()::BIGINT FROM by_archive GROUP BY 1 "
            "ORDER BY count(*) DESC, 1 LIMIT 1"
        ).fetchone()
    return found or ("H001", [], 0)


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
    """One client: first its bodies as ones that are refused (the floor), then its questions.

    Puts the floor's times, and per question (seconds, status, violations).
    """
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    headers = {"authorization": f"Bearer {word}", "content-type": "application/json"}

    def timed(path: str, body: bytes) -> tuple[float, int, int]:
        began = time.perf_counter()
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        content = response.read()
        spent = time.perf_counter() - began
        return spent, response.status, json.loads(content).get("violations", 0)

    together.wait()
    for path, body in bodies[:WARM_UP]:
        timed(path, body)
    together.wait()
    least = [timed(path, REFUSED + body[1:])[0] for path, body in bodies]
    together.wait()
    answers.put((least, [(path, *timed(path, body)) for path, body in bodies]))


def measure(home: str, *, requests: int = REQUESTS, clients: int = CLIENTS) -> dict[str, Any]:
    """Serve a home and ask it; the residents' store is used if there is one."""
    os.environ["MEDLAKE_HOME"] = home
    from lake.settings import settings

    settings.cache_clear()
    from portal import clients as tokens

    org_code, archives, residents = _residents(home)
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
        told: list[tuple[str, float, int, int]] = []
        for asker, queue in zip(askers, queues, strict=True):
            while queue.empty():
                if asker.exitcode:
                    raise SystemExit("a client failed")
                time.sleep(0.1)
            least, found = queue.get()
            floor += least
            told += found
            asker.join()
        server = psutil.Process(serving.pid)
        rss, spent_cpu = round(server.memory_info().rss / 2**20, 1), sum(server.cpu_times()[:2])
    finally:
        for left in multiprocessing.active_children():
            left.terminate()
        serving.terminate()
        serving.wait()
    times = [spent for _, spent, _, _ in told]
    visits = [spent for path, spent, _, _ in told if path.endswith("/htn_visit")]
    return {
        "requests": len(times),
        "clients": clients,
        "residents": residents,
        "entry_p50_ms": _percentile(times, 0.5),
        "entry_p99_ms": _percentile(times, 0.99),
        "entry_max_ms": round(max(times) * 1000, 2),
        "htn_visit_p50_ms": _percentile(visits, 0.5),
        "htn_visit_p99_ms": _percentile(visits, 0.99),
        "entry_floor_p50_ms": _percentile(floor, 0.5),
        "entry_floor_p99_ms": _percentile(floor, 0.99),
        "per_second": round(clients * len(times) / sum(times)),
        "errors": sum(status != 200 for _, _, status, _ in told),
        "violations": sum(found for *_, found in told),
        "server_cpu_ms_a_request": round(spent_cpu * 1000 / (len(times) + clients * WARM_UP), 1),
        "server_rss_mb": rss,
        "client_seconds": sum(times),
        "floor_client_seconds": sum(floor),
    }


def _lake(home: str, residents: int) -> dict[str, float]:
    """A lake of so many residents and its store; seconds that the store took, and its size."""
    quality_entry_city.make(home, residents)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return dict(pool.apply(_store, (home,)))


def _store(home: str) -> dict[str, float]:
    empi_city.use_home(home)
    from quality import entry

    with measured() as ours:
        built = entry.build_residents(quality_entry_city.DAY)
    return {
        "store_seconds": ours.seconds,
        "store_peak_rss_mb": ours.peak_rss_mb,
        "store_mb": round(built["bytes"] / 2**20),
        "store_rows": built["rows"],
    }


def main(residents: int = RESIDENTS) -> dict[str, Any]:
    """Measure; prints one JSON object as its last line."""
    with tempfile.TemporaryDirectory(prefix="medlake-bench-entry-") as folder:
        home = os.environ.get("BENCH_HOME")
        store: dict[str, float] = {}
        if home is None:
            home = str(Path(folder) / "var")
            say(f"{residents:,} residents and their store …")
            store = _lake(home, residents)
        say(f"asking {REQUESTS:,} questions, {CLIENTS} clients …")
        asked = measure(home, requests=int(os.environ.get("BENCH_REQUESTS", REQUESTS)))
    seconds, least = asked.pop("client_seconds") / CLIENTS, asked.pop("floor_client_seconds") / CLIENTS
    return report(
        "quality_entry",
        Measure(round(seconds, 2), asked["server_rss_mb"]),
        Measure(round(least, 2)),
        floor_is="the same bodies, refused before any rule",
        **asked,
        **store,
    )


if __name__ == "__main__":
    main(int(os.environ.get("BENCH_RESIDENTS", RESIDENTS)))
