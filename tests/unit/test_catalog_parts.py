"""The catalogue's arithmetic on small things: names, lineage, judgement."""

from __future__ import annotations

from typing import Any

import pytest

import catalog
from catalog.gold import both, gold_tables, short, upstream
from catalog.model import own_tables, source_tables
from catalog.quality import Judgement, Quality
from lake.errors import MedlakeError


def model(name: str, schema: str, **meta: Any) -> dict[str, Any]:
    return {
        "name": name,
        "schema": schema,
        "resource_type": "model",
        "description": meta.pop("description", "就诊，逐日 / Visits, by day"),
        "config": {"meta": {"grain": "一行", "owner": "甲", "product": "operations"} | meta},
        "columns": {
            "n": {
                "name": "n",
                "data_type": "bigint",
                "description": "数量 / Count",
                "config": {"meta": {"level": 2}},
            }
        },
    }


@pytest.fixture
def manifest() -> dict[str, Any]:
    return {
        "nodes": {
            "model.m.stg": model("stg", "staging"),
            "model.m.fct": model("fct", "gold"),
            "model.m.wall": model("wall", "gold"),
            "test.m.key": {
                "resource_type": "test",
                "schema": "x",
                "attached_node": "model.m.fct",
                "column_name": "n",
                "test_metadata": {"name": "row_key", "kwargs": {}},
            },
        },
        "sources": {"source.m.silver.encounter": {"schema": "silver", "name": "encounter"}},
        "exposures": {"exposure.m.wall": {"name": "operations_wall"}},
        "parent_map": {
            "model.m.stg": ["source.m.silver.encounter", "seed.m.org"],
            "model.m.fct": ["model.m.stg"],
            "model.m.wall": ["model.m.fct", "model.m.stg"],
            "exposure.m.wall": ["model.m.wall"],
        },
    }


@pytest.mark.parametrize(
    ("text", "halves"),
    [
        ("就诊 / Visits", ("就诊", "Visits")),
        ("就诊", ("就诊", "")),
        ("血压 mmHg / Pressure / of the arm", ("血压 mmHg", "Pressure / of the arm")),
        ("", ("", "")),
    ],
)
def test_description_splits_into_two_languages(text: str, halves: tuple[str, str]) -> None:
    assert both(text) == halves


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("年龄(封顶90)", "年龄"),
        ("指标值，年初至今", "指标值"),
        ("Age, 90 for more", "Age"),
        ("1.5 mmol", "1.5 mmol"),
    ],
)
def test_name_is_the_head_of_the_sentence(text: str, name: str) -> None:
    assert short(text) == name


def test_lineage_sees_through_staging_and_ignores_seeds(manifest: dict[str, Any]) -> None:
    assert upstream(manifest) == {
        "gold.fct": {"silver.encounter"},
        "gold.wall": {"gold.fct", "silver.encounter"},
        "exposure.operations_wall": {"gold.wall"},
    }


def test_gold_table_takes_key_and_level_from_dbt(manifest: dict[str, Any]) -> None:
    found = gold_tables(manifest)
    assert set(found) == {"gold.fct", "gold.wall"}
    assert found["gold.fct"].fields[0].is_key and not found["gold.wall"].fields[0].is_key
    assert found["gold.fct"].level == 2


@pytest.mark.parametrize("what", ["grain", "owner", "product"])
def test_model_without_what_it_owes_is_refused(manifest: dict[str, Any], what: str) -> None:
    manifest["nodes"]["model.m.wall"]["config"]["meta"][what] = ""
    with pytest.raises(MedlakeError, match="E506") as caught:
        gold_tables(manifest)
    assert "wall" in str(caught.value) and what in str(caught.value)


def test_model_without_english_is_refused(manifest: dict[str, Any]) -> None:
    manifest["nodes"]["model.m.wall"]["description"] = "只有中文"
    with pytest.raises(MedlakeError, match="E506"):
        gold_tables(manifest)


def test_an_asset_is_as_good_as_its_worst_source_and_findings_add_up() -> None:
    quality = Quality({"silver.a": Judgement(99.0, 3), "silver.b": Judgement(80.0, 4)})
    edges = {"gold.x": {"silver.a"}, "gold.y": {"gold.x", "silver.b"}, "gold.z": {"silver.c"}}
    assert quality.of("gold.y", edges) == Judgement(80.0, 7)
    assert quality.of("gold.x", edges) == Judgement(99.0, 3)
    assert quality.of("gold.z", edges) == Judgement(None, 0), "nobody judged it, so it has no score"


def test_every_field_of_every_table_is_described() -> None:
    for asset, table in (source_tables() | own_tables()).items():
        assert table.grain_zh and table.owner and table.fields, asset
        assert any(f.is_key for f in table.fields), asset
        for field in table.fields:
            assert field.label_zh and field.type and 1 <= field.level <= 5, f"{asset}.{field.name}"


def test_catalogue_before_any_build_says_what_to_do(lake_home: object) -> None:
    with pytest.raises(MedlakeError, match="E505"):
        catalog.assets()
