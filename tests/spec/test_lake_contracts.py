"""The field dictionary keeps its own rules: valid ODCS v3.1, one meaning per name, every field complete."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import pytest
import yaml

from ingestion import contracting
from ingestion.contracting import pages
from ingestion.contracting.value_sets import codes, has_list, value_sets
from lake.contracts import CONTRACTS_DIR, contract, contracts, table_contract
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

#: What the group's issue names, feed by feed.
TABLES = {
    "his": "patient registration encounter inpatient_encounter diagnosis clinical_order prescription prescription_item"
    " fee_item allergy front_page",
    "emr": "emr_document emr_section",
    "lis": "specimen lab_report lab_result critical_value_event qc_result mutual_recognition",
    "pacs": "imaging_study imaging_series imaging_instance imaging_report",
    "ecg": "ecg_exam",
    "iot": "vital_reading device device_binding cold_chain_reading equipment_reading rfid_event",
    "public_health": "ph_archive ph_archive_disease ph_exam htn_card htn_visit dm_card dm_visit birth_record newborn_visit"
    " child_card child_visit preg_card prenatal_visit delivery postpartum_visit smi_card smi_visit tb_notice"
    " tb_first_visit tb_visit tb_close tcm_elder tcm_child fd_contract fd_service idr_card vaccination_record copd_card"
    " copd_visit chronic_one_table death_registry",
    "pharmacy": "stock_in stock_out stock_snapshot drug_trace",
    "insurance": "settlement settlement_item deduction",
    "referral": "referral",
    "cssd": "cssd_trace",
    "emergency": "ems_dispatch",
    "adverse_event": "adverse_event",
    "satisfaction": "satisfaction_response",
    "hr_finance": "staff department finance_entry",
    "worklist": "decision",
    "correction": "correction",
    "hl7v2": "hl7v2_message",
    "fhir": "fhir_resource",
    "attachments": "attachment",
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
    node = yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader)
    jsonschema.Draft201909Validator(json.loads(schema.read_text())).validate(node)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_only_known_custom_properties(path: Path) -> None:
    used = set(re.findall(r"property: (\w+)", path.read_text("utf-8"))) - {"latency", "grace"}
    assert used <= CUSTOM


@pytest.mark.parametrize("feed", sorted(TABLES))
def test_every_table_of_the_issue_has_its_contract(feed: str) -> None:
    assert set(TABLES[feed].split()) <= set(contract(feed).tables)


def test_no_rule_of_the_dictionary_is_broken() -> None:
    assert contracting.validate() == []


def test_a_table_is_found_by_its_name() -> None:
    for feed in contracts().values():
        for name, table in feed.tables.items():
            assert table_contract(name) is table


def test_public_health_tables_have_what_the_reference_s_rules_compare() -> None:
    """Fields that rules of qc_rules.csv need and no other test mentions: the names of the reference in ours."""
    needed = {
        "ph_archive": "id_missing_reason hukou_region_code addr_region_code crowd_tags name_pinyin",
        "ph_exam": "drink_status_code fundus_result_code chest_dr_result_code selfcare_score heart_rate_bpm",
        "htn_visit": "target_weight_kg target_smoke_per_day adverse_text recorded_at no_visit_reason_code",
        "dm_visit": "glucose_unit_code hba1c_pct is_insulin insulin_usage rbg_mmol_l",
        "child_visit": "stage_code head_circ_cm fontanelle_code development_code hgb_g_l is_eye_care",
        "preg_card": "lmp_on edd_on is_us_corrected gravidity cesarean_births ectopic_count risk_color_codes",
        "prenatal_visit": "fundal_cm fetal_heart_bpm hiv_result_code gest_weeks is_high_risk",
        "smi_visit": "danger_level_code insight_code social_function_code symptom_grade_code reported_at impact",
        "smi_card": "smi_icd10_code is_consented dx_org",
        "tb_close": "expected_doses taken_doses adherence_ratio stop_reason_code treatment_started_on stopped_on",
        "tb_first_visit": "visited_at drug_resist_code regimen",
        "tcm_elder": "q1 q33 ping_he_score ping_he_judge_code qi_xu_score guidance",
        "idr_card": "diagnosed_at filled_at net_reported_at onset_on parent_name school_name tb_class_code",
        "fd_contract": "starts_on ends_on signed_on package_ids crowd_tags status_code",
        "vaccination_record": "due_on given_at dose_no is_contraindicated",
        "copd_visit": "fev1_fvc fev1_pct is_post_bronchodilator gold_grade_code icd10_code",
        "attachment": "taken_at phash",
        "encounter": "is_first_bp patient_class_code",
        "staff": "hired_on left_on",
    }
    for table, names in needed.items():
        assert set(names.split()) <= {f.name for f in table_contract(table).fields}, table


def test_hiv_and_mental_illness_stand_at_the_highest_level() -> None:
    for table, field in (("prenatal_visit", "hiv_result_code"), ("smi_visit", "danger_level_code"),
                         ("smi_card", "smi_icd10_code"), ("idr_card", "disease_code")):  # fmt: skip
        assert table_contract(table).field(field).level == 5
        assert table_contract(table).level == 5


def test_a_field_has_its_table_s_grade_unless_it_says_another() -> None:
    archive = table_contract("ph_archive")
    assert archive.national_grade == "重要数据" == archive.field("name").national_grade
    assert contract("public_health").national_grade == "重要数据"
    assert table_contract("stock_in").field("qty").national_grade == "一般数据"


def test_every_list_is_registered_and_every_registered_one_used_or_mapped() -> None:
    lists = {p.stem for p in (PROJECT_ROOT / "dbt" / "seeds" / "codes").glob("*.csv")}
    assert lists <= set(value_sets())
    used = {f.code_system for c in contracts().values() for t in c.tables.values() for f in t.fields}
    idle = {n for n in lists - used if not value_sets()[n]["standard_system"]}
    targets = {r["standard_system"] for r in value_sets().values()}
    assert idle <= targets


@pytest.mark.parametrize("name", sorted(n for n in value_sets() if has_list(n)))
def test_a_list_names_each_code_once_and_maps_to_codes_that_exist(name: str) -> None:
    rows = [r for r in codes(name) if r["code"]]
    assert len({r["code"].lower() for r in rows}) == len(rows) > 0
    assert all(r["name_zh"] for r in rows)
    system = value_sets()[name]["standard_system"]
    if system:
        known = {r["code"] for r in codes(system)}
        assert {r["standard_code"] for r in rows if r["standard_code"]} <= known
    if "__" in name:
        form, _, version = name.partition("__")[0].rpartition("_")
        assert (form, version) == (value_sets()[name]["form"], value_sets()[name]["version"])


def test_the_forms_that_contradict_each_other_do_so_here() -> None:
    """The reference's real cases: 10 is a graduate or not known, 1 is needed or not needed, Rh the wrong way round."""
    forms = {
        n: {r["code"]: r["standard_code"] for r in codes(n)}
        for n in ("htn_visit_bsoft__lose_weight", "dm_visit_bsoft__lose_weight", "ph_archive_v3__education",
                  "ph_archive_bsoft__blood_rh", "ph_archive_v2011__rh_negative")
    }  # fmt: skip
    assert forms["htn_visit_bsoft__lose_weight"] == {"1": "no", "2": "yes"}
    assert forms["dm_visit_bsoft__lose_weight"] == {"1": "yes", "2": "no"}
    assert forms["ph_archive_v3__education"]["10"] == "" and forms["ph_archive_v3__education"]["1"] == "10"
    assert forms["ph_archive_bsoft__blood_rh"]["1"] == "2" == forms["ph_archive_v2011__rh_negative"]["1"]


def test_pages_are_in_step_with_the_contracts() -> None:
    for name, text in pages.pages().items():
        assert (pages.FOLDER / name).read_text("utf-8") == text, f"{name}: run medlake contracts docs"
    assert {p.name for p in pages.FOLDER.iterdir()} == set(pages.pages())


def test_register_of_value_sets_is_sorted_and_plain() -> None:
    with (settings().seeds_dir / "value_set.csv").open(encoding="utf-8", newline="") as file:
        names = [r["code_system"] for r in csv.DictReader(file)]
    assert names == sorted(set(names))


def test_unknown_feed_names_those_that_exist() -> None:
    with pytest.raises(MedlakeError) as caught:
        contract("nope")
    assert caught.value.code == "E102" and "his" in caught.value.remedy_en
