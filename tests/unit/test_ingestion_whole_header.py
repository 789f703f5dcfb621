"""A first row that names everything is the header at once; the search through all rows says the same of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ingestion.readers import headers
from lake.contracts import table_contract

TABLES = ("fee_item", "stock_snapshot", "settlement_item", "htn_visit", "encounter")


def columns(table: str) -> list[str]:
    return [f.physical_name for f in table_contract(table).fields][:20]


def sheets(table: str) -> dict[str, list[list[str]]]:
    """A whole header and what may come with it, by what is odd about it."""
    head = columns(table)
    data = [["1"] * len(head) for _ in range(6)]
    return {
        "plain": [head, *data],
        "no data": [head],
        "ragged rows": [head, *(row[:-2] for row in data)],
        "a wider row": [head, [*data[0], "more"], *data],
        "a title above": [["报表"], head, *data],
        "a better header below": [head[: len(head) - 3], *data, head],
        "the header again": [head, *data, head, *data],
        "two headers at once": [head, head, *data],
        "units below": [head, ["mmHg"] * len(head), *data],
        "twice side by side": [[*head, *head], *[[*row, *row] for row in data]],
        "an unknown column": [[*head, "院内备注"], *[[*row, "x"] for row in data]],
        "an empty column": [[*head, ""], *[[*row, "x"] for row in data]],
        "a name twice": [[*head, head[0]], *[[*row, "x"] for row in data]],
        "without its key": [head[1:], *data],
        "one column": [head[:1], ["1"]],
        "nothing": [],
    }


@pytest.mark.parametrize("table", TABLES)
def test_the_short_way_finds_what_the_search_finds(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = table_contract(table)
    given: dict[str, list[list[str]]] = sheets(table)
    short = {odd: headers.find(rows, contract) for odd, rows in given.items()}
    monkeypatch.setattr(headers, "_whole", lambda *_: None)
    assert short == {odd: headers.find(rows, contract) for odd, rows in given.items()}


def test_only_the_plain_ones_go_the_short_way() -> None:
    contract = table_contract("fee_item")

    def is_short(rows: Sequence[Sequence[str]]) -> bool:
        return headers._whole(rows, contract) is not None

    assert {odd for odd, rows in sheets("fee_item").items() if is_short(rows)} == {
        "plain", "no data", "ragged rows", "the header again", "units below",  # which are the units of none of its fields
    }  # fmt: skip
