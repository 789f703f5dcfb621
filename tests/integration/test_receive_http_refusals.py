"""One running ``medlake serve`` and what senders get wrong: shapes, files, tokens, keys, odd texts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import ingestion
from lake.local_time import local_today
from lake.settings import settings
from portal import clients
from tests import upload_world as world
from tests.upload_world import JPEG, PNG, Server, visit


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One lake for all tests here."""
    folder = tmp_path_factory.mktemp("uploads") / "var"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(folder))
        settings.cache_clear()
        yield folder
    settings.cache_clear()


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    """One server for all tests here; the last one stops it."""
    word = clients.create("C201", ["public_health", "iot"])[1]
    with world.serving(home, word) as running:
        yield running


def test_odd_texts_are_taken_or_refused_and_never_break_the_door(server: Server) -> None:
    path = "public_health?table=htn_visit"
    headers = {"content-type": "application/json"}
    for drugs in ("\\u0000", "\\ud800", "\\u202e", "\\\\", "'; DROP TABLE x --", "𝒳 䶮", '\\"'):
        body = f'{{"visit_id":"V","archive_id":"A","visited_on":"2026-11-18","recorded_at":"2026-11-18 09:00","drugs":"{drugs}"}}'
        answer = server.post(path, content=body.encode(), headers=headers)
        assert answer.status_code in (202, 400), (drugs, answer.text)
    for number in ("NaN", "Infinity", "1e999", "123456789012345678901234567890"):
        body = f'{{"visit_id":"V","archive_id":"A","visited_on":"2026-11-18","recorded_at":"2026-11-18 09:00","sbp_mmhg":{number}}}'
        answer = server.post(path, content=body.encode(), headers=headers)
        assert answer.status_code in (202, 400), (number, answer.text)


def test_the_same_key_is_the_same_request(server: Server) -> None:
    key = {"idempotency-key": "phone-7-000123"}
    body = {"table": "htn_visit", "records": [visit(1)]}
    first = server.post("public_health", json=body, headers=key)
    again = server.post("public_health", json=body, headers=key)
    assert (first.status_code, again.status_code) == (202, 200) and first.json() == again.json()
    other = server.post("public_health", json=body | {"records": [visit(2)]}, headers=key)
    assert other.status_code == 422 and other.json()["code"] == "E272"
    with ThreadPoolExecutor(8) as pool:
        many = list(
            pool.map(
                lambda _: server.post("public_health", json=body, headers={"idempotency-key": "at-once-1"}),
                range(8),
            )
        )
    assert sorted(m.status_code for m in many) == [200] * 7 + [202]
    assert len({m.json()["receipt_id"] for m in many}) == 1


def test_a_bad_attachment_refuses_the_whole_upload(server: Server) -> None:
    form = {"body": json.dumps(visit(1))}
    bad = server.post("public_health?table=htn_visit", data=form, files={"p": ("a.png", JPEG, "image/png")})
    assert bad.status_code == 415 and bad.json()["code"] == "E271"
    tricky = {"p": ("../a.png", PNG, "image/png")}
    assert server.post("public_health?table=htn_visit", data=form, files=tricky).status_code == 415
    for node in (
        {"table": "htn_visit", "records": [visit(1)], "attachments": [{"part": "nope"}]},
        {"table": "htn_visit", "records": [visit(1), visit(2)]},
        {"table": "htn_visit", "records": [visit(1)], "attachments": [{"part": "p", "record": 1}]},
        {"table": "htn_visit", "records": [visit(1)], "attachments": "p"},
    ):
        files = {"p": ("a.png", PNG, "image/png")}
        answer = server.post("public_health", data={"body": json.dumps(node)}, files=files)
        assert (answer.status_code, answer.json()["code"]) == (400, "E268"), node


def test_shapes_that_are_refused(server: Server) -> None:
    for sent, status in (
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 400),
        ({"json": []}, 400),
        ({"json": {"records": []}}, 400),
        ({"json": {"table": "htn_visit", "records": [1]}}, 400),
        ({"json": {"table": "htn_visit", "records": [visit(1)], "org_code": "H001"}}, 400),
        ({"json": {"table": "nope", "records": [visit(1)]}}, 400),
        ({"json": visit(1)}, 400),
        ({"content": b"a,b", "headers": {"content-type": "text/csv"}}, 415),
        ({"content": b"--x", "headers": {"content-type": "multipart/form-data; boundary=y"}}, 400),
        ({"content": b"", "headers": {"content-type": "multipart/form-data"}}, 400),
    ):
        answer = server.post("public_health", **sent)  # type: ignore[arg-type]
        assert answer.status_code == status, (sent, answer.text)
        assert answer.json()["code"].startswith("E") and answer.json()["zh"]
    wrong = server.post("public_health?table=htn_visit", json=visit(1, visit_id=None, recorded_at="昨天"))
    assert {(e["field"], e["code"]) for e in wrong.json()["errors"]} == {
        ("visit_id", "E210"),
        ("recorded_at", "E211"),
    }
    assert "档案" not in wrong.json()["zh"] and "昨天" not in wrong.text, "no value of a record in an answer"


