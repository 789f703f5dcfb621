"""Snapshot and increments against a dictionary: what is told as new, changed and deleted, over random histories."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.pull import database_keys as keys_
from ingestion.pull.database_keys import HASH

Row = tuple[str, str | None]
_KEY = st.tuples(st.sampled_from(["a", "b", "A", "a ", ""]), st.sampled_from(["1", "2", None]))
_VALUE = st.sampled_from(["x", "y", "", None])
_STATE = st.dictionaries(_KEY, _VALUE, max_size=8)


def _table(rows: dict[Row, str | None]) -> pa.Table:
    names = ("k1", "k2", "v")
    columns = list(zip(*[(*k, v) for k, v in rows.items()], strict=True)) or [(), (), ()]
    return pa.table({n: pa.array(c, pa.string()) for n, c in zip(names, columns, strict=True)})


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["snapshot", "increment"]), _STATE), min_size=1, max_size=6))
def test_the_known_follows_the_source(history: list[tuple[str, dict[Row, str | None]]]) -> None:
    known: dict[Row, str | None] = {}
    with tempfile.TemporaryDirectory() as name, duckdb.connect() as con:
        directory = Path(name)
        for run, (mode, rows) in enumerate(history, 1):
            con.register("source", _table(rows))
            hashed = f"(SELECT *, {keys_.hash_of(['k1', 'k2', 'v'])} AS {HASH} FROM source)"
            if mode == "increment":
                keys_.write(
                    con,
                    f"SELECT DISTINCT k1, k2, {HASH} FROM {hashed}",
                    directory / f"keys-{run:06d}-0000.parquet",
                )
                known |= rows
                continue
            gone, before = keys_.compare(con, hashed, directory, ["k1", "k2"])
            assert before == len(known)
            assert gone == len(set(known) - set(rows))
            assert set(con.execute("SELECT k1, k2 FROM gone").fetchall()) == set(known) - set(rows)
            changed = {k for k, v in rows.items() if k not in known or known[k] != v}
            assert set(con.execute("SELECT k1, k2 FROM changed").fetchall()) == changed
            keys_.write(con, f"SELECT k1, k2, {HASH} FROM new", directory / f"keys-{run:06d}.parquet")
            keys_.sweep(directory)
            known = dict(rows)
