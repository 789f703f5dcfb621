"""Columns that need no trimming are told apart, whatever slice of whatever buffer they are."""

from __future__ import annotations

import pyarrow as pa
import pytest

from ingestion.stage import is_plain


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "b c", "", None], True),
        ([], True),
        ([None, None], True),
        ([" a"], False),
        (["a", "b\t"], False),
        (["\u3000a"], False),
        (["a\u00a0"], False),
        (["姓名"], False),
        (["a名b"], True),
    ],
)
def test_plain_columns(values: list[str | None], expected: bool) -> None:
    assert is_plain(pa.chunked_array([pa.array(values, pa.string())])) is expected


def test_a_slice_is_judged_by_its_own_values() -> None:
    whole = pa.array(["a ", "b", "c", " d"], pa.string())
    assert is_plain(pa.chunked_array([whole.slice(1, 2)])) is True
    assert is_plain(pa.chunked_array([whole.slice(1, 3)])) is False
    assert is_plain(pa.chunked_array([whole.slice(1, 2), whole.slice(0, 1)])) is False
    assert is_plain(pa.chunked_array([pa.nulls(3, pa.string())])) is True
