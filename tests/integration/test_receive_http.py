"""Uploads to a running ``medlake serve``: what is taken, what is refused, and that nothing acknowledged is lost."""

from __future__ import annotations

import hashlib
import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import ingestion
from ingestion import attachments
from lake import ops
from lake.local_time import local_today
from portal import clients
from tests import upload_world as world
from tests.ingestion_world import content
from tests.upload_world import DICOM, JPEG, PDF, Server, visit


@pytest.fixture
def word(lake_home: Path) -> str:
    return clients.create("C201", ["public_health", "iot"])[1]


@pytest.fixture
def server(lake_home: Path, word: str) -> Iterator[Server]:
    with world.serving(lake_home, word) as running:
        yield running


def _ingested(server: Server, feed: str = "public_health") -> dict[str, Any]:
    server.stop()
    return ingestion.ingest_feed(feed, local_today())


def test_records_arrive_in_silver_and_the_receipt_tells(server: Server, lake_home: Path) -> None:
    body = {"table": "htn_visit", "records": [visit(1), visit(2, 未知="x", sbp_mmhg="14o")]}
    refused = server.post("public_health", json=body)
    assert refused.status_code == 400 and refused.json()["code"] == "E269"
    assert [(e["record"], e["field"], e["code"]) for e in refused.json()["errors"]] == [
        (1, "sbp_mmhg", "E211")
    ]
    body["records"] = [visit(1), visit(2, 未知="x")]
    taken = server.post("public_health", json=body)
    assert taken.status_code == 202, taken.text
    receipt = taken.json()["receipt_id"]
    assert taken.headers["location"] == f"/ingest/receipts/{receipt}"
    assert server.receipt(receipt).json()["status"] == "accepted"
    done = _ingested(server)
    assert (done["received"], done["loaded"]) == (2, 2)
    assert content("silver/htn_visit", "visit_id, archive_id, sbp_mmhg, org_code") == [
        ("V1", "A1", 150, "C201"),
        ("V2", "A2", 150, "C201"),
    ]
    assert json.loads(content("bronze/public_health/htn_visit", "_extra")[0][0]) == {"未知": "x"}
    with world.serving(lake_home, server.word) as again:
        told = again.receipt(receipt).json()
        assert (told["status"], told["loaded"], told["duplicate"], told["reasons"]) == ("loaded", 2, 0, [])
        assert again.post("public_health", json=body).status_code == 202
        again.stop()
    assert ingestion.ingest_feed("public_health", local_today())["duplicate"] == 2


def test_what_is_acknowledged_survives_a_kill(server: Server, lake_home: Path) -> None:
    taken = [server.post("public_health?table=htn_visit", json=visit(n)) for n in range(5)]
    assert {t.status_code for t in taken} == {202}
    server.process.kill()
    server.process.wait()
    with world.serving(lake_home, server.word) as again:
        again.stop()
    assert ingestion.ingest_feed("public_health", local_today())["loaded"] == 5
    assert [r[0] for r in content("silver/htn_visit", "visit_id")] == [f"V{n}" for n in range(5)]


def test_a_critical_value_asks_for_work_before_any_batch(lake_home: Path) -> None:
    _, word = clients.create("H101", ["lis"])
    result = {
        "report_id": "R1",
        "seq": 1,
        "item_code": "K",
        "item_name": "血钾",
        "value_text": "7.4",
        "unit": "mmol/L",
    }
    with world.serving(lake_home, word) as server:
        taken = server.post("lis", json={"table": "lab_result", "records": [result]})
        assert taken.status_code == 202, taken.text
        query = select(ops.work_request).where(ops.work_request.c.kind == "critical_value")
        while True:
            with ops.engine().begin() as connection:
                if found := connection.execute(query).all():
                    break
            assert server.process.poll() is None
            time.sleep(0.05)
    assert [(r.org_code, r.origin) for r in found] == [("H101", "fast_lane")]


