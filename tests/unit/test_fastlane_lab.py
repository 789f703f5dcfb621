"""Critical values, positive tests and what is neither: the rules of the fast lane, result by result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from ingestion import fastlane
from ingestion.fastlane import lab, rules
from ingestion.fastlane.lane import requests
from lake import ops
from lake.errors import MedlakeError
from tests.worklist_world import home

AT = datetime(2026, 11, 18, 2, 0, tzinfo=UTC)
BASE = {
    "report_id": "R1",
    "seq": "1",
    "item_code": "X",
    "patient_local_id": "P1",
    "birth_date": "19580312",
    "encounter_id": "E1",
    "observed_at": "20261118090000",
    "requesting_org_code": "C201",
}


@pytest.fixture(autouse=True)
def site(tmp_path: Path) -> Iterator[Path]:
    with home(tmp_path / "var") as folder:
        (folder / "parameters").mkdir(parents=True)
        rules._load.cache_clear()
        lab._tests.cache_clear()
        yield folder / "parameters"
    rules._load.cache_clear()
    lab._tests.cache_clear()


def keys(table: str = "lab_result", org: str = "H001", **row: str) -> list[str]:
    return [r.request_key for r in requests(table, [BASE | row], org, AT)]


K = {"item_name": "血钾", "loinc_code": "2823-3", "unit": "mmol/L"}
CRITICAL = ["critical_value|H001|R1|X"]


@pytest.mark.parametrize(
    ("text", "is_critical"),
    [
        ("2.8", True), ("2.81", False), ("6.2", True), ("6.19", False), ("4.1", False), ("＜2.5", True), ("<3.0", False),
        ("<=2.8", True), (">7", True), (">5.0", False), ("≥ 6.2", True), ("7.1↑", True), ("溶血", False), ("", False),
    ],
)  # fmt: skip
def test_limits_and_comparators(text: str, is_critical: bool) -> None:
    assert keys(value_text=text, **K) == (CRITICAL if is_critical else [])


def test_the_typed_number_goes_before_the_text() -> None:
    assert keys(value_text="见备注", value_num="7.0", **K) == CRITICAL
    assert keys(value_text="见备注", value_num="3.0", comparator="<", **K) == []
    assert keys(value_text="7.0", value_num="kaputt", **K) == CRITICAL


@pytest.mark.parametrize(
    ("item", "value", "unit", "is_critical"),
    [
        (("血小板", "777-3"), "1500", "10^9/L", True),
        (("血小板", "777-3"), "25", "10*3/uL", True),
        (("血红蛋白", "718-7"), "4.9", "g/dL", True),
        (("血红蛋白", "718-7"), "5.1", "g/dL", False),
        (("肌酐", "14682-9"), "0.7", "mmol/L", True),
        (("肌酐", "14682-9"), "700", "μmol/L", True),
        (("PaCO2", "2019-8"), "2.6", "kPa", True),
        (("PaCO2", "2019-8"), "2.7", "kPa", False),
        (
            ("葡萄糖", "14749-6"),
            "500",
            "mg/dL",
            False,
        ),  # mass to molar is not exact: the laboratory's flag decides
        (("pH", "2744-1"), "7.15", "pH", True),
        (("血钾", "2823-3"), "7.1", "", True),
        (("血钾", "2823-3"), "7.1", "没见过", False),
    ],
)
def test_units_are_converted_only_where_that_is_exact(
    item: tuple[str, str], value: str, unit: str, is_critical: bool
) -> None:
    found = keys(item_name=item[0], loinc_code=item[1], value_text=value, unit=unit, encounter_id="")
    assert bool(found) == is_critical


def test_what_the_laboratory_marks_is_critical_whatever_the_limits() -> None:
    for flag in ("HH", "LL", "↑↑", "↓↓", "危急值"):
        assert keys(item_name="没有界值的项目", value_text="9", abnormal_flag=flag) == CRITICAL
    assert keys(item_name="没有界值的项目", value_text="9", abnormal_flag="H") == []
    assert keys(value_text="500", abnormal_flag="HH", **K | {"unit": "mg/dL"}) == CRITICAL
    assert (
        keys(value_text="4", is_critical="是", **K) == CRITICAL
        and keys(value_text="4", is_critical="0", **K) == []
    )


def test_cancelled_results_count_for_nothing() -> None:
    for status in ("X", "D", "作废"):
        assert keys(value_text="7.1", status_code=status, **K) == []
    assert keys(value_text="7.1", status_code="P", **K) == CRITICAL  # preliminary ones do


def test_newborns_have_their_own_limits_and_the_unknown_the_adults() -> None:
    glucose = {"item_name": "葡萄糖", "loinc_code": "14749-6", "unit": "mmol/L", "value_text": "17"}
    assert keys(**glucose, birth_date="20261115") == CRITICAL
    assert keys(**glucose) == []
    assert keys(**glucose | {"value_text": "25"}, birth_date="") == CRITICAL
    bilirubin = {"item_name": "总胆红素", "loinc_code": "14631-6", "unit": "umol/L", "value_text": "350"}
    assert keys(**bilirubin, birth_date="20261115") == CRITICAL and keys(**bilirubin) == []


def test_names_stand_for_blood_only_without_code_and_outside_other_specimens() -> None:
    row = {"item_name": "葡萄糖", "value_text": "50", "unit": "mmol/L"}
    assert keys(**row) == CRITICAL
    assert keys(**row, panel_name="尿液分析") == []
    assert keys(**row, loinc_code="99999-9") == []


def test_a_multiple_of_the_upper_limit() -> None:
    amylase = {"item_name": "淀粉酶", "unit": "U/L", "ref_high": "125"}
    assert keys(**amylase, value_text="375") == CRITICAL and keys(**amylase, value_text="374") == []


def test_first_report_is_one_request_an_encounter_and_dialysis_is_left_out() -> None:
    creatinine = {"item_name": "肌酐", "loinc_code": "14682-9", "value_text": "900", "unit": "umol/L"}
    first = keys(**creatinine)
    assert first == ["critical_value|H001|first|E1|creatinine"] == keys(**creatinine | {"report_id": "R2"})
    assert keys(**creatinine | {"encounter_id": ""}) == CRITICAL
    assert keys(**creatinine, dept_code="dialysis") == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("HIV Ab", "阳性", "hiv"),
        ("HIV 1+2 抗体", "待确证", "hiv"),
        ("人类免疫缺陷病毒抗体(HIV-Ab)", "弱阳性(±)", "hiv"),
        ("HIV Ab", "Reactive", "hiv"),
        ("HIV Ab", "Non-Reactive", None),
        ("HIV Ab", "非反应性", None),
        ("HIV Ab", "阴性(-)", None),
        ("HIV-RNA 病毒载量", "阳性", None),
        ("梅毒螺旋体抗体", "＋", "syphilis"),
        ("TPPA", "1:80 阳性", "syphilis"),
        ("TRUST", "阴性", None),
        ("乙肝表面抗原", "反应性", "hepatitis_b"),
        ("乙肝表面抗体", "阳性", None),  # an antibody is protection
        ("HBsAg", "+", "hepatitis_b"),
    ],
)
def test_positive_tests(name: str, text: str, expected: str | None) -> None:
    found = keys(item_name=name, value_text=text)
    assert found == ([f"infectious_positive|H001|R1|{expected}"] if expected else [])


def test_a_quantitative_test_is_positive_from_its_cut_off() -> None:
    row = {"item_name": "HBsAg", "ref_high": "0.05", "unit": "IU/mL"}
    assert (
        keys(**row, value_text="250")
        and keys(**row, value_text="0.05")
        and not keys(**row, value_text="0.01")
    )
    assert not keys(**row, value_text="<0.05")
    assert keys(item_name="TRUST", value_text="1:8", abnormal_flag="A")


def test_a_confirmed_hiv_test_is_a_request_of_its_own_and_needs_no_confirmation() -> None:
    (made,) = requests(
        "lab_result", [BASE | {"item_name": "HIV抗体确证试验（免疫印迹）", "value_text": "阳性"}], "H001", AT
    )
    assert made.payload["confirmation"] == "done" and made.request_key.endswith("|hiv|confirmed")


def test_an_hiv_request_says_nothing_but_the_report() -> None:
    (made,) = requests("lab_result", [BASE | {"item_name": "HIV Ab", "value_text": "阳性"}], "H001", AT)
    assert set(made.payload) == {
        "report_id", "rule_id", "received_at", "requesting_org_code", "pathogen", "disease_code", "confirmation", "level",
    }  # fmt: skip
    assert (
        made.payload["level"] == 5 and "P1" not in json.dumps(made.payload) + made.subject + made.request_key
    )


@pytest.mark.parametrize(
    ("text", "is_critical"),
    [
        ("革兰阴性杆菌生长", True),
        ("培养5天无细菌生长", False),
        ("阳性", True),
        ("未检出", False),
        ("检出金黄色葡萄球菌", True),
    ],
)
def test_cultures_are_read_by_words(text: str, is_critical: bool) -> None:
    assert bool(keys(item_name="血培养（需氧）", value_text=text)) == is_critical


def test_the_laboratorys_own_event_is_the_same_request() -> None:
    row = {"event_id": "V1", "detected_at": "20261118090000"}
    assert keys("critical_value_event", **row) == CRITICAL
    assert keys("critical_value_event", event_id="V1", report_id="", item_code="") == [
        "critical_value|H001|V1|V1"
    ]


def test_when_it_happened_is_never_later_than_receipt() -> None:
    (made,) = requests(
        "lab_result", [BASE | K | {"value_text": "7", "observed_at": "20270101000000"}], "H001", AT
    )
    assert made.occurred_at == AT
    (made,) = requests("lab_result", [BASE | K | {"value_text": "7"}], "H001", AT)
    assert made.occurred_at == datetime(2026, 11, 18, 1, 0, tzinfo=UTC)


def own_rules(site: Path, *lines: str) -> None:
    header = (
        (Path(rules.__file__).parent / "parameters" / "critical_values.csv")
        .read_text("utf-8")
        .splitlines()[0]
    )
    (site / "critical_values.csv").write_text("\n".join([header, *lines]) + "\n")
    rules._load.cache_clear()


def test_an_institutions_own_limits_take_the_place_of_the_groups(site: Path) -> None:
    own_rules(
        site,
        "K_H001,potassium,血钾,2823-3,血钾,mmol/L,2.5,7.5,,29,,,,,H001,2026-01-01,,0,院定,",
        "WBC_HEMA,leukocytes,白细胞,6690-2,白细胞,10*9/L,0.5,100,,29,,,hematology,,,2026-01-01,,0,院定,放化疗",
        "K_OLD,potassium,血钾,2823-3,血钾,mmol/L,3.4,,,29,,,,,C201,2025-01-01,2025-12-31,0,院定,过期",
    )
    assert keys(**K, value_text="7.1") == [] and keys(**K, value_text="7.5") == CRITICAL
    assert keys(org="H101", **K, value_text="7.1") == ["critical_value|H101|R1|X"]
    assert keys(org="C201", **K, value_text="3.3") == []
    white = {"item_name": "白细胞", "loinc_code": "6690-2", "unit": "10*9/L", "value_text": "1.0"}
    assert keys(**white) == CRITICAL and keys(**white, dept_code="hematology") == []


@pytest.mark.parametrize(
    "line",
    ["BAD,x,x,1-1,x,mmol/L,abc,,,0,,,,,,2026-01-01,,0,K,", "BAD,x,x,1-1,x,g/L,,,,0,,,,,,2026-01-01,,0,K,"],
)
def test_a_wrong_rule_is_told_with_what_to_mend(site: Path, line: str) -> None:
    own_rules(site, line)
    with pytest.raises(MedlakeError, match="E920"):
        keys(**K, value_text="7")


def test_every_rule_has_its_period_and_its_source() -> None:
    known = rules.rules()
    assert len(known.limits) >= 20 and len(known.infectious) >= 4
    assert all(x.valid_from for x in (*known.limits, *known.words, *known.infectious, *known.ranges))


def test_offering_twice_asks_once_and_tables_are_named(site: Path) -> None:
    rows = [
        BASE | K | {"value_text": "7.1"},
        BASE | K | {"value_text": "7.1"},
        BASE | K | {"seq": "2", "value_text": "4"},
    ]
    assert [fastlane.offer("lab_result", rows, "H001", AT) for _ in range(2)] == [1, 0]
    assert fastlane.offer("vital_reading", [{"value": "250"}], "H001", AT) == 0
    with ops.engine().begin() as connection:
        assert len(connection.execute(select(ops.work_request)).all()) == 1
    with pytest.raises(MedlakeError, match="E921"):
        fastlane.offer("patient", [{}], "H001", AT)


def test_long_numbers_of_reports_stay_within_the_column() -> None:
    (made,) = keys(**K, value_text="7.1", report_id="R" * 300)
    assert len(made) <= 200 and made.startswith("critical_value|H001|")
    assert made != keys(**K, value_text="7.1", report_id="R" * 301)[0]
