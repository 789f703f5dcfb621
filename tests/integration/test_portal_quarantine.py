"""Quarantine and ledger pages: what was refused and why, values by the policy, replay after a mend, drill to the file."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

import ingestion
from lake import audit, contracts
from tests.ingestion_world import DAY, NEXT, drop, patient_csv
from tests.portal_asked import Asked, figures, home_of, portal

WHERE = "/quarantine/records?feed=his&table=patient&org=C201&code=E211"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """Two patients with a birth date that is none, one good one; a diagnosis without its code; a file nobody can read;
    another institution's refusal; the good file a second time."""
    with home_of(tmp_path_factory.mktemp("quarantine")):
        good, bad = "P1,王小东,1,1958-03-12,2026-11-18 08:00:00", "P2,李大明,1,{},2026-11-18 08:00:00"
        drop("his", "C201", "patient_1.csv", patient_csv(good, bad.format("昨天"), bad.format("前天")))
        drop("his", "C202", "patient_1.csv", patient_csv("P7,赵四海,1,大约,2026-11-18 08:00:00"))
        drop(
            "his",
            "C201",
            "diagnosis_1.csv",
            b"ENCOUNTER_ID,SEQ,ICD10_CODE,DX_AT\nE1,1,,2026-11-18 08:00:00\n",
        )
        drop("his", "C201", "unknown_1.csv", b"a,b\n1,2\n")
        ingestion.ingest_feed("his", DAY)
        drop("his", "C201", "patient_2.csv", patient_csv(good), NEXT)
        ingestion.ingest_feed("his", NEXT)
        with portal() as asked:
            yield asked


def test_what_waits_is_listed_by_reason_without_a_value(client: Asked) -> None:
    page = client.text("steward", "/quarantine")
    assert figures(page)["隔离记录"] == "5" and figures(page)["涉及机构"] == "2"
    assert all(code in page for code in ("E210", "E211", "整个文件"))
    assert not re.search("李大明|赵四海|昨天|前天|大约", page)
    assert (
        "C202"
        not in client.text("steward", "/quarantine?org=C201&feed=his")
        .split("<form", 1)[1]
        .split("原因与处理", 1)[1]
    )
    assert "没有被隔离的记录" in client.text("steward", "/quarantine?code=E999")
    for user in ("doctor", "officer", "researcher"):
        assert client.get(user, "/quarantine").status_code == 403


def test_a_record_shows_what_the_purpose_opens(client: Asked) -> None:
    before = audit.verify()
    masked = client.text("steward", WHERE)
    assert "李**" in masked and "李大明" not in masked
    assert "patient_1.csv" in masked and "第 3 行" in masked and "出生日期" in masked
    clear = client.text("steward", WHERE + "&purpose=correction")
    assert "李大明" in clear and "昨天" in clear
    assert audit.verify() == before + 2
    for path in (
        WHERE.replace("C201", "C299"),
        WHERE.replace("patient", "x'--"),
        WHERE.replace("his", "nothing"),
    ):
        assert client.get("steward", path).status_code == 404


def test_after_a_mend_a_press_runs_them_again(client: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    table = contracts.contract("his").tables["diagnosis"]
    fields = tuple(f if f.name != "icd10_code" else replace(f, required=False) for f in table.fields)
    monkeypatch.setitem(contracts.contract("his").tables, "diagnosis", replace(table, fields=fields))
    form = {"feed": "his", "table": "diagnosis", "org": "C201", "code": "E210"}
    page = html.unescape(client.post("steward", "/quarantine/replay", form).text)
    line = re.sub(r"<[^>]+>", "", page[page.index("最近重放</h2>") :])
    assert "重放 1 = 入库 1 + 重复 0 + 仍隔离 0" in line
    assert "E210" not in client.text("steward", "/quarantine").split("<tbody>", 1)[1]
    assert client.post("steward", "/quarantine/replay", form | {"feed": "none"}).status_code == 404
    assert client.post("steward", "/quarantine/replay", form | {"org": ""}).status_code == 422
    assert client.post("doctor", "/quarantine/replay", form).status_code == 403


def test_the_ledger_is_filtered_balances_and_goes_down_to_the_file(client: Asked) -> None:
    def told(path: str) -> dict[str, str]:
        return figures(client.text("executive", path))

    whole = told("/ledger")
    assert int(whole["接收"]) == sum(int(whole[n]) for n in ("入库", "重复", "隔离"))
    second = told(f"/ledger?first={NEXT}&last={NEXT}")
    assert (second["接收"], second["重复"]) == ("1", "1")
    assert told("/ledger?org=C202")["接收"] == "1" == told("/ledger?org=C202")["隔离"]
    assert "没有符合条件的批次" in client.text("executive", "/ledger?feed=lis")
    assert "没有符合条件的批次" in client.text("executive", "/ledger?first=nonsense&state=failed&org='--")
    links = re.findall(
        r'href="(/ledger/batches\?[^"]+)"', client.text("executive", f"/ledger?first={DAY}&last={DAY}")
    )
    batch = re.findall(r'href="(/ledger/batches/[^"?]+)"', client.text("executive", links[0]))
    page = client.text("executive", batch[-1])
    assert "his/2026-11-18/C201/patient_1.csv" in page and "看隔离原因" not in page
    assert "看隔离原因" in client.text("steward", batch[-1])
    assert client.get("executive", "/ledger/batches/none").status_code == 404
