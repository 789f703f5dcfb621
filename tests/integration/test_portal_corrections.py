"""The correction pages over a real small lake: workbook out, mended, handed in, told cell by cell, settled by the source."""

from __future__ import annotations

import html
import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from openpyxl import load_workbook

from lake import audit
from tests import corrections_world as world
from tests.portal_asked import Asked, figures, home_of, portal, word


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with home_of(tmp_path_factory.mktemp("corrections")):
        world.first_day()
        with portal() as asked:
            yield asked


def book_of(client: Asked, user: str = "doctor", org: str = "C201") -> bytes:
    client.post(user, "/corrections/book", {"org": org})
    answer = client.get(user, f"/corrections/book/{org}")
    assert answer.status_code == 200
    return bytes(answer.content)


def hand_in(client: Asked, content: bytes, user: str = "doctor") -> Any:
    files = {"book": ("更正.xlsx", content, "application/octet-stream")}
    answer = client.post(user, "/corrections/hand-in", files=files)
    return answer


def test_who_sees_what(client: Asked) -> None:
    whole, own = (client.get(user, "/corrections").text for user in ("steward", "doctor"))
    assert "C201" in whole and "C202" in whole
    assert "C201" in own and "C202" not in own
    assert client.get("researcher", "/corrections").status_code == 403
    assert client.get("officer", "/corrections").status_code == 403
    for path in (
        "/corrections/book/C202",
        "/corrections/hand-ins/" + "0" * 64,
        "/corrections/one/" + "0" * 32,
    ):
        assert client.get("doctor", path).status_code == 404
    assert client.post("doctor", "/corrections/book", {"org": "C202"}).status_code == 404
    assert (
        client.client.post(
            "/corrections/book", data={"org": "C201"}, auth=("doctor", word("doctor"))
        ).status_code
        == 419
    )


def test_the_workbook_holds_what_the_policy_shows_and_no_more(client: Asked) -> None:
    from quality import corrections

    before = audit.verify()
    book = load_workbook(io.BytesIO(book_of(client)))
    heads = [c.value for c in book.worksheets[1][1]]
    assert {"visit_id", "sbp_mmhg", "dbp_mmhg"} <= set(heads)
    assert audit.verify() > before
    # a person who may not see a field gets neither its column nor what rules say of it
    made = corrections.out("C201", visible=lambda table, fields: [f for f in fields if f != "sbp_mmhg"])
    sheet = load_workbook(made["path"]).worksheets[1]
    names = [c.value for c in sheet[1]]
    assert "sbp_mmhg" not in names and "dbp_mmhg" in names
    assert not any(
        "128" in str(c.value)
        for row in sheet.iter_rows(min_row=3)
        for c in row
        if names[c.column - 1] == "#problems"
    )


def test_mended_handed_in_told_and_settled_by_the_source(client: Asked) -> None:
    mended = world.mended(book_of(client), world.swap)
    answer = hand_in(client, mended)
    page = html.unescape(answer.text)
    assert answer.status_code == 200 and "/corrections/hand-ins/" in str(answer.url)
    assert figures(page)["已接受"] == "2" and figures(page)["没有接受"] == "0"
    assert "待源系统更正" in page and "收缩压" in page
    assert world.pressures()[0] == ("V1", 128.0, 80.0)
    again = html.unescape(hand_in(client, mended).text)  # the same file: the same answer, nothing twice
    assert figures(again)["已接受"] == "2"
    assert str(answer.url) not in client.get("laboratory", str(answer.url.path)).text
    world.check(world.NEXT)
    assert "已更正待源系统" in client.get("doctor", "/findings?state=corrected").text
    listed = client.get("doctor", "/corrections/waiting").text
    number = re.search(r"/corrections/one/([0-9a-f]{32})", listed)
    assert number and "80" in client.get("doctor", f"/corrections/one/{number[1]}").text
    wrote = html.unescape(client.post("doctor", "/corrections/files").text)
    file = re.search(r'href="(/corrections/files/[^"]+)"', wrote)
    assert file and "新写文件 1 个" in wrote
    rows = client.get("doctor", file[1]).content.decode("utf-8-sig")
    assert "V1,A1,2026-11-01,1,128,80" in rows
    world.deliver(world.THIRD, world.visit(1, 128, 80, at=world.THIRD))
    world.check(world.THIRD)
    assert "没有“待源系统更正”的更正" in client.get("doctor", "/corrections/waiting").text
    closed = client.get("doctor", "/corrections/waiting?state=confirmed").text
    assert closed.count("查看内容") == 2
    assert "已关闭" in client.get("doctor", "/findings?state=closed").text


