"""What every measurement does alike: time, peak memory, a floor measured in the same run, one JSON line.

A floor is the least that the same machine can do for the same data (such as DuckDB reading the same files);
the ratio to it says how much of the time is ours, whatever machine this is.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

#: One-minute load of the machine when this measurement began: above 1, others were at work too.
LOAD_BEFORE = round(os.getloadavg()[0], 1)


@dataclass
class Measure:
    """Seconds and peak resident memory (MB, this process and its children) of one block."""

    seconds: float = 0.0
    peak_rss_mb: float = 0.0


@contextmanager
def measured() -> Iterator[Measure]:
    """Measure a block; memory is sampled ten times a second."""
    measure = Measure()
    stop = threading.Event()
    own = psutil.Process()

    def sample() -> None:
        while not stop.wait(0.1):
            try:
                found = sum(p.memory_info().rss for p in [own, *own.children(recursive=True)])
            except psutil.Error:
                continue
            measure.peak_rss_mb = max(measure.peak_rss_mb, round(found / 2**20, 1))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    began = time.perf_counter()
    try:
        yield measure
    finally:
        measure.seconds = round(time.perf_counter() - began, 2)
        measure.peak_rss_mb = max(measure.peak_rss_mb, round(own.memory_info().rss / 2**20, 1))
        stop.set()
        thread.join()


def machine() -> str:
    """The machine in one line: cores, memory, system, Python."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def say(text: str) -> None:
    """Progress goes to standard error: standard output's last line is the result."""
    print(text, file=sys.stderr, flush=True)


def kept_dir() -> Path:
    """Where the newest result of each measurement is kept."""
    from lake.settings import PROJECT_ROOT

    return Path(os.environ.get("MEDLAKE_BENCH_DIR", PROJECT_ROOT / "var" / "bench"))


def report(name: str, measure: Measure, floor: Measure, **facts: Any) -> dict[str, Any]:
    """Print the result as one JSON object and keep it under ``home/bench`` for the table."""
    result = {
        "bench": name,
        "machine": machine(),
        "measured_at": datetime.now(UTC).isoformat(timespec="minutes"),
        "load_before": LOAD_BEFORE,
        "seconds": measure.seconds,
        "peak_rss_mb": measure.peak_rss_mb,
        "floor_seconds": floor.seconds,
        "ratio_to_floor": round(measure.seconds / floor.seconds, 2) if floor.seconds else None,
        **facts,
    }
    kept = kept_dir()
    kept.mkdir(parents=True, exist_ok=True)
    (kept / f"{name}.json").write_text(json.dumps(result, ensure_ascii=False, indent=2))
    print(json.dumps(result, ensure_ascii=False, default=str), flush=True)
    return result