def test_attachments_are_stored_by_content_and_linked(server: Server, lake_home: Path) -> None:
    node = {
        "table": "htn_visit",
        "records": [visit(1), visit(2)],
        "attachments": [
            {"part": "photo", "record": 0, "taken_at": "2026-11-18 09:29:00"},
            {"part": "ecg", "record": 1},
            {"part": "scan", "record": 1},
        ],
    }
    files = {
        "photo": ("血压.jpg", JPEG, "image/jpeg"),
        "ecg": ("心电图.pdf", PDF, "application/pdf"),
        "scan": ("b.dcm", DICOM, "application/octet-stream"),
    }
    taken = server.post("public_health", data={"body": json.dumps(node)}, files=files)
    assert taken.status_code == 202, taken.text
    assert taken.json()["attachments"] == 3
    for data in (JPEG, PDF, DICOM):
        sha = hashlib.sha256(data).hexdigest()
        kept = attachments.path_of(sha)
        assert (
            kept.read_bytes() == data
            and stat.S_IMODE(kept.stat().st_mode) == 0o600
            and attachments.verify(sha)
        )
    done = _ingested(server)
    assert done["received"] == done["loaded"] == 5, done
    assert content("silver/attachment", "table_name, record_key, media_type, bytes, file_name") == [
        ("htn_visit", "V1", "image/jpeg", len(JPEG), "血压.jpg"),
        ("htn_visit", "V2", "application/dicom", len(DICOM), "b.dcm"),
        ("htn_visit", "V2", "application/pdf", len(PDF), "心电图.pdf"),
    ]


@pytest.mark.parametrize(
    ("name", "data", "declared"),
    [
        ("a.jpg", PDF, "image/jpeg"),
        ("a.jpg", JPEG, "application/pdf"),
        ("a.pdf", JPEG, "image/jpeg"),
        ("a.zip", b"PK\x03\x04zip", "application/zip"),
        ("a.svg", b"<svg onload=alert(1)>", "image/svg+xml"),
        ("a.jpg.exe", JPEG, "image/jpeg"),
        ("../../etc/a.jpg", JPEG, "image/jpeg"),
        ("..\\a.jpg", JPEG, "image/jpeg"),
        (".jpg", JPEG, "image/jpeg"),
        ("a\x01.jpg", JPEG, "image/jpeg"),
        ("x" * 200 + ".jpg", JPEG, "image/jpeg"),
        ("a.jpg", b"", "image/jpeg"),
    ],
)
def test_what_is_no_such_file_is_refused(lake_home: Path, name: str, data: bytes, declared: str) -> None:
    with pytest.raises(attachments.MedlakeError) as caught:
        attachments.store("photo", name, declared, [data])
    assert caught.value.code == "E271"
    left = [p for p in (lake_home / "attachments").rglob("*") if p.is_file()]
    assert left == [], "a refused file leaves nothing behind"


def test_limits(lake_home: Path, word: str) -> None:
    small = {
        "http_max_bytes": "20000",
        "http_max_json_bytes": "5000",
        "http_max_records": "3",
        "http_max_attachments": "1",
    }
    with world.serving(lake_home, word, **small) as server:
        path = "public_health?table=htn_visit"
        assert server.post(path, json=visit(1, 备注="x" * 6000)).status_code == 413
        many = {"table": "htn_visit", "records": [visit(n) for n in range(4)]}
        assert server.post("public_health", json=many).status_code == 413
        form = {"body": json.dumps(visit(1))}
        assert (
            server.post(path, data=form, files={"p": ("a.jpg", JPEG * 200, "image/jpeg")}).status_code == 413
        )
        two = {"p": ("a.jpg", JPEG, "image/jpeg"), "q": ("b.jpg", JPEG, "image/jpeg")}
        assert server.post(path, data=form, files=two).status_code == 413

        def endless() -> Iterator[bytes]:
            yield b'{"visit_id": "'
            for _ in range(1000):
                yield b"x" * 1000

        headers = {"content-type": "application/json"}
        assert server.post(path, content=endless(), headers=headers).status_code == 413, (
            "no content-length was sent"
        )
        assert server.post(path, json=visit(1)).status_code == 202


def test_rate_limit(lake_home: Path, word: str) -> None:
    with world.serving(lake_home, word, http_rate_per_second="0.001", http_burst="3") as server:
        answers = [server.post("public_health?table=htn_visit", json=visit(n)) for n in range(5)]
        assert [a.status_code for a in answers] == [202, 202, 202, 429, 429]
        assert int(answers[-1].headers["retry-after"]) > 1 and answers[-1].json()["code"] == "E279"
