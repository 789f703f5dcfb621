"""The day's check on a real lake: findings live and die, gates close, the judge counts, a kill leaves no half."""

from __future__ import annotations

import html.parser
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

import quality
from lake import ledger, runs, tables
from lake.errors import MedlakeError
from quality import daily, page
from quality.rule import rulebook
from quality.shapes import derived
from tests import quality_world as world

pytestmark = pytest.mark.usefixtures("lake_home")


def rows(table: str, version: int | None = None) -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        sql = f"SELECT * FROM {tables.scan_sql(table, version)} ORDER BY ALL"
        found: list[dict[str, Any]] = connection.execute(sql).to_arrow_table().to_pylist()
    return found


def settled() -> list[dict[str, Any]]:
    """Findings of rules that are past their observation."""
    return [r for r in rows("quality/finding") if r["state"] != "observing"]


def states(rule_id: str) -> dict[str, str]:
    return {r["record_key"]: r["state"] for r in rows("quality/finding") if r["rule_id"] == rule_id}


def visit(**values: Any) -> dict[str, Any]:
    """A clean follow-up; V1 of A1 in C201."""
    base = {
        "visit_id": "V1", "archive_id": "A1", "org_code": "C201", "visited_on": date(2026, 10, 8), "visit_way_code": "1",
        "sbp_mmhg": 128.0, "dbp_mmhg": 80.0, "visit_class_code": "1", "is_referred": False,
        "next_visit_on": date(2027, 1, 5), "recorded_at": datetime(2026, 10, 8, 2, tzinfo=UTC), "doctor_id": "D7",
        "source_file": "htn_visit_C201.xlsx", "source_sheet": "10月", "source_line": 17,
    }  # fmt: skip
    return base | values


def archive(**values: Any) -> dict[str, Any]:
    base = {
        "archive_id": "A1", "org_code": "C201", "name": "王建国", "birth_date": date(1960, 3, 1), "status_code": "0",
        "is_dead": False, "source_updated_at": datetime(2026, 1, 1, tzinfo=UTC),
    }  # fmt: skip
    return base | values


def small_city(visits: list[dict[str, Any]]) -> None:
    world.write("ph_archive", [archive(), archive(archive_id="A2", org_code="C202")])
    world.write("htn_visit", visits)


def test_a_clean_city_has_no_finding_and_all_gates_open() -> None:
    world.city(200, faults=False)
    world.deliver(world.DAY_1)
    result = quality.check(world.DAY_1)
    assert (result["excluded"], result["gate"]) == (0, "open")
    assert result["evaluated"] > 5000
    assert settled() == []


def test_every_failing_row_is_a_finding_with_its_place() -> None:
    swapped = visit(
        visit_id="V2",
        visited_on=visit()["visited_on"],
        sbp_mmhg=80.0,
        dbp_mmhg=128.0,
        archive_id="A2",
        org_code="C202",
    )
    small_city([visit(), swapped])
    world.deliver(world.DAY_1)
    quality.check(world.DAY_1)
    (found,) = settled()
    assert found["rule_id"] == "EXM-003"
    assert (found["org_code"], found["table_name"], found["record_key"], found["doctor_id"]) == (
        "C202",
        "htn_visit",
        "V2",
        "D7",
    )
    assert (found["source_file"], found["source_sheet"], found["source_line"]) == (
        "htn_visit_C201.xlsx",
        "10月",
        17,
    )
    assert (found["severity"], found["state"], found["effect"], found["products"]) == (
        "error",
        "open",
        "exclude",
        "chronic_disease",
    )
    assert found["observed"] == '{"sbp_mmhg":80.0,"dbp_mmhg":128.0}'
    assert "80/128" in found["message_zh"]
    assert found["remedy_zh"]
    assert rows("quality/exclusion") == [
        {"product": "chronic_disease", "table_name": "htn_visit", "org_code": "C202", "record_key": "V2"}
    ]


def test_checking_a_date_again_changes_nothing() -> None:
    world.city(200)
    world.deliver(world.DAY_1)
    names = ("finding", "exclusion", "scorecard", "gate", "rule", "validation")
    first = quality.check(world.DAY_1)
    before = {n: rows(f"quality/{n}") for n in names}
    second = quality.check(world.DAY_1)
    assert {n: rows(f"quality/{n}") for n in names} == before
    timed = {"seconds", "seconds_engine", "stages"}
    assert {k: v for k, v in first.items() if k not in timed} == {
        k: v for k, v in second.items() if k not in timed
    }
    assert first["findings"] > 0


