"""MAP.yaml: what it may say, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from empi.trial import mapping
from lake.errors import MedlakeError


def loaded(tmp_path: Path, text: str) -> mapping.Mapping:
    file = tmp_path / "map.yaml"
    file.write_text(text, "utf-8")
    return mapping.load(file)


def test_columns_at_the_top_or_below_a_key_are_the_same(tmp_path: Path) -> None:
    top = loaded(tmp_path, "record_id: 编号\nname: [姓, 名]\nsex: 性别\n")
    below = loaded(tmp_path, "columns:\n  record_id: 编号\n  name: [姓, 名]\n  sex: 性别\n")
    assert top == below
    assert top.columns == {"record_id": ("编号",), "name": ("姓", "名"), "sex": ("性别",)}


def test_a_key_without_a_column_is_left_out(tmp_path: Path) -> None:
    assert loaded(tmp_path, "record_id: 1\nphone:\n").columns == {"record_id": ("1",)}


def test_options(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        'record_id: id\nsex_codes: {甲: 1, b: "2"}\ndate_formats: "%d %b %Y"\nnull_values: [N/A, 0]\n'
        'encoding: gb18030\ndelimiter: "\\t"\n',
    )
    assert found.sex_codes == {"甲": "1", "B": "2"}
    assert found.date_formats == ("%d %b %Y",)
    assert (found.null_values, found.encoding, found.delimiter) == (("N/A", "0"), "gb18030", "\t")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "key: column"),
        ("- a\n", "key: column"),
        ("name: n\n", "record_id: missing"),
        ("record_id: id\nnmae: n\n", "unknown key: nmae"),
        ("record_id: [\n", "YAML, line 2"),
        ("record_id: {a: b}\n", "record_id: not a column's name"),
        ("record_id: [a, b]\n", "record_id: more than one column"),
        ("record_id: id\nphone: [a, b]\n", "phone: more than one column"),
        ("record_id: id\nsex: true\n", "sex: not a column's name"),
        ("record_id: id\nsex_codes: {a: 3}\n", "sex_codes"),
        ("record_id: id\nsex_codes: [1]\n", "sex_codes"),
        ("record_id: id\ndelimiter: '::'\n", "delimiter: one character"),
        ("columns: [a]\n", "columns: key: column"),
    ],
)
def test_a_wrong_mapping_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(MedlakeError) as caught:
        loaded(tmp_path, text)
    assert caught.value.code == "E371"
    assert told in caught.value.en and told in caught.value.zh
    assert caught.value.place == str(tmp_path / "map.yaml")
    assert "record_id" in caught.value.remedy_en


def test_a_mapping_that_is_not_there_or_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(MedlakeError, match="E371"):
        mapping.load(tmp_path / "none.yaml")
    file = tmp_path / "gb.yaml"
    file.write_bytes("record_id: 编号\n".encode("gb18030"))
    with pytest.raises(MedlakeError, match="not UTF-8"):
        mapping.load(file)
