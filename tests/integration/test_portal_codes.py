"""Unmapped codes as pages: inbox with candidates, a draft with its effect, confirmed, applied to rows already in."""

from __future__ import annotations

import html
from collections.abc import Iterator

import pytest

import ingestion
from tests.ingestion_world import DAY, content, drop, patient_csv
from tests.portal_asked import Asked, figures, home_of, portal

DRAFT = {"system": "sex", "source": "男的", "code": "1", "org": "H101", "note": "电话核实"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with home_of(tmp_path_factory.mktemp("codes")):
        rows = [f"P{i},王,男的,1958-03-12,2026-11-18 08:00:00" for i in range(3)]
        drop("his", "H101", "patient_1.csv", patient_csv(*rows))
        drop("his", "C201", "patient_1.csv", patient_csv("P1,李,雌,,2026-11-18 08:00:00", rows[0]))
        ingestion.ingest_feed("his", DAY)
        with portal() as asked:
            yield asked


def sexes() -> list[tuple[str, str]]:
    return [(o, c) for o, c in content("silver/patient", "org_code, sex_code")]


def test_the_inbox_names_candidates_and_who_writes_so(client: Asked) -> None:
    page = client.text("steward", "/codes")
    assert figures(page)["写法"] == "2" and figures(page)["涉及记录"] == "5"
    assert "男的" in page and "1 男" in page and "性别" in page
    assert "雌" not in client.text("steward", "/codes?org=H101").split("<tbody>")[1]
    one = client.text("steward", "/codes/map?system=sex&source=男的")
    assert "H101" in one and "C201" in one
    assert client.get("steward", "/codes/map?system=sex&source=没有").status_code == 404
    assert client.get("officer", "/codes").status_code == 403


def test_a_draft_says_what_it_would_do_and_changes_nothing(client: Asked) -> None:
    page = html.unescape(client.post("steward", "/codes/map", DRAFT).text)
    assert "核对后确认" in page and "<b>1</b> 家机构的 <b>3</b> 条记录" in page
    assert figures(client.text("steward", "/codes"))["写法"] == "2"


@pytest.mark.parametrize(
    ("wrong", "code"),
    [({"code": "77"}, "E260"), ({"source": "没有"}, "E676"), ({"org": "H999"}, "E681"), ({"valid_from": "昨天"}, "E634"),
     ({"feed": "none"}, "E102")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(client: Asked, wrong: dict[str, str], code: str) -> None:
    answer = client.post("steward", "/codes/map", DRAFT | wrong | {"act": "accept"})
    assert answer.status_code == 400 and code in answer.text
    assert figures(client.text("steward", "/codes"))["写法"] == "2"


def test_confirmed_it_counts_and_is_brought_to_rows_already_in(client: Asked) -> None:
    done = html.unescape(client.post("steward", "/codes/map", DRAFT | {"act": "accept"}).text)
    assert "已记下" in done
    again = client.post("steward", "/codes/map", DRAFT | {"act": "accept", "org": "H101"})
    assert again.status_code == 200, "the other institution still writes so: the code is in the inbox"
    assert figures(client.text("steward", "/codes"))["涉及记录"] == "2"
    told = client.text("steward", "/codes/history")
    assert "电话核实" in told and "steward" in told and "H101" in told
    assert ("H101", "男的") in sexes()
    after = html.unescape(client.post("steward", "/codes/reconform", {"system": "sex"}).text)
    assert "已完成" in after
    assert sexes() == [("C201", "男的"), ("C201", "雌")] + [("H101", "1")] * 3
    assert "100.0%" in client.text("steward", "/codes/coverage?system=sex")


def test_a_code_of_a_field_that_is_closed_to_the_person_is_counted_only(
    client: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingestion import codes

    shown = codes.inbox()
    monkeypatch.setattr(
        codes, "inbox", lambda *a: [r | {"tables": "public_health.smi_visit.sleep_code"} for r in shown]
    )
    page = client.text("steward", "/codes")
    assert "雌" not in page and "另有" in page
    assert client.get("steward", "/codes/map?system=sex&source=雌").status_code == 404