def test_a_finding_closes_when_mended_and_reopens_when_it_comes_back() -> None:
    small_city([visit(sbp_mmhg=170.0)])
    world.deliver(world.DAY_1)
    quality.check(world.DAY_1)
    first = [r for r in rows("quality/finding") if r["rule_id"] == "HTN-004"]
    assert states("HTN-004") == {"V1": "open"}

    small_city([visit(visit_class_code="2", sbp_mmhg=170.0, next_visit_on=visit()["visited_on"])])
    world.deliver(world.DAY_2)
    quality.check(world.DAY_2)
    assert states("HTN-004") == {"V1": "closed"}
    assert states("HTN-009") == {"V1": "open"}

    small_city([visit(sbp_mmhg=172.0)])
    world.deliver(world.DAY_3)
    quality.check(world.DAY_3)
    (again,) = [r for r in rows("quality/finding") if r["rule_id"] == "HTN-004"]
    assert (again["state"], again["reopened"], again["closed_on"]) == ("open", 1, None)
    assert (again["first_seen_on"], again["last_seen_on"]) == (world.DAY_1, None)  # it is found still
    assert again["finding_id"] == first[0]["finding_id"]
    assert '"sbp_mmhg":172.0' in again["observed"]


def test_a_finding_closes_when_its_record_is_gone() -> None:
    small_city([visit(sbp_mmhg=170.0), visit(visit_id="V9", archive_id="A2", org_code="C202")])
    world.deliver(world.DAY_1)
    quality.check(world.DAY_1)
    small_city([visit(visit_id="V9", archive_id="A2", org_code="C202")])
    world.deliver(world.DAY_2)
    quality.check(world.DAY_2)
    (found,) = [r for r in settled() if r["rule_id"] == "HTN-004"]
    assert (found["state"], found["closed_on"], found["source_line"]) == ("closed", world.DAY_2, 17)
    assert rows("quality/exclusion") == []


def test_an_older_date_checked_again_takes_its_own_past() -> None:
    """The state follows from the run before the date, not from what stands in the table now."""
    small_city([visit(sbp_mmhg=170.0)])
    world.deliver(world.DAY_1)
    quality.check(world.DAY_1)
    world.deliver(world.DAY_2)
    quality.check(world.DAY_2)
    quality.check(world.DAY_1)
    kept = rows("quality/finding", runs.get_run(world.DAY_1).versions["quality/finding"])
    (found,) = [r for r in kept if r["rule_id"] == "HTN-004"]
    assert (found["first_seen_on"], found["last_seen_on"]) == (world.DAY_1, None)
    assert {r["data_date"] for r in rows("quality/scorecard")} == {world.DAY_1, world.DAY_2}


def test_too_large_a_share_closes_the_gate_of_its_product_alone() -> None:
    bad = [visit(visit_id=f"V{i}", archive_id=f"A{i}", sbp_mmhg=170.0) for i in range(3)]
    good = [visit(visit_id=f"G{i}", archive_id=f"B{i}") for i in range(7)]
    world.write("ph_archive", [archive(archive_id=r["archive_id"]) for r in (*bad, *good)])
    world.write("htn_visit", [*bad, *good])
    world.deliver(world.DAY_1)
    result = quality.check(world.DAY_1)
    assert result["gate"] == "closed"
    assert [p for p, g in result["gates"].items() if g == "closed"] == ["chronic_disease"]
    (gate,) = [g for g in rows("quality/gate") if g["product"] == "chronic_disease"]
    assert (gate["excluded"], gate["eligible"], gate["excluded_pct"]) == (3, 10, 30.0)
    assert "HTN-004" in gate["reason_zh"]
    assert "HTN-004" in gate["reason_en"]


def test_a_feed_that_did_not_arrive_closes_its_products() -> None:
    world.city(60, faults=False)
    world.deliver(world.DAY_1, feeds=[f for f in world.FEEDS if f != "lis"])
    result = quality.check(world.DAY_1)
    assert [p for p, g in result["gates"].items() if g == "closed"] == ["laboratory"]


def test_doubled_keys_close_the_products_of_the_feed() -> None:
    small_city([visit(), visit()])
    world.deliver(world.DAY_1)
    result = quality.check(world.DAY_1)
    assert result["gates"]["chronic_disease"] == "closed"
    (gate,) = [g for g in rows("quality/gate") if g["product"] == "chronic_disease"]
    assert "INT-002" in gate["reason_zh"]
    assert "htn_visit" in gate["reason_en"]


