"""Pages of export, report and research over a real small lake: one press to a file, a month filled, a cohort saved."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import date
from io import BytesIO
from typing import Any

import openpyxl
import pytest
from starlette.testclient import TestClient

import products
from tests import fixtures_silver as silver
from tests import products_world as world
from tests import report_book

MONTH = "2026-02"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    from lake.settings import settings

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(tmp_path_factory.mktemp("leaving") / "var"))
        settings.cache_clear()
        world.day(world.DAY_1)
        products.publish(world.DAY_1)
        keys = [f"E{n:04d}" for n in range(12)]
        rows: dict[str, list[dict[str, Any]]] = {
            "person_identifier": [silver.link(k, "public_health", "C201", f"A{k}") for k in keys],
            "person": [silver.resident(k, name=f"王{k}") for k in keys],
            "htn_card": [{"card_id": k, "archive_id": f"A{k}", "carded_on": date(2026, 2, 3)} for k in keys],
            "htn_visit": [
                {"visit_id": k, "archive_id": f"A{k}", "visited_on": date(2026, 2, 4)} for k in keys
            ],
        }
        silver.write(world.DAY_2, rows)
        from portal import create_app

        with TestClient(create_app(), base_url="http://127.0.0.1") as made:
            yield made
    settings.cache_clear()


def words() -> dict[str, str]:
    import json

    from portal import accounts

    return dict(json.loads(accounts.path().read_text("utf-8")))


def get(client: TestClient, user: str, path: str, **more: Any) -> Any:
    return client.get(path, auth=(user, words()[user]), **more)


def post(client: TestClient, user: str, path: str, data: dict[str, Any], **more: Any) -> Any:
    from portal import csrf

    return client.post(
        path, data={"csrf": csrf.make(f"basic:{user}")} | data, auth=(user, words()[user]), **more
    )


def test_one_press_gives_a_file_that_goes_on_where_it_broke(client: TestClient) -> None:
    assert "高血压患者健康管理名册" in get(client, "officer", "/exports").text
    page = post(client, "officer", "/exports/run", {"template": "hypertension"})
    job = re.search(r"/exports/files/(X[0-9a-f]+)", page.text)
    assert page.status_code == 200 and job
    path = f"/exports/files/{job[1]}"
    whole = get(client, "officer", path)
    rows = list(openpyxl.load_workbook(BytesIO(whole.content)).worksheets[0].iter_rows(values_only=True))
    assert len(rows) == 13
    part = get(client, "officer", path, headers={"range": "bytes=100-"})
    assert part.status_code == 206 and part.content == whole.content[100:]
    assert get(client, "steward", path).status_code == 404
    assert get(client, "researcher", "/exports").status_code == 403


def test_a_template_is_ticked_approved_by_another_and_run(client: TestClient) -> None:
    assert "建卡日期" in get(client, "officer", "/exports/new?table=htn_card").text
    assert get(client, "officer", "/exports/new?table=x'--").status_code == 404
    node = {
        "table": "htn_card",
        "name": "mine",
        "title_zh": "我的名册",
        "columns": ["person.name", "carded_on"],
    }
    post(client, "officer", "/exports/new", node)
    refused = post(client, "officer", "/exports/run", {"template": "mine"})
    assert refused.status_code == 400 and "E615" not in refused.text and "还没有批准" in refused.text
    post(client, "officer", "/exports/decide", {"template": "mine", "version": 1, "agree": "yes"})
    assert post(client, "officer", "/exports/run", {"template": "mine"}).status_code == 400
    post(client, "steward", "/exports/decide", {"template": "mine", "version": 1, "agree": "yes"})
    assert "/exports/files/" in post(client, "officer", "/exports/run", {"template": "mine"}).text


@pytest.mark.parametrize(
    "bad",
    [{"template": "../../etc/passwd"}, {"template": "hypertension", "org": "H999"}, {"template": "hypertension", "format": "exe"},
     {"template": "hypertension", "first": "2026-02-31"}, {"template": "hypertension", "org": "C201' OR '1'='1"}],
)  # fmt: skip
def test_what_is_not_offered_is_refused(client: TestClient, bad: dict[str, str]) -> None:
    assert post(client, "officer", "/exports/run", bad).status_code == 400


def test_a_doctor_exports_the_own_institution_only(client: TestClient) -> None:
    assert (
        post(client, "doctor", "/exports/run", {"template": "hypertension", "org": "C217"}).status_code == 400
    )
    assert post(client, "doctor", "/exports/run", {"template": "hypertension"}).status_code == 200


def test_a_roster_repeats_each_month_until_it_is_stopped(client: TestClient) -> None:
    form = {"template": "hypertension", "org": "C201", "format": "pdf", "day_of_month": "3"}
    page = post(client, "officer", "/exports/schedule", form)
    found = re.search(r'name="schedule" value="(S[0-9a-f]+)"', page.text)
    assert page.status_code == 200 and found and "尚未到期" in page.text
    assert post(client, "officer", "/exports/schedule", form | {"day_of_month": "31"}).status_code == 400
    assert post(client, "doctor", "/exports/schedule", form | {"org": "C217"}).status_code == 400
    stop = {"schedule": found[1]}
    assert post(client, "steward", "/exports/schedule/stop", stop).status_code == 400, "it is another's"
    assert found[1] not in post(client, "officer", "/exports/schedule/stop", stop).text


def test_a_county_workbook_is_bound_filled_opened_and_submitted(client: TestClient) -> None:
    import json

    files = {"book": ("县报表.xlsx", report_book.blank(), "application/octet-stream")}
    page = post(client, "officer", "/reports/upload", {}, files=files)
    digest = re.search(r'name="digest" value="([0-9a-f]{64})"', page.text)
    assert digest and 'data-cell="C4"' in page.text
    node = report_book.bindings()
    bound = post(client, "officer", "/reports/bind", {"digest": digest[1], "title_zh": "慢病月报",
                                                     "cells": json.dumps(node["cells"]),
                                                     "checks": "\n".join(node["checks"])})  # fmt: skip
    layout = re.search(r"/reports/(L[0-9a-f]{12})/fill", bound.text)
    assert layout
    base = f"/reports/{layout[1]}"
    filled = html.unescape(post(client, "officer", f"{base}/fill", {"month": MONTH, "org": "H001"}).text)
    assert "项校验全部通过" in filled
    book = openpyxl.load_workbook(BytesIO(get(client, "officer", f"{base}/{MONTH}/H001/file").content))
    assert [book["表1 慢病"][c].value for c in ("C4", "C5", "C6", "C7")] == [12, 12, 12, "=SUM(C5:C6)"]
    drilled = get(client, "officer", f"{base}/{MONTH}/H001/cell", params={"cell": "表1 慢病!C6"}).text
    assert "王E0003" in drilled
    assert "已报送" in post(client, "officer", f"{base}/submit", {"month": MONTH, "org": "H001"}).text
    again = post(client, "officer", f"{base}/fill", {"month": MONTH, "org": "H001"})
    assert again.status_code == 400 and "已报送" in again.text
    assert "没有差异" in post(client, "officer", f"{base}/differences", {"month": MONTH, "org": "H001"}).text
    assert get(client, "doctor", "/reports").status_code == 403


def test_a_bomb_is_refused_on_the_page(client: TestClient) -> None:
    files = {"book": ("x.xlsx", b"PK\x03\x04 not really", "application/octet-stream")}
    answer = post(client, "officer", "/reports/upload", {}, files=files)
    assert answer.status_code == 400 and "被拒绝" in answer.text


def test_a_researcher_describes_counts_and_saves(client: TestClient) -> None:
    form = {
        "cohort": "htn_all",
        "title_zh": "<b>在管高血压</b>",
        "htn": "any",
        "age_min": "35",
        "group1": "sex",
    }
    told = post(client, "researcher", "/research", form | {"act": "describe"}).text
    assert "35 岁及以上的健在居民" in told and "<b>在管" not in told
    kept = post(client, "researcher", "/research", form | {"act": "save"}).text
    assert "第 1 版" in kept and "数据日期" in kept
    assert "数据日期" in get(client, "researcher", "/research/htn_all").text
    empty = post(client, "researcher", "/research", {"act": "run", "cohort": "x", "title_zh": "x"})
    assert empty.status_code == 400 and 'role="alert"' in empty.text
    assert get(client, "officer", "/research").status_code == 403


def test_a_form_without_its_token_changes_nothing(client: TestClient) -> None:
    answer = client.post(
        "/exports/run", data={"template": "hypertension"}, auth=("officer", words()["officer"])
    )
    assert answer.status_code == 419
