"""``python -m bench.match``: who is this? Asked over HTTP of a running ``medlake serve`` by four clients at once.

Half of the questions are about residents of the indexed city as one more desk would write them down (the simulator's own
errors, drawn anew), half about residents of another city whose number nobody in the index has. Reported: latencies as the
clients see them (the floor: the same clients asking ``/healthz``), how many known residents get somebody else as first
match, how many strangers get any match at all.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench import empi_city, match_queries
from bench.harness import Measure, measured, report, say

RESIDENTS = 100_000
SEED = 20261122
QUERIES = 8_000
CLIENTS = 4
#: Questions of each client that are not timed: connections, caches and plans are those of a service that runs.
WARM_UP = 100


def _ask(port: int, word: str, bodies: list[bytes], together: Any, answers: Any) -> None:
    """One client: a connection kept alive, one question after another; first as many that ask for nothing (the floor)."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    headers = {"authorization": f"Bearer {word}", "content-type": "application/fhir+json"}

    def timed(method: str, path: str, body: bytes | None) -> tuple[float, bytes]:
        began = time.perf_counter()
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise SystemExit(f"{path} answered {response.status}: {content[:400]!r}")
        return time.perf_counter() - began, content

    together.wait()
    for body in bodies[:WARM_UP]:
        timed("POST", "/fhir/Patient/$match", body)
    together.wait()
    least = [timed("GET", "/healthz", None)[0] for _ in bodies]
    together.wait()
    found = [timed("POST", "/fhir/Patient/$match", body) for body in bodies]
    answers.put((least, [(spent, _told(content)) for spent, content in found]))


def _told(content: bytes) -> list[tuple[str, str]]:
    """(id, grade) of each person in an answer."""
    return [
        (entry["resource"]["id"], entry["search"]["extension"][0]["valueCode"])
        for entry in json.loads(content).get("entry", [])
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serving(home: str, port: int) -> subprocess.Popen[bytes]:
    """A ``medlake serve`` that answers. Limits of rate are out of the way: four clients share one token here."""
    env = os.environ | {"MEDLAKE_HOME": home, "MEDLAKE_PORTAL_PORT": str(port)}
    env |= {"MEDLAKE_FHIR_RATE_PER_SECOND": "1000000", "MEDLAKE_FHIR_BURST": "1000000"}
    serving = subprocess.Popen([str(Path(sys.executable).parent / "medlake"), "serve"], env=env)
    while True:  # ends by an answer or by the server's own end
        if serving.poll() is not None:
            raise SystemExit("the server ended before it answered")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return serving
        except OSError:
            time.sleep(0.05)


@dataclass
class _Asked:
    """What the clients saw, in the order of the questions, and what the server spent."""

    answers: list[tuple[float, list[tuple[str, str]]]]
    floor: list[float]
    server_rss_mb: float


def _asked(home: str, word: str, bodies: list[bytes], clients: int) -> _Asked:
    """Ask every question, the clients all at once."""
    context = multiprocessing.get_context("spawn")
    port = _free_port()
    serving = _serving(home, port)
    try:
        shares = [bodies[n::clients] for n in range(clients)]
        together, queues = context.Barrier(clients), [context.Queue() for _ in shares]
        askers = [
            context.Process(target=_ask, args=(port, word, share, together, queue))
            for share, queue in zip(shares, queues, strict=True)
        ]
        for asker in askers:
            asker.start()
        made = _Asked([(0.0, [])] * len(bodies), [], 0.0)
        for n, (asker, queue) in enumerate(zip(askers, queues, strict=True)):
            while queue.empty():
                if asker.exitcode:
                    raise SystemExit("a client failed")
                time.sleep(0.1)
            least, made.answers[n::clients] = queue.get()
            made.floor += least
            asker.join()
        made.server_rss_mb = round(psutil.Process(serving.pid).memory_info().rss / 2**20, 1)
        return made
    finally:
        for left in multiprocessing.active_children():
            left.terminate()
        serving.terminate()
        serving.wait()


def _percentile(times: list[float], share: float) -> float:
    """Milliseconds that this share of the times stays within."""
    return round(sorted(times)[int(len(times) * share)] * 1000, 2)


def measure(
    home: str, residents: int, seed: int, *, queries: int = QUERIES, clients: int = CLIENTS
) -> dict[str, Any]:
    """Measure the service on a lake that was linked; makes the index if there is none of its last run.

    Args:
        home: of a city that ``bench.empi_city`` made with ``residents`` and ``seed``.
        queries: how many known residents are asked for, and as many strangers.
    """
    empi_city.use_home(home)
    from empi import online
    from portal import clients as tokens

    with measured() as building:
        index = online.build()
    word = tokens.create("H001", ["empi"], note="bench")[1]
    known, strangers = match_queries.questions(home, residents, seed, queries)
    bodies: list[bytes] = [q.body for pair in zip(known, strangers, strict=True) for q in pair]
    say(f"asking {len(bodies):,} questions, {clients} clients …")
    asked = _asked(home, word, bodies, clients)
    times = [spent for spent, _ in asked.answers]
    told = [hits for _, hits in asked.answers]
    wrong, silent = match_queries.wrong_first(known, told[0::2])
    false = [hits for hits in told[1::2] if hits]
    return {
        "match_p50_ms": _percentile(times, 0.5),
        "match_p99_ms": _percentile(times, 0.99),
        "match_floor_p50_ms": _percentile(asked.floor, 0.5),
        "match_floor_p99_ms": _percentile(asked.floor, 0.99),
        "match_per_second": round(clients * len(times) / sum(times)),
        "known": len(known),
        "wrong_top1": wrong / len(known),
        "no_match": silent / len(known),
        "strangers": len(strangers),
        "false_hits": len(false) / len(strangers),
        "false_certain": sum(hits[0][1] == "certain" for hits in false) / len(strangers),
        "server_rss_mb": asked.server_rss_mb,
        "index_seconds": building.seconds if index["is_new"] else None,
        "index_bytes": index["bytes"],
        "index_peak_rss_mb": building.peak_rss_mb,
    }


def main(residents: int = RESIDENTS, seed: int = SEED) -> dict[str, Any]:
    """Make a city, link it, index it, ask; prints one JSON object as its last line."""
    with tempfile.TemporaryDirectory(prefix="medlake-bench-match-") as folder:
        home = str(Path(folder) / "var")
        say(f"city of {residents:,} residents …")
        empi_city.prepare(home, residents, seed)
        empi_city.use_home(home)
        import empi

        with measured() as linking:
            empi.link(empi_city.DAY)
        found = measure(home, residents, seed)
    return report("match", linking, Measure(), residents=residents, **found)


if __name__ == "__main__":
    main(int(os.environ.get("BENCH_RESIDENTS", RESIDENTS)))