def test_a_day_without_any_delivered_table_runs_too() -> None:
    world.deliver(world.DAY_1, received=0)
    result = quality.check(world.DAY_1)
    assert (result["rows"], result["findings"], result["gate"]) == (0, 0, "open")


def test_a_date_without_a_run_is_refused() -> None:
    with pytest.raises(MedlakeError) as error:
        quality.check(world.DAY_1)
    assert error.value.code == "E106"


def test_a_new_rule_observes_before_it_takes_effect() -> None:
    from dataclasses import replace

    small_city([visit(sbp_mmhg=170.0), visit(visit_id="V2", archive_id="A2", org_code="C202")])
    world.deliver(world.DAY_1)
    book = rulebook()
    young = replace(
        book,
        rules=tuple(replace(r, introduced_on=world.DAY_1) if r.id == "HTN-004" else r for r in book.rules),
    )
    daily.check(world.DAY_1, young)
    assert states("HTN-004") == {"V1": "observing"}
    assert rows("quality/exclusion") == []
    assert all(c["findings"] == 0 for c in rows("quality/scorecard"))
    world.deliver(world.DAY_2)
    daily.check(world.DAY_2, book)
    assert states("HTN-004") == {"V1": "open"}


def test_great_expectations_counts_what_the_engine_counts() -> None:
    world.city(300)
    world.deliver(world.DAY_1)
    quality.check(world.DAY_1)
    found: dict[tuple[str, str], int] = {}
    for r in rows("quality/finding"):
        found[r["table_name"], r["rule_id"]] = found.get((r["table_name"], r["rule_id"]), 0) + 1
    judged = {(v["suite"], v["rule_id"]): v for v in rows("quality/validation") if v["suite"] != "integrity"}
    there = {t for t, _ in judged}
    assert there >= {"ph_archive", "htn_visit", "dm_visit", "ph_exam", "htn_card", "dm_card"}
    assert set(judged) == {(t.table, r.id) for r in rulebook().rules for t in r.targets if t.table in there}
    for key, verdict in judged.items():
        assert verdict["expectation"] == "expect_column_values_to_be_in_set"
        assert verdict["failed"] == found.get(key, 0), key
        if key[0] not in derived():
            assert verdict["rows"] == tables.row_count(f"silver/{key[0]}")
        assert 0 <= verdict["failed"] <= verdict["evaluated"] <= verdict["rows"]


def test_a_judge_that_disagrees_fails_the_run_and_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    small_city([visit(sbp_mmhg=170.0)])
    world.deliver(world.DAY_1)
    right = daily._counts

    def wrong(connection: duckdb.DuckDBPyConnection) -> Mapping[tuple[str, str], tuple[int, int]]:
        return {**right(connection), ("htn_visit", "HTN-004"): (1, 0)}

    monkeypatch.setattr(daily, "_counts", wrong)
    with pytest.raises(MedlakeError) as error:
        quality.check(world.DAY_1)
    assert error.value.code == "E404"
    assert "HTN-004" in error.value.zh
    assert not tables.exists("quality/finding")
    assert "quality/finding" not in runs.get_run(world.DAY_1).versions


def test_a_rule_that_does_not_run_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    small_city([visit()])
    world.deliver(world.DAY_1)
    rule = rulebook().rule("HTN-009")
    broken = replace(rule, targets=(replace(rule.targets[0], condition="no_such_column > 3"),))
    book = replace(rulebook(), rules=(broken,))
    with pytest.raises(MedlakeError) as error:
        daily.check(world.DAY_1, book)
    assert error.value.code == "E403"
    assert "htn_visit" in error.value.zh


@pytest.mark.parametrize("point", ["quality.write.finding", "quality.write.gate", "quality.recorded"])
def test_a_killed_check_leaves_nothing_that_a_second_run_does_not_mend(lake_home: Path, point: str) -> None:
    world.city(60)
    world.deliver(world.DAY_1)
    code = f"import datetime, quality; quality.check(datetime.date({world.DAY_1:%Y, %-m, %-d}))"
    env = os.environ | {"MEDLAKE_HOME": str(lake_home), "MEDLAKE_KILL_AT": point}
    killed = subprocess.run([sys.executable, "-c", code], env=env, check=False, capture_output=True)
    assert killed.returncode == -9
    if point != "quality.recorded":
        assert "quality/gate" not in runs.get_run(world.DAY_1).versions
        assert "quality/gate" not in ledger.visible("quality/")
    quality.check(world.DAY_1)
    names = ("finding", "exclusion", "scorecard", "gate", "rule", "validation")
    mended = {n: rows(f"quality/{n}") for n in names}
    quality.check(world.DAY_1)
    assert {n: rows(f"quality/{n}") for n in names} == mended
    assert len({(r["data_date"], r["product"]) for r in mended["gate"]}) == len(mended["gate"])


class Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.local: set[str] = set()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.local |= {str(value) for name, value in attrs if name in ("href", "src")}


def test_the_page_is_whole_local_without_script_and_without_persons() -> None:
    world.city(300)
    world.deliver(world.DAY_1)
    quality.check(world.DAY_1)
    folder = page.page_dir()
    pages = sorted(folder.glob("*.html"))
    assert {"index.html", "table-htn_visit.html", "rule-HTN-004.html"} <= {p.name for p in pages}
    keys = {r["record_key"] for r in rows("quality/finding")} | {
        r["source_file"] for r in rows("quality/finding")
    }
    for path in pages:
        text = path.read_text("utf-8")
        seen = Links()
        seen.feed(text)
        files = {link: link.partition("#")[0] or path.name for link in seen.local}
        assert not {link for link, file in files.items() if not (folder / file).is_file()}, path.name
        assert not seen.tags & {"script", "iframe", "object", "style"}
        assert not {a for a in seen.attributes if a.startswith("on") or a == "style"}
        assert not re.search(r"https?://", text)
        assert not [k for k in keys if k in text]
    index = (folder / "index.html").read_text("utf-8")
    assert "全部数据产品的质控门开放" in index
    assert f"{len(rows('quality/finding')):,}" in index


def test_the_page_shows_a_closed_gate_with_its_reason() -> None:
    world.city(60, faults=False)
    world.deliver(world.DAY_1, feeds=[f for f in world.FEEDS if f != "public_health"])
    quality.check(world.DAY_1)
    index = (page.page_dir() / "index.html").read_text("utf-8")
    assert "3 个数据产品的质控门关闭" in index
    assert "INT-004" in index


def test_the_page_of_an_unchecked_lake_says_so() -> None:
    assert "还没有完成过质控" in page.render().read_text("utf-8")
    world.deliver(world.DAY_1)
    assert "2026-11-18 的质控尚未完成" in page.render(world.DAY_1).read_text("utf-8")


def test_a_check_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hospitals are offline, and the judge's library has known telemetry."""
    asked: list[object] = []

    def refuse(self: socket.socket, address: object) -> None:
        asked.append(address)
        raise OSError("offline")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    small_city([visit()])
    world.deliver(world.DAY_1)
    quality.check(world.DAY_1)
    assert asked == []


def test_evaluation_counts_what_was_found_missed_and_unexplained(lake_home: Path) -> None:
    from quality import evaluation

    with pytest.raises(MedlakeError) as error:
        quality.evaluate()
    assert error.value.code == "E406"
    small_city(
        [
            visit(sbp_mmhg=170.0),
            visit(visit_id="V2", archive_id="A2", org_code="C202", sbp_mmhg=80.0, dbp_mmhg=128.0),
        ]
    )
    world.deliver(world.DAY_1)
    quality.check(world.DAY_1)
    (lake_home / "truth").mkdir()
    faults = "('HTN-004', 'C201', 'V1'), ('HTN-009', 'C201', 'V1'), (NULL, 'C201', 'V2')"
    fault = f"(VALUES {faults}) AS f(rule_id, org_code, record_key)"
    duckdb.sql(
        f"SELECT DATE '{world.DAY_1}' AS data_date, 'htn_visit' AS table_name, * FROM {fault}"
    ).write_parquet(str(lake_home / "truth" / "fault.parquet"))
    result = quality.evaluate()
    assert (result["recall"], result["precision"], result["rules_hit"], result["faults"]) == (0.5, 0.5, 1, 2)
    by = {r["rule_id"]: (r["found"], r["missed"], r["unexplained"]) for r in result["by_rule"]}
    assert by == {"HTN-004": (1, 0, 0), "HTN-009": (0, 1, 0), "EXM-003": (0, 0, 1)}
    assert "HTN-004" in evaluation.table_text(result)
