"""Masks leave enough to recognise somebody one knows, and never a whole identifier."""

from __future__ import annotations

import duckdb
import pytest

from products.masks import IDENTIFYING, masked

CASES = [
    ("name", "王小东", "王**"),
    ("name", "欧阳娜娜", "欧***"),
    ("name", "马", "*"),
    ("name", None, None),
    ("id_no", "42970119500304001X", "4297**********001X"),
    ("id_no", "429701500304001", "4297*******4001"),
    ("id_no", "E1234567", "********"),
    ("id_no", "", ""),
    ("phone", "13900000001", "139****0001"),
    ("phone", "0710-3456789", "071*****6789"),
    ("phone", "12345", "*****"),
    ("addr_detail", "医湖市湖东区湖滨街道12号3单元", "医湖市湖东区湖滨街道***"),
    ("addr_detail", "无名路5号", "***"),
    ("addr_detail", None, None),
    ("birth_date", "1950-03-04", "1950年"),
]


def run(field: str, value: str | None, mode: str) -> object:
    kind = "DATE" if field == "birth_date" else "VARCHAR"
    sql = f"SELECT {masked(field, 'c', mode)} FROM (SELECT ?::{kind} AS c)"  # type: ignore[arg-type]
    return duckdb.execute(sql, [value]).fetchone()[0]  # type: ignore[index]


@pytest.mark.parametrize(("field", "value", "expected"), CASES)
def test_mask(field: str, value: str | None, expected: str | None) -> None:
    assert run(field, value, "masked") == expected


@pytest.mark.parametrize("field", sorted(IDENTIFYING))
def test_full_changes_nothing(field: str) -> None:
    value = "1950-03-04" if field == "birth_date" else "42970119500304001X"
    assert str(run(field, value, "full")) == value


def test_a_field_without_a_mask_cannot_be_exported() -> None:
    with pytest.raises(KeyError):
        masked("contact_name", "c", "masked")