def test_a_store_that_takes_nothing_accepts_nothing(server: Server, home: Path) -> None:
    """A file lies where the attachments' folder should be: like a full disk, an error of the store."""
    folder, aside = home / "attachments", home / "aside"
    if folder.is_dir():
        folder.rename(aside)
    folder.write_text("in the way", "utf-8")
    form, files = {"body": json.dumps(visit(900))}, {"p": ("a.jpg", JPEG, "image/jpeg")}
    answer = server.post("public_health?table=htn_visit", data=form, files=files)
    assert (answer.status_code, answer.json()["code"]) == (507, "E279")
    folder.unlink()
    if aside.is_dir():
        aside.rename(folder)
    assert server.post("public_health?table=htn_visit", data=form, files=files).status_code == 202


def test_tokens(home: Path, server: Server) -> None:
    ask = {"json": visit(1)}
    path = "public_health?table=htn_visit"
    for bad in ("mlk_wrong", "nonsense", "mlk_"):
        answer = server.post(path, word=bad, **ask)
        assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["code"] == "E273"
    assert (
        httpx.post(f"{server.base}/ingest/public_health", auth=("steward", "x"), json={}).status_code == 401
    )
    assert server.post("lis", json={}).status_code == 403, "a feed beyond the token's scope"
    assert server.post("nope", json={}).status_code == 403, "and no hint whether it exists"
    token_id, other = clients.create("C202", ["public_health"])
    taken = server.post(path, **ask).json()["receipt_id"]
    assert server.receipt(taken, word=other).status_code == 404, "another institution's receipt is not there"
    assert server.post(path, word=other, **ask).status_code == 202
    clients.revoke(token_id)
    assert server.post(path, word=other, **ask).status_code == 401
    assert httpx.get(f"{server.base}/", headers={"authorization": f"Bearer {server.word}"}).status_code == 401
    stored = (home / "ops" / "medlake.db").read_bytes()
    assert server.word.encode() not in stored and other.encode() not in stored


def test_no_value_reaches_a_log(server: Server, home: Path) -> None:
    server.post("public_health?table=htn_visit", json=visit(1, 姓名="王小东", id="42970119580312001X"))
    server.post("public_health?table=htn_visit", json=visit(2, visit_id="", 姓名="王小东"))
    logs = "".join(p.read_text("utf-8") for p in (home / "logs").rglob("*") if p.is_file())
    assert "uploaded" in logs and "upload_refused" in logs
    assert "王小东" not in logs and "42970119580312001X" not in logs and server.word not in logs


def test_it_is_described(server: Server) -> None:
    words = json.loads((settings().secrets_dir / "portal.json").read_text("utf-8"))
    answer = httpx.get(f"{server.base}/api/openapi.json", auth=("steward", words["steward"])).json()
    described = answer["paths"]["/ingest/{feed}"]["post"]
    assert set(described["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert {"202", "400", "401", "403", "413", "415", "422", "429"} <= set(described["responses"])
    assert "/ingest/receipts/{receipt_id}" in answer["paths"]


def test_uploads_go_on_side_by_side(server: Server) -> None:
    async def many() -> list[int]:
        async with httpx.AsyncClient(
            timeout=60, headers={"authorization": f"Bearer {server.word}"}
        ) as client:
            asked = [
                client.post(f"{server.base}/ingest/public_health?table=htn_visit", json=visit(n))
                for n in range(60)
            ]
            return [a.status_code for a in await asyncio.gather(*asked)]

    assert asyncio.run(many()) == [202] * 60


def test_at_last_all_that_was_taken_loads(server: Server) -> None:
    """Whatever the tests above got a receipt for, odd as it was."""
    server.stop()
    done = ingestion.ingest_feed("public_health", local_today())
    assert done["received"] == done["loaded"] + done["duplicate"] >= 60 and done["quarantined"] == 0, done
