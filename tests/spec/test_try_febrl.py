"""The published FEBRL sets: the committed settings reach what the project promises, and not by looking at the truth."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from empi import trial
from empi.trial import febrl, other_tool
from lake.errors import MedlakeError


def test_febrl3_with_the_other_tool_on_the_same_pairs() -> None:
    found = trial.benchmark("febrl3", compare=True)
    assert (found["records"], found["benchmark"]) == (5000, "febrl3")
    assert found["f1"] >= 0.999 and found["precision"] >= 0.999 and found["exact_clusters"] >= 0.998
    other = found["recordlinkage"]
    assert other["candidates"] >= other["pairs"] > 6000
    assert 0.99 < other["f1"] <= 1 and other["version"] == "0.16"


def test_what_is_linked_has_no_truth_in_it() -> None:
    """A row's id is its truth; the records that are linked do not have it, nor its order."""
    connection = duckdb.connect()
    given = febrl.settings()
    files = other_tool.data_files(febrl.SETS["febrl4"])
    assert febrl.read_records(connection, files, given["fields"]) == 10_000
    columns = {r[0] for r in connection.execute("DESCRIBE febrl").fetchall()}
    assert columns == {"rec_no", "source", *given["fields"]}
    per_file = connection.execute("SELECT source, count(*) FROM febrl GROUP BY ALL ORDER BY 1").fetchall()
    assert per_file == [(0, 5000), (1, 5000)]


def test_a_set_that_nobody_published() -> None:
    with pytest.raises(MedlakeError, match="E376") as caught:
        trial.benchmark("febrl9")
    assert "febrl3, febrl4" in caught.value.remedy_en


def test_the_other_tool_fails_with_a_number(tmp_path: Path) -> None:
    with pytest.raises(MedlakeError, match="E378"):
        other_tool.pairs([tmp_path / "none.csv"], [["surname"]])
