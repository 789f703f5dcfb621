"""Text as matrices of Unicode code points, so that errors can be made on whole columns at once.

A matrix has one row per record and one column per character; 0 is "no character" and may stand anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Codes = NDArray[np.uint32]
NO_DAY = np.int64(np.iinfo(np.int32).min)


def matrix(texts: Sequence[str], width: int | None = None) -> Codes:
    """Code points of a few texts, padded on the right. For lookup tables, not for record columns."""
    width = width or max(1, max(map(len, texts), default=1))
    out = np.zeros((len(texts), width), dtype=np.uint32)
    for i, text in enumerate(texts):  # a list of distinct texts, not of records
        out[i, : len(text)] = [ord(c) for c in text]
    return out


def digits(numbers: NDArray[np.integer], width: int) -> Codes:
    """Zero-padded decimal digits."""
    powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    return ((numbers.astype(np.int64)[:, None] // powers) % 10 + 48).astype(np.uint32)


def to_arrow(codes: Codes, missing: NDArray[np.bool_] | None = None) -> pa.Array:
    """UTF-8 Arrow strings; code points above U+FFFF are not used here."""
    rows = len(codes)
    if rows == 0:
        return pa.array([], pa.string())
    codes = np.ascontiguousarray(codes)
    if codes.max() < 0x80:
        used = codes != 0
        data = codes.astype(np.uint8)[used] if not used.all() else codes.astype(np.uint8).ravel()
        lengths = used.sum(axis=1)
    else:
        units = np.zeros((*codes.shape, 3), dtype=np.uint8)
        ascii_, short = codes < 0x80, codes < 0x800
        units[..., 2] = np.where(ascii_, codes, (codes & 0x3F) | 0x80)
        units[..., 1] = np.where(
            ascii_, 0, np.where(short, (codes >> 6) | 0xC0, ((codes >> 6) & 0x3F) | 0x80)
        )
        units[..., 0] = np.where(short, 0, (codes >> 12) | 0xE0)
        lengths = (units != 0).sum(axis=(1, 2))
        data = units[units != 0]
    offsets = np.zeros(rows + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    valid = None
    if missing is not None and missing.any():
        valid = pa.py_buffer(np.packbits(~missing, bitorder="little").tobytes())
    buffers = [valid, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), rows, buffers)


def lookup(texts: Sequence[str], index: NDArray[np.integer]) -> pa.Array:
    """``texts[index]``; a negative index is null."""
    index = np.asarray(index)
    return pa.array(list(texts), pa.string()).take(pa.array(index, mask=index < 0))


def dates(days: NDArray[np.integer]) -> pa.Array:
    """Days since 1970-01-01 to date32; :data:`NO_DAY` is null."""
    return pa.array(days.astype(np.int32), mask=days == NO_DAY).cast(pa.date32())


def to_full_width(codes: Codes) -> Codes:
    """ASCII graphic characters to their full-width forms (U+FF01..U+FF5E)."""
    graphic = (codes > 0x20) & (codes < 0x7F)
    return np.where(graphic, codes + 0xFEE0, codes).astype(np.uint32)
