"""Random streams and small vector helpers that every clinical module shares."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

DAY = "datetime64[D]"
NO_DAY = np.datetime64("NaT", "D")


def stream(seed: int, *names: str) -> np.random.Generator:
    """An independent generator per purpose, so that adding a draw in one module moves no other."""
    return np.random.Generator(np.random.PCG64([seed, *(zlib.crc32(name.encode()) for name in names)]))


def pick(values: Sequence[Any], index: np.ndarray) -> pa.Array:
    """`values[index]` as an Arrow array; a negative index gives null."""
    at = pa.array(index, mask=np.asarray(index) < 0)
    return pa.array(list(values)).take(at)


def days(values: np.ndarray) -> pa.Array:
    """datetime64[D] (NaT = null) -> date32."""
    return pa.array(values.astype("datetime64[D]").astype("int32"), mask=np.isnat(values)).cast(pa.date32())


def instants(values: np.ndarray) -> pa.Array:
    """datetime64[s] local wall time (NaT = null) -> timestamp[s] without zone."""
    as_int = values.astype("datetime64[s]").astype("int64")
    return pa.array(as_int, type=pa.int64(), mask=np.isnat(values)).cast(pa.timestamp("s"))


def to_days(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """date32 column -> datetime64[D] with NaT for null."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    filled = pc.fill_null(column.cast(pa.int32()), np.iinfo(np.int32).min)
    out = filled.to_numpy(zero_copy_only=False).astype("int64").astype(DAY)
    out[pc.is_null(column).to_numpy(zero_copy_only=False)] = NO_DAY
    return out


def numbers(values: np.ndarray, decimals: int = 0, missing: np.ndarray | None = None) -> pa.Array:
    """Rounded doubles; NaN and `missing` become null."""
    rounded = np.round(np.asarray(values, dtype="float64"), decimals)
    hide = np.isnan(rounded) if missing is None else np.isnan(rounded) | missing
    return pa.array(rounded, mask=hide)


def flags(values: np.ndarray) -> pa.Array:
    return pa.array(np.asarray(values, dtype=bool))


def codes(values: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    """Small integers as code text, 1 -> '1'."""
    array = pa.array(np.asarray(values, dtype="int64"), mask=missing)
    return array.cast(pa.string())


def serial_ids(prefix: str | pa.Array, serial: np.ndarray, width: int = 8) -> pa.Array:
    """prefix + zero-padded serial."""
    digits = pc.utf8_lpad(pa.array(serial.astype("int64")).cast(pa.string()), width, "0")
    return pc.binary_join_element_wise(prefix, digits, "")


def weighted(rng: np.random.Generator, weights: np.ndarray, size: int) -> np.ndarray:
    """`size` indices drawn with these weights."""
    cumulative = np.cumsum(np.asarray(weights, dtype="float64"))
    return np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right").astype("int64")


def before_weekend(day: np.ndarray) -> np.ndarray:
    """Saturday and Sunday move back to Friday: primary care keeps office days."""
    weekday = (day.astype("int64") + 3) % 7  # 1970-01-01 was a Thursday; Monday = 0
    back: np.ndarray = day - np.maximum(weekday - 4, 0).astype("timedelta64[D]")
    return back


def age_on(birth: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Whole years (calendar), as every age rule of the third edition counts them."""
    born, on = birth.astype("datetime64[M]"), day.astype("datetime64[M]")
    months = (on - born).astype("int64")
    before_day = (day - on.astype(DAY)) < (birth - born.astype(DAY))
    result: np.ndarray = (months - before_day) // 12
    return result
