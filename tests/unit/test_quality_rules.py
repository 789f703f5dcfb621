"""The rule format and its compilation to SQL."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from lake.errors import MedlakeError
from quality import compile as sql
from quality.rule import RULES_DIR, Param, load, rulebook

DAY = date(2026, 11, 20)


def domain(**changes: Any) -> dict[str, Any]:
    rule = {
        "id": "TST-001", "version": 1, "title_zh": "测试", "title_en": "A test", "category": "准确性", "kind": "row",
        "table": "htn_visit", "severity": "error", "eligibility": "sbp_mmhg is not null",
        "condition": "sbp_mmhg > :limit", "params": {"limit": [{"valid_from": "2020-01-01", "value": 140}]},
        "fields": ["sbp_mmhg"], "observed": {"sbp_mmhg": "sbp_mmhg"}, "message_zh": "血压{sbp_mmhg}",
        "remedy_zh": "复测", "source_standard": "无", "verified": "K", "products": {"chronic_disease": "exclude"},
        "owner": "公共卫生科", "introduced_on": "2025-01-01", "tolerance_pct": 5,
        "examples": [{"expect": "pass", "row": {"sbp_mmhg": 1}}, {"expect": "fail", "row": {"sbp_mmhg": 999}}],
    }  # fmt: skip
    rule |= changes
    return {"domain": "TST", "domain_zh": "测试", "domain_en": "Test", "rules": [rule]}


def loaded(folder: Path, node: Any) -> Any:
    (folder / "tst.yaml").write_text(yaml.safe_dump(node, allow_unicode=True), encoding="utf-8")
    return load(folder)


def test_a_rule_loads_with_its_parameters_and_effects(tmp_path: Path) -> None:
    rule = loaded(tmp_path, domain()).rules[0]
    assert rule.params["limit"] == Param("limit", ((date(2020, 1, 1), 140),))
    assert rule.targets[0].products == {"chronic_disease": "exclude"}
    assert rule.introduced_on == date(2025, 1, 1)


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"category": "可爱性"}, "E401"),
        ({"severity": "fatal"}, "E401"),
        ({"introduced_on": "last year"}, "E401"),
        ({"kind": "set"}, "E401"),
        ({"products": {"chronic_disease": "block"}}, "E401"),
        ({"examples": [{"expect": "pass", "row": {"sbp_mmhg": 1}}, {"expect": "skip", "row": {"sbp_mmhg": None}}]}, "E401"),
        ({"surprise": 1}, "E401"),
        ({"condition": "sbp_mmhg > :unknown"}, "E402"),
        ({"fields": ["sbp"]}, "E402"),
        ({"table": "htn_visits"}, "E402"),
        ({"needs": ["TST-404"]}, "E402"),
        ({"products": {"no_such_product": "show"}}, "E402"),
        ({"id": "HTN-001"}, "E402"),
        ({"kind": "set", "query": "nowhere"}, "E402"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_refused_with_its_number_and_file(
    tmp_path: Path, changes: dict[str, Any], number: str
) -> None:
    with pytest.raises(MedlakeError) as error:
        loaded(tmp_path, domain(**changes))
    assert error.value.code == number
    assert "tst.yaml" in error.value.place


def test_the_same_id_twice_is_refused(tmp_path: Path) -> None:
    node = domain()
    node["rules"].append(node["rules"][0])
    with pytest.raises(MedlakeError) as error:
        loaded(tmp_path, node)
    assert error.value.code == "E402"


@pytest.mark.parametrize("text", ["rules: [", "\x00", "just words", ""])
def test_a_file_that_is_no_rule_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tst.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(MedlakeError) as error:
        load(tmp_path)
    assert error.value.code == "E401"


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tst.yaml").write_bytes("domain: TST\ndomain_zh: 测试".encode("gb18030"))
    with pytest.raises(MedlakeError) as error:
        load(tmp_path)
    assert error.value.code == "E401"


def test_a_parameter_takes_the_value_of_its_day() -> None:
    param = Param("x", ((date(2017, 1, 1), 1), (date(2025, 1, 1), 2)))
    assert [param.at(date(y, 6, 1)) for y in (2016, 2017, 2024, 2025)] == [None, 1, 1, 2]


def test_parameters_are_bound_by_the_date_of_service_or_the_data_date() -> None:
    params = {"limit": Param("limit", ((date(2017, 1, 1), 1), (date(2025, 1, 1), 2)))}
    assert sql.bind("a > :limit", params, DAY) == "a > (2)"
    bound = sql.bind("a > :limit", params, DAY, "seen_on")
    assert (
        bound
        == "a > (CASE WHEN seen_on >= DATE '2025-01-01' THEN 2 WHEN seen_on >= DATE '2017-01-01' THEN 1 END)"
    )


def test_casts_and_times_are_no_parameters() -> None:
    assert (
        sql.bind("a::int > 3 and t = '12:30' and b < :as_of", {}, DAY)
        == "a::int > 3 and t = '12:30' and b < DATE '2026-11-20'"
    )


def test_literals_are_quoted() -> None:
    assert sql.text("O'Neil") == "'O''Neil'"
    assert sql.name('a"b') == '"a""b"'


def test_rules_come_after_those_they_need() -> None:
    book = rulebook()
    for table in book.tables:
        order = [r.id for r in book.of_table(table)]
        for rule in book.of_table(table):
            for needed in book.prerequisites(rule, table):
                assert order.index(needed.id) < order.index(rule.id)


def test_prerequisites_reach_through_others() -> None:
    book = rulebook()
    assert [r.id for r in book.prerequisites(book.rule("ARC-004"), "ph_archive")] == ["ARC-002", "ARC-001"]


def test_a_rule_observes_for_thirty_days(tmp_path: Path) -> None:
    rule = loaded(tmp_path, domain(introduced_on="2026-11-01")).rules[0]
    assert rule.observing(date(2026, 11, 30))
    assert not rule.observing(date(2026, 12, 1))


def test_work_not_done_never_leaves_an_indicator() -> None:
    """Excluding the patients who were not followed up would raise the rate they should lower."""
    for rule_id in ("HTN-002", "HTN-003", "HTN-006", "HTN-007", "DM-002", "DM-004", "DM-013"):
        assert all(set(t.products.values()) == {"show"} for t in rulebook().rule(rule_id).targets)


def test_yaml_dates_stay_text(tmp_path: Path) -> None:
    text = (RULES_DIR / "htn.yaml").read_text("utf-8")
    (tmp_path / "htn.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "exm.yaml").write_text((RULES_DIR / "exm.yaml").read_text("utf-8"), encoding="utf-8")
    (tmp_path / "dm.yaml").write_text((RULES_DIR / "dm.yaml").read_text("utf-8"), encoding="utf-8")
    row = load(tmp_path).rule("HTN-001").examples[0]["row"]
    assert row["birth_date"] == "1990-06-15"
