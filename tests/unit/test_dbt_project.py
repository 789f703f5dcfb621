"""What every model owes its reader, checked on the files: no dbt, no database."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from catalog import dbt_sources
from catalog.gold import both
from catalog.model import field_levels, source_tables
from lake.registry import products
from lake.settings import PROJECT_ROOT

DBT = PROJECT_ROOT / "dbt"
MODELS = sorted((DBT / "models").rglob("*.sql"))

#: What the wall reads, by name: a column that vanishes here blanks a tile there.
WALL = {
    "wall_kpi": "ord kpi_code label_zh value unit_zh delta_pct data_date",
    "daily_encounter": "visit_date org_code org_name org_short_name org_level_code org_level_zh class_code class_zh"
    " encounters total_fee insurance_pay",
    "hourly_heat": "weekday_no weekday_zh hour encounters",
    "referral_flow": "from_org_name to_org_name direction_code direction_zh referrals",
    "district_map": "org_code district_name svg_path label_x label_y managed standard_managed standard_rate fill",
    "wall_alert": "occurred_at alert_kind kind_zh severity org_short_name text_zh",
    "chronic_management": "disease disease_zh org_code org_short_name managed standard_managed controlled"
    " standard_rate control_rate excluded",
    "indicator": "indicator_code label_zh org_code period numerator denominator value excluded unit_zh data_date",
    "quality_score": "org_code org_short_name score open_findings error_findings data_date",
}


def described() -> dict[str, dict[str, Any]]:
    found = {}
    for path in (DBT / "models").rglob("*.yml"):
        for model in yaml.safe_load(path.read_text("utf-8")).get("models", []):
            assert model["name"] not in found, f"{model['name']} is described twice"
            found[model["name"]] = model | {"layer": path.relative_to(DBT / "models").parts[0]}
    return found


DESCRIBED = described()
MARTS = [name for name, model in DESCRIBED.items() if model["layer"] == "marts"]


def test_sources_are_in_step_with_the_contracts() -> None:
    assert dbt_sources.SOURCES.read_text("utf-8") == dbt_sources.render(), "run python -m catalog.dbt_sources"


def test_check_says_when_the_sources_are_out_of_step(tmp_path: Path) -> None:
    stale = tmp_path / "sources.yml"
    assert dbt_sources.main(["--check"], stale) == 1
    assert dbt_sources.main([], stale) == 0
    assert dbt_sources.main(["--check"], stale) == 0
    stale.write_text(stale.read_text("utf-8").replace("patient", "patients", 1), "utf-8")
    assert dbt_sources.main(["--check"], stale) == 1


def test_every_model_is_described_and_every_description_has_a_model() -> None:
    assert {p.stem for p in MODELS} == set(DESCRIBED)


@pytest.mark.parametrize("name", sorted(DESCRIBED))
def test_model_tells_grain_owner_and_both_languages(name: str) -> None:
    model = DESCRIBED[name]
    meta = model["config"]["meta"]
    assert meta["grain"] and meta["owner"]
    assert all(both(model["description"])), f"{name}: description must be 中文 / English"
    for column in model["columns"]:
        zh, en = both(column["description"])
        assert re.search(r"[\u4e00-\u9fff]|ID|LOINC", zh) and en, f"{name}.{column['name']}"


@pytest.mark.parametrize("name", MARTS)
def test_mart_enforces_a_contract_and_belongs_to_a_product(name: str) -> None:
    model = DESCRIBED[name]
    assert model["config"]["contract"] == {"enforced": True}
    assert model["config"]["meta"]["product"] in {p.product for p in products()}
    assert all(c["data_type"] for c in model["columns"])
    tests = [t for c in model["columns"] for t in c.get("data_tests", [])] + model.get("data_tests", [])
    assert tests, f"{name} has no test"


@pytest.mark.parametrize("name", sorted(WALL))
def test_the_wall_finds_its_columns(name: str) -> None:
    assert set(WALL[name].split()) <= {c["name"] for c in DESCRIBED[name]["columns"]}


@pytest.mark.parametrize("name", MARTS)
def test_no_mart_has_a_column_that_identifies_a_person(name: str) -> None:
    """Allow-list by level: a name that any source classifies 4 or above does not enter gold."""
    levels = field_levels()
    found = {c["name"] for c in DESCRIBED[name]["columns"] if levels.get(c["name"], 0) >= 4}
    assert not found
    assert all(c["config"]["meta"]["level"] <= 3 for c in DESCRIBED[name]["columns"])


def test_no_model_reads_the_clock() -> None:
    clock = re.compile(r"current_date|current_timestamp|\bnow\s*\(|\btoday\s*\(|get_current", re.IGNORECASE)
    sql = [*MODELS, *(DBT / "macros").rglob("*.sql"), *(DBT / "tests").rglob("*.sql")]
    assert not [p.name for p in sql if clock.search(p.read_text("utf-8"))]


def test_there_is_no_python_in_the_dbt_folder() -> None:
    assert not list(DBT.rglob("*.py"))


def test_models_read_silver_through_sources_only() -> None:
    direct = re.compile(r"(?:from|join)\s+(?:silver|quality|ops|gold)\.", re.IGNORECASE)
    assert not [p.name for p in MODELS if direct.search(p.read_text("utf-8"))]


def test_sources_named_in_sql_exist() -> None:
    known = set(source_tables()) | {"ops.delivery"}
    for path in [*MODELS, *(DBT / "macros").rglob("*.sql")]:
        for schema, table in re.findall(r"source\('(\w+)',\s*'(\w+)'\)", path.read_text("utf-8")):
            assert f"{schema}.{table}" in known, f"{path.name}: {schema}.{table}"
