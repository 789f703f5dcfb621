"""Templates and cohort definitions: the shipped ones load, a wrong one is told what is wrong and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lake.errors import MedlakeError
from products import cohort_definition, export_template

TEMPLATE = yaml.safe_load((export_template.FOLDER / "hypertension.yaml").read_text("utf-8"))
COHORT = yaml.safe_load((cohort_definition.FOLDER / "htn_with_high_ldl.yaml").read_text("utf-8"))


def written(tmp_path: Path, node: dict[str, Any]) -> Path:
    path = tmp_path / "given.yaml"
    path.write_text(yaml.safe_dump(node, allow_unicode=True), "utf-8")
    return path


@pytest.mark.parametrize("path", sorted(export_template.FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_templates_load(path: Path) -> None:
    assert export_template.load(path.stem).template == path.stem


@pytest.mark.parametrize("path", sorted(cohort_definition.FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_cohorts_load(path: Path) -> None:
    assert cohort_definition.load(path.stem).cohort == path.stem


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"columns": ["age_years", "age_years"]}, "age_years"),
        ({"columns": ["identity.contact_name"]}, "contact_name"),
        ({"columns": ["silver.name"]}, "silver.name"),
        ({"columns": ['age_years" FROM x --']}, "age_years"),
        ({"columns": []}, "columns"),
        ({"product": "nothing"}, "nothing"),
        ({"identifiers": "plain"}, "identifiers"),
        ({"table": "htn; drop"}, "table"),
        ({"sort": ["identity.id_no"]}, "identity.id_no"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_template_is_refused(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    with pytest.raises(MedlakeError) as error:
        export_template.load(written(tmp_path, TEMPLATE | change))
    assert error.value.code == "E620" and named in error.value.zh


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"where": {"all": [{"managed": "cancer"}]}}, "managed"),
        ({"where": {"all": [{"managed": "htn"}], "any": [{"managed": "dm"}]}}, "exactly one"),
        ({"where": {"all": []}}, "all"),
        ({"where": {"all": [{"weight": 3}]}}, "managed"),
        (
            {"where": {"all": [{"lab": {"loinc": ["LDL"], "op": ">=", "value": 3, "unit": "mmol/L"}}]}},
            "loinc",
        ),
        (
            {
                "where": {
                    "all": [{"lab": {"loinc": ["1-8"], "op": "between", "low": 5, "high": 1, "unit": "x"}}]
                }
            },
            "low",
        ),
        ({"where": {"all": [{"encounter": {"icd10": ["B20"]}}]}}, "B20"),
        ({"where": {"all": [{"encounter": {"icd10": ["B"]}}]}}, "B"),
        ({"where": {"none": [{"any": [{"encounter": {"icd10": ["F2"]}}]}]}}, "F2"),
        ({"population": {"age": {"min": 80, "max": 40}}}, "min > max"),
        ({"group_by": ["age_band", "sex", "county"]}, "group_by"),
        ({"group_by": ["phone"]}, "group_by"),
        ({"group_by": ["sex", "sex"]}, "twice"),
        ({"group_by": ["hypertension"]}, "hypertension"),
        ({"min_cell": 1}, "min_cell"),
    ],
)
def test_a_wrong_cohort_is_refused(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    with pytest.raises(MedlakeError) as error:
        cohort_definition.load(written(tmp_path, COHORT | change))
    assert error.value.code == "E640" and named in error.value.zh


@pytest.mark.parametrize(("load", "code"), [(export_template.load, "E621"), (cohort_definition.load, "E641")])
def test_an_unknown_name_lists_what_there_is(load: Any, code: str) -> None:
    with pytest.raises(MedlakeError) as error:
        load("no_such")
    assert error.value.code == code and "h" in error.value.remedy_zh


@pytest.mark.parametrize("text", ["a: [", "- just\n- a list\n", "", "\x00"])
def test_a_file_that_is_no_definition(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, "utf-8")
    for load, code in ((export_template.load, "E620"), (cohort_definition.load, "E640")):
        with pytest.raises(MedlakeError) as error:
            load(path)
        assert error.value.code == code
