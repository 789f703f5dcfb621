"""New ids: opaque, drawn from the run's secret seed and a serial number, and never one that was ever used."""

from __future__ import annotations

import hashlib

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lake.crypto import token

ALPHABET = "ABCDEFGHJKMNPQRSTVWXYZ0123456789"  # 32 characters; no I, L, O, U
_LETTERS = np.frombuffer(ALPHABET.encode(), np.uint8)
_LENGTH = 12


def texts(drawn: NDArray[np.uint64]) -> pa.Array:
    """Ids of 60-bit numbers: an E and 12 characters."""
    shifts = np.arange(0, 5 * _LENGTH, 5, dtype=np.uint64)
    made = np.empty((len(drawn), _LENGTH + 1), np.uint8)
    made[:, 0] = ord("E")
    made[:, 1:] = _LETTERS[((drawn[:, None] >> shifts) & np.uint64(31)).astype(np.uint8)]
    offsets = np.arange(len(drawn) + 1, dtype=np.int32) * (_LENGTH + 1)
    return pa.StringArray.from_buffers(len(drawn), pa.py_buffer(offsets), pa.py_buffer(made.tobytes()))


def _drawn(seed: str, first: int, count: int) -> NDArray[np.uint64]:
    """Numbers ``first .. first + count`` of the seed's stream (SHAKE-256), 60 bits each."""
    stream = hashlib.shake_256(seed.encode()).digest(8 * (first + count))
    return np.frombuffer(stream, "<u8")[first:] & np.uint64(2 ** (5 * _LENGTH) - 1)


def issue(connection: duckdb.DuckDBPyConnection, run_id: str, everyone: str) -> None:
    """Give each cluster that is not in ``assigned`` a new id, in the order of their smallest record.

    Nothing of the person goes into an id: the numbers come from the run's seed, which is under this installation's key.

    Args:
        everyone: FROM text of the crosswalk, in which every ``empi_id`` ever used stands.
    """
    # where in the stream it starts, so that a second run under the seed need not draw twice: a count from metadata
    issued = int(connection.execute(f"SELECT count(*) FROM {everyone}").fetchall()[0][0])
    found = connection.execute(
        "SELECT cluster_no FROM (FROM cluster WHERE rec_no = cluster_no) ANTI JOIN assigned USING (cluster_no)"
    ).fetchnumpy()["cluster_no"]
    clusters = np.sort(np.asarray(found, np.int64))
    seed = token("empi_id", run_id)
    draw = 0
    while True:
        drawn = _drawn(f"{seed}|{draw}", issued, len(clusters))
        connection.register("fresh", pa.table({"cluster_no": clusters, "empi_id": texts(drawn)}))
        again = np.any(np.diff(np.sort(drawn)) == 0)
        known = connection.execute(
            f"SELECT count(*) FROM fresh SEMI JOIN (SELECT empi_id FROM {everyone}) USING (empi_id)"
        ).fetchall()[0][0]
        if not again and not known:
            break
        draw += 1  # 60 bits: about one run in a hundred thousand at six million persons
    connection.execute("INSERT INTO assigned SELECT cluster_no, empi_id, true FROM fresh")
    connection.unregister("fresh")
