"""What the centre asks people about: silent nodes, chains that stand still, persons registered twice while apart."""

from __future__ import annotations

import json
from datetime import UTC, date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ingestion.edge import apart, centre_store, pki, watch
from ingestion.edge.centre_store import Heard
from lake import ops
from tests.edge_world import AT, Bench, issue, silver


@pytest.fixture
def authority(lake_home: Path, tmp_path: Path) -> pki.Authority:
    made = pki.init()
    for node in ("C201", "C202", "C203"):
        issue(made, tmp_path, node)
    return made


def call(node: str, hours: float, **status: Any) -> None:
    store = centre_store.open_store()
    centre_store.heard(
        store, [Heard(node, node, "centre", AT + timedelta(hours=hours), "", -7_200_000, status)]
    )
    store.close()


def asked() -> list[Any]:
    with ops.engine().begin() as connection:
        return list(connection.execute(select(ops.work_request)))


def test_silent_nodes_are_asked_about_once(authority: pki.Authority) -> None:
    call("C201", 0, waiting_chunks=4, waiting_records=9, waiting_bytes=2_000_000, oldest_at=AT.isoformat())
    call("C202", 70)
    now = AT + timedelta(hours=72)
    found = {r["node"]: r for r in watch.nodes(now)}
    assert [(n, found[n]["state"], found[n]["lag_seconds"]) for n in found] == [
        ("C201", "silent", 72 * 3600),
        ("C202", "ok", 7200),
        ("C203", "new", None),
    ]
    assert (found["C201"]["waiting_records"], found["C201"]["waiting_mb"], found["C201"]["offset_ms"]) == (
        9,
        2.0,
        -7_200_000,
    )
    assert watch.ask_about(now) == {"silent": 1, "new": 1}
    assert watch.ask_about(now + timedelta(hours=1)) == {"silent": 1, "new": 0}
    (request,) = asked()
    assert (request.kind, request.org_code, request.subject) == ("silent_feed", "C201", "edge_node/C201")
    call("C201", 73)
    assert watch.ask_about(AT + timedelta(hours=74)) == {"silent": 0, "new": 0}


def test_a_forked_node_is_asked_about(authority: pki.Authority, tmp_path: Path) -> None:
    from ingestion.edge import config
    from ingestion.edge.centre import Centre

    node = Bench(config.load(tmp_path / "C201"))
    node.add(b"a")
    centre = Centre(authority)
    centre.intake.take(node.peer, node.chunks())
    centre.intake.forked("C201", 1, 1, 1)
    call("C201", 0)
    (row,) = [r for r in watch.nodes(AT) if r["node"] == "C201"]
    assert (row["state"], row["trouble"], row["pending_chunks"]) == ("troubled", "E286", 1)
    assert watch.ask_about(AT) == {"silent": 1, "new": 1}
    assert asked()[0].severity == "error"
    authority.register.readmit("C201")
    assert [r["state"] for r in watch.nodes(AT) if r["node"] == "C201"] == ["ok"]
    authority.revoke("C201")
    assert [r["state"] for r in watch.nodes(AT) if r["node"] == "C201"] == ["revoked"]


def test_time_apart_is_what_lies_between_two_calls(authority: pki.Authority) -> None:
    for hours in (0, 0.5, 72, 72.2):
        call("C201", hours)
    assert watch.absences(AT) == [("C201", "C201", AT + timedelta(hours=0.5), AT + timedelta(hours=72))]
    assert watch.absences(AT + timedelta(days=30)) == []


def archive(key: str, org: str, day: int, **other: Any) -> dict[str, Any]:
    created = date(2026, 11, 18) + timedelta(days=day)
    return {
        "archive_id": key,
        "org_code": org,
        "created_on": created,
        "name": "王小明",
        "sex_code": "1",
        "birth_date": date(1958, 3, 12),
    } | other


def test_persons_registered_twice_while_apart(authority: pki.Authority) -> None:
    for hours in (0, 72):
        call("C201", hours)
    silver(
        "ph_archive",
        [
            archive("A-1", "C201S01", 1, id_no="429701195803121239"),
            archive("B-1", "C202", 2, id_no=" 429701195803121239", name="王晓明"),  # the same number
            archive("B-2", "C203", 1, id_no=None),  # the same name, birth date, sex
            archive("A-2", "C201", 2, id_no="429701199001010000", name="李丽"),  # nobody else
            archive("B-3", "C202", 30, id_no="429701195803121239"),  # long after
            archive("A-3", "C201", -200, id_no="429701196001011111", name="赵"),
            archive("B-4", "C202", 1, id_no="429701196001011111", name="赵"),  # A3 was known before
            archive("B-5", "C203", 1, id_no="1", name="无"),
            archive("A-5", "C201", 1, id_no="1", name="名", birth_date=None),  # no usable number
        ],
    )
    silver(
        "patient",
        [
            {
                "patient_local_id": "P-7",
                "org_code": "H001",
                "name": "李丽",
                "id_no": "429701199001010000",
                "source_updated_at": AT + timedelta(hours=50),
            }
        ],
    )
    found = apart.flag(date(2026, 11, 21))
    assert found == {"absences": 1, "pairs": 3, "new": 3}
    records = {tuple(json.loads(r.payload)["records"]): json.loads(r.payload)["same_id_no"] for r in asked()}
    assert records == {
        ("ph_archive/C201S01|A-1", "ph_archive/C202|B-1"): True,
        ("ph_archive/C201S01|A-1", "ph_archive/C203|B-2"): False,
        ("patient/H001|P-7", "ph_archive/C201|A-2"): True,
    }
    payloads = [json.loads(r.payload) for r in asked()]
    sides = [
        tuple(p[f"{c}_{s}"] for c in ("source_system", "org_code", "identifier_value"))
        for p in payloads
        for s in "lr"
    ]
    assert ("his", "H001", "P-7") in sides and ("public_health", "C201S01", "A-1") in sides
    for request in asked():
        assert request.kind == "empi_review" and request.occurred_at.replace(tzinfo=UTC) >= AT - timedelta(
            days=1
        )
        told = request.subject + request.request_key
        assert not any(s in told for s in ("A-1", "A-2", "P-7", "王小明", "429701195803121239"))
    assert apart.flag(date(2026, 11, 22))["new"] == 0
    assert apart.flag(date(2027, 2, 1))["absences"] == 0


def test_nobody_was_away(authority: pki.Authority) -> None:
    assert apart.flag(date(2026, 11, 21)) == {"absences": 0, "pairs": 0, "new": 0}