def test_another_institutions_workbook_is_refused_and_the_stewards_taken(client: Asked) -> None:
    def mend(sheet: Any, at: dict[str, int]) -> None:
        sheet.cell(3, at["sbp_mmhg"]).value = "高"
        sheet.cell(3, at["dbp_mmhg"]).value = 82

    theirs = world.mended(book_of(client, "steward", "C202"), mend)
    refused = hand_in(client, theirs)
    assert refused.status_code == 403 and "E673" in refused.text
    told = html.unescape(hand_in(client, theirs, "steward").text)
    assert (figures(told)["已接受"], figures(told)["没有接受"]) == ("1", "1")
    assert "E435" in told and "新值不是" in told


def test_a_record_that_its_source_changed_meanwhile_is_a_conflict(client: Asked) -> None:
    book = world.mended(
        book_of(client, "steward", "C202"), lambda s, at: setattr(s.cell(3, at["sbp_mmhg"]), "value", 133)
    )
    world.deliver(world.THIRD, world.visit(9, 83, 131, at=world.THIRD), org="C202")
    told = html.unescape(hand_in(client, book, "steward").text)
    assert "冲突" in told and "E434" in told and figures(told)["已接受"] == "0"


def test_what_is_no_workbook_of_the_platform_is_refused(client: Asked) -> None:
    plain = io.BytesIO()
    from openpyxl import Workbook

    Workbook().save(plain)
    bomb = io.BytesIO()
    with zipfile.ZipFile(plain) as whole, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as made:
        for name in whole.namelist():
            made.writestr(name, whole.read(name))
        made.writestr("xl/worksheets/sheet2.xml", b"<a>" + b" " * 40_000_000 + b"</a>")
    before = world.pressures()
    for content, code in (
        (plain.getvalue(), "E431"),
        (bomb.getvalue(), "E629"),
        (b"PK\x03\x04", "E629"),
        (b"", "E629"),
    ):
        answer = hand_in(client, content)
        assert answer.status_code == 400 and code in answer.text, code

    def of_two(sheet: Any, at: dict[str, int]) -> None:
        sheet.cell(3, at["#org_code"]).value = "C202"
        sheet.append([c.value for c in sheet[3]])
        sheet.cell(sheet.max_row, at["#org_code"]).value = "C201"

    mixed = hand_in(client, world.mended(book_of(client, "steward", "C202"), of_two), "steward")
    assert mixed.status_code == 400 and "E674" in mixed.text
    assert world.pressures() == before


def test_a_file_with_what_the_person_may_not_see_stays(client: Asked) -> None:
    from lake.settings import settings

    path = (
        settings().folder("write_back", "2026-11-20", "public_health", "C201")
        / "smi_visit_20261120_0123abcd.csv"
    )
    path.write_text("x", "utf-8")
    name = "/corrections/files/2026-11-20/public_health/C201/smi_visit_20261120_0123abcd.csv"
    refused = client.get("doctor", name)
    assert refused.status_code == 403 and "E675" in refused.text
    assert client.get("doctor", "/corrections/files/..%2F..%2Fsecrets%2Fportal.json").status_code == 404
    path.unlink()
