"""Cohorts over a published file: attrition, differencing refused, saved versions, read back in Chinese."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import products
from lake.errors import MedlakeError
from products import disclosure
from products.cohort_definition import Definition, parse
from products.cohorts import describe, run, saved
from tests import products_world as world

WHO = {"actor": "researcher", "purpose": "科研可行性评估"}


def definition(low: int = 0, **more: Any) -> Definition:
    node: dict[str, Any] = {
        "cohort": "managed", "title_zh": "高血压在管", "population": {"age": {"min": low}},
        "where": {"all": [{"managed": "htn"}]},
    }  # fmt: skip
    return parse(node | more, "test")


@pytest.fixture
def published(lake_home: Path) -> Path:
    world.day(world.DAY_1)
    products.publish(world.DAY_1)
    return lake_home


def truth(low: int) -> int:
    from products import reading

    with reading.published() as con:
        return run.attrition(con, definition(low), world.DAY_1)[-1][1]


def test_a_cohort_and_one_that_lacks_a_few_of_its_persons(published: Path) -> None:
    first = run.run(definition(), **WHO)
    assert first["attrition"][-1]["persons"] == first["persons"]
    assert run.run(definition(), **WHO)["persons"] == first["persons"]
    sizes = {low: truth(low) for low in range(30, 90)}
    near = next(low for low, n in sizes.items() if 0 < sizes[30] - n < disclosure.MIN_CELL)
    assert sizes[30] == truth(0)
    with pytest.raises(MedlakeError, match="E643"):
        run.run(definition(near), **WHO)
    far = next(low for low, n in sizes.items() if sizes[30] - n >= disclosure.MIN_CELL)
    assert run.run(definition(far), **WHO)["persons"] == disclosure.protect_count(sizes[far])


def test_a_saved_version_never_changes(published: Path) -> None:
    assert saved.save(definition(40), actor="r")["version"] == 1
    assert saved.save(definition(40), actor="r")["is_new"] is False
    assert saved.save(definition(50), actor="r")["version"] == 2
    assert saved.get("managed", 1) == definition(40) and saved.get("managed") == definition(50)
    assert [row["version"] for row in saved.listed()] == [2]
    with pytest.raises(MedlakeError, match="E644"):
        saved.get("unknown")


def test_drugs_are_asked_for_by_code_or_name(published: Path) -> None:
    with_drug = definition(where={"all": [{"drug": {"name": ["氨氯地平"]}}]})
    assert run.run(with_drug, **WHO)["persons"] == disclosure.SMALL
    with pytest.raises(MedlakeError, match="E640"):
        definition(where={"all": [{"drug": {"name": ["a" * 3], "code": ["C08"]}}]})


def test_it_is_read_back_in_chinese() -> None:
    said = describe.describe(
        definition(
            40,
            where={"all": [{"managed": "htn", "controlled": False},
                           {"lab": {"loinc": ["22748-8"], "op": ">=", "value": 3.4, "unit": "mmol/L"}},
                           {"drug": {"code": ["C10"], "period": {"within_days": 365}}},
                           {"none": [{"encounter": {"icd10": ["I63"], "class_code": ["IMP"]}}]}]},
            group_by=["sex"],
        )
    )  # fmt: skip
    for clause in (
        "40 岁及以上的健在居民",
        "高血压在管且未控制",
        "不低于 3.4 mmol/L",
        "C10 开头的药品",
        "没有以下任何一项",
        "按性别分组",
    ):
        assert clause in said


@given(st.lists(st.integers(0, 300), min_size=1, max_size=6))
def test_no_two_shown_steps_lie_a_few_persons_apart(drops: list[int]) -> None:
    counts = [sum(drops[at:]) for at in range(len(drops))]
    shown = run.blunt(counts, disclosure.protect_count(counts[-1]))
    kept = [n for n, s in zip(counts, shown, strict=True) if s != disclosure.WITHHELD]
    assert all(not 0 < a - b < disclosure.MIN_CELL for a in kept for b in kept if a >= b)
    assert all(s in (disclosure.WITHHELD, disclosure.SMALL) or int(s) % 5 == 0 for s in shown)
