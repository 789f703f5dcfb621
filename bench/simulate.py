"""``make bench-simulate``: registrations of six million residents, with every error of the profile, as Parquet.

The floor writes the same number of rows of the same columns with DuckDB, filled with random text of the same
mean length that was never thought about: what remains is the price of families, names and mistakes.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.harness import Measure, measured, report, say

RESIDENTS = 6_000_000
SEED = 20261122


def floor(rows: int, sample: Path, out: Path) -> Measure:
    """DuckDB writes ``rows`` random rows in the columns and mean lengths of ``sample``."""
    from lake import duck

    connection = duck.connect()
    source = f"read_parquet('{sample}')"
    columns = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    texts = [name for name, kind, *_ in columns if kind == "VARCHAR"]
    lengths = connection.execute(
        f"SELECT {', '.join(f'ceil(coalesce(avg(strlen({name})), 1))::INT' for name in texts)} FROM {source}"
    ).fetchall()[0]
    width = dict(zip(texts, lengths, strict=True))
    made: list[str] = []
    for name, kind, *_ in columns:
        if kind == "VARCHAR":
            made.append(f"left(md5((i * {len(made) + 1})::VARCHAR), {width[name]}) AS {name}")
        elif kind in ("DATE", "TIMESTAMP_S", "TIMESTAMP"):
            made.append(f"(DATE '2020-01-01' + (random() * 2000)::INT)::{kind} AS {name}")
        else:
            made.append(f"(random() * {rows})::{kind} AS {name}")
    with measured() as least:
        connection.execute(
            f"COPY (SELECT {', '.join(made)} FROM range({rows}) AS r(i)) TO '{out}' (FORMAT parquet, COMPRESSION zstd)"
        )
    connection.close()
    return least


def main(residents: int = RESIDENTS, seed: int = SEED) -> dict[str, Any]:
    """Measure; prints one JSON object as its last line."""
    folder = Path(tempfile.mkdtemp(prefix="medlake-bench-simulate-"))
    os.environ.setdefault("MEDLAKE_HOME", str(folder / "var"))
    try:
        from simulator.people import write_registrations
        from simulator.profile import Profile

        say(f"registrations of {residents:,} residents …")
        with measured() as ours:
            done = write_registrations(Profile.load(), residents, seed, folder)
        say("floor …")
        written = folder / "registration.parquet"
        least = floor(done["registrations"], written, folder / "floor.parquet")
        return report(
            "simulate",
            ours,
            least,
            floor_is="DuckDB writes as many random rows of the same columns",
            residents=done["residents"],
            registrations=done["registrations"],
            megabytes=round(written.stat().st_size / 2**20),
            rows_per_second=round(done["registrations"] / max(ours.seconds, 0.01)),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(os.environ.get("BENCH_RESIDENTS", sys.argv[1] if len(sys.argv) > 1 else RESIDENTS)))
