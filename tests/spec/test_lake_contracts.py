"""The field dictionary keeps its own rules: valid ODCS v3.1, one meaning per name, every field complete."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from lake.contracts import CONTRACTS_DIR, ENVELOPE, contract, contracts
from lake.errors import MedlakeError
from lake.settings import PROJECT_ROOT, settings

FILES = sorted(CONTRACTS_DIR.glob("*.odcs.yaml"))
CUSTOM = {
    "labelZh",
    "unit",
    "codeSystem",
    "gbt39725Level",
    "fhirPath",
    "sourceStandard",
    "dataElement",
    "nationalGrade",
    "grain",
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_contract_validates_against_the_standard(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = (
        Path(os.environ.get("MEDLAKE_STANDARDS", settings().standards_dir))
        / "odcs"
        / "odcs-json-schema-v3.1.0.json"
    )
    if not schema.exists():
        pytest.skip(f"the standard's schema is not here: {schema}")
    jsonschema.Draft201909Validator(json.loads(schema.read_text())).validate(
        yaml.safe_load(path.read_text("utf-8"))
    )


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_only_known_custom_properties(path: Path) -> None:
    used = set(re.findall(r"property: (\w+)", path.read_text("utf-8"))) - {"latency", "grace"}
    assert used <= CUSTOM


def test_every_field_is_described_once_and_fully() -> None:
    for feed in contracts().values():
        for table in feed.tables.values():
            assert table.key, table.name
            assert table.grain_zh and table.label_zh and table.description
            assert table.level == max(f.level for f in table.fields)
            names = [f.name for f in table.fields]
            assert len(names) == len(set(names))
            assert not set(names) & set(ENVELOPE), table.name
            for field in table.fields:
                assert field.label_zh and field.description and 1 <= field.level <= 5, (
                    table.name,
                    field.name,
                )
                assert not field.is_key or field.required, (table.name, field.name)


def test_a_table_name_belongs_to_one_feed() -> None:
    names = [t for feed in contracts().values() for t in feed.tables]
    assert len(names) == len(set(names))


def test_same_name_same_type_everywhere() -> None:
    seen: dict[str, str] = {}
    for feed in contracts().values():
        for table in feed.tables.values():
            for field in table.fields:
                assert seen.setdefault(field.name, field.type) == field.type, (table.name, field.name)


def test_code_systems_have_their_list() -> None:
    """A code system either has a list of ours, or is one of the big external ones."""
    external = {"icd10", "loinc", "atc", "dept", "org", "region", "lab_panel", "lab_item"}
    lists = {p.stem for p in (PROJECT_ROOT / "dbt" / "seeds" / "codes").glob("*.csv")}
    used = {
        f.code_system
        for c in contracts().values()
        for t in c.tables.values()
        for f in t.fields
        if f.code_system
    }
    assert used - external <= lists


def test_unknown_feed_names_those_that_exist() -> None:
    with pytest.raises(MedlakeError) as caught:
        contract("nope")
    assert caught.value.code == "E102" and "his" in caught.value.remedy_en
