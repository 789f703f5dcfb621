"""The audit log: whole or found out, searched by auditors alone, archived without a break, and whose data a leak concerns."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update
from starlette.testclient import TestClient
from typer.testing import CliRunner

from lake import audit, audit_alerts, audit_retention, audit_search, audit_verify, ops
from lake.access_tables import audit_archive, audit_person
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from lake.settings import settings
from portal import account_store, accounts
from portal.app import create_app

ENTRY = ops.audit_entry


def note(
    actor: str, *persons: str, rows: int = 1, action: str = "export.run", table: str = "silver/ph_archive"
) -> int:
    return audit.record(
        action, actor=actor, purpose="public_health", tables=[table], fields=["name"], rows=rows, result="ok",
        actor_role="officer", persons=list(persons),
    )  # fmt: skip


@pytest.fixture
def log(lake_home: Path) -> Path:
    note("wang", "e1", "e2", rows=2)
    note("li", "e2")
    note("wang", "e3", table="silver/htn_visit")
    return lake_home


def client(user: str) -> TestClient:
    made = TestClient(create_app(), raise_server_exceptions=False, follow_redirects=False)
    word = json.loads(accounts.ensure().read_text("utf-8"))[user]
    made.headers["authorization"] = "Basic " + base64.b64encode(f"{user}:{word}".encode()).decode()
    return made


def change(statement: Any) -> None:
    with ops.engine().begin() as connection:
        connection.execute(statement)


def test_a_whole_log_is_whole_and_its_entries_hold_no_resident(log: Path) -> None:
    assert audit.verify() == 3
    with ops.engine().begin() as connection:
        texts = " ".join(row.entry for row in connection.execute(ENTRY.select()))
    assert "e1" not in texts.replace("persons_sm3", "") or '"e1"' not in texts


@pytest.mark.parametrize(
    "forged",
    [
        update(ENTRY).where(ENTRY.c.seq == 2).values(entry="{}"),
        delete(ENTRY).where(ENTRY.c.seq == 2),
        delete(ENTRY).where(ENTRY.c.seq == 3),  # the tail: only the seal tells
        delete(audit_person).where(audit_person.c.empi_id == "e2"),
        audit_person.insert().values(seq=2, empi_id="e9"),
    ],
)
def test_an_edit_a_gap_a_cut_tail_and_a_forged_resident_are_found(log: Path, forged: Any) -> None:
    change(forged)
    with pytest.raises(MedlakeError) as refused:
        audit.verify()
    assert refused.value.code in ("E107", "E694")


def test_entries_after_a_cut_do_not_mend_it(log: Path) -> None:
    change(delete(ENTRY).where(ENTRY.c.seq == 3))
    note("li", "e4")
    with pytest.raises(MedlakeError):
        audit.verify()


def test_a_database_that_was_rolled_back_is_found_by_the_anchor(log: Path) -> None:
    audit.verify()
    with ops.engine().begin() as connection:
        kept = [dict(r._mapping) for r in connection.execute(ENTRY.select().where(ENTRY.c.seq <= 2))]
    anchors = audit_verify.anchors_path().read_text("utf-8")
    assert '"seq": 3' in anchors
    for table in (ENTRY, audit_person):
        change(delete(table))
    from lake.access_tables import audit_head

    last = kept[-1]
    change(ENTRY.insert().values(kept))
    change(
        update(audit_head).values(
            seq=last["seq"], hash=last["hash"], seal=audit.seal(last["seq"], last["hash"])
        )
    )
    change(
        audit_person.insert().values(
            [{"seq": 1, "empi_id": "e1"}, {"seq": 1, "empi_id": "e2"}, {"seq": 2, "empi_id": "e2"}]
        )
    )
    with pytest.raises(MedlakeError) as refused:
        audit.verify()
    assert refused.value.code == "E694"


def test_a_leak_names_its_residents(log: Path) -> None:
    found = audit_search.affected(actor="wang")
    assert [p["empi_id"] for p in found["persons"]] == ["e1", "e2", "e3"]
    assert [p["empi_id"] for p in audit_search.affected(table="htn_visit")["persons"]] == ["e3"]


def test_old_entries_are_archived_and_the_chain_goes_on_through_them(log: Path) -> None:
    later = datetime.now(UTC) + timedelta(days=181)
    moved = audit_retention.retain(later)
    assert moved["archived"] == 3 and moved["files"] == 1
    note("zhao", "e7")
    assert audit.verify() == 5  # the three, the note of the archiving, and the new one
    assert [p["empi_id"] for p in audit_search.affected(actor="wang")["persons"]] == ["e1", "e2", "e3"]
    with pytest.raises(MedlakeError) as refused:
        audit_retention.retain(later, 30)
    assert refused.value.code == "E696"


def test_a_changed_archive_is_found(log: Path) -> None:
    audit_retention.retain(datetime.now(UTC) + timedelta(days=181))
    with ops.engine().begin() as connection:
        path = settings().home / connection.execute(audit_archive.select()).one().path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(MedlakeError) as refused:
        audit.verify()
    assert refused.value.code == "E695"


def test_volume_and_guessing_raise_alerts(lake_home: Path) -> None:
    limit = audit_alerts.parameters()["volume_rows"]
    note("wang", rows=limit)
    note("li", rows=limit - 1)
    for _ in range(audit_alerts.parameters()["refused_logins"]):
        audit.record("login", actor="zhao", purpose="login", tables=[], fields=[], rows=0, result="refused")
    now = datetime.now(UTC)
    told = audit_alerts.alerts(now - timedelta(hours=1), now + timedelta(hours=1))
    kinds = {(a["kind"], a["actor"]) for a in told if a["kind"] != "night"}
    assert kinds == {("volume", "wang"), ("guessing", "zhao")}


def test_the_page_is_the_audit_administrators_alone_and_shows_a_forged_line(log: Path) -> None:
    for user in sorted(set(accounts.ROLES) - {"audit_admin"}):
        assert client(user).get("/audit").status_code == 403, user
    auditor = client("audit_admin")
    assert "审计链完整" in auditor.get("/audit").text
    assert ">e3<" in auditor.get("/audit/affected", params={"actor": "wang"}).text
    for forged in ('{"actor": "li", "rows": 0}', "not JSON at all"):
        change(update(ENTRY).where(ENTRY.c.seq == 2).values(entry=forged))
        page = auditor.get("/audit").text
        assert "审计链不完整" in page and "E107" in page


def test_the_commands_say_so_as_json(log: Path) -> None:
    from medlake.cli import app

    done = CliRunner().invoke(app, ["audit", "verify", "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout.splitlines()[-1]) | {"seconds": 0, "peak_rss_mb": 0} == {
        "entries": 3, "intact": True, "seconds": 0, "peak_rss_mb": 0}  # fmt: skip
    found = json.loads(
        CliRunner().invoke(app, ["audit", "affected", "--actor", "wang", "--json"]).stdout.splitlines()[-1]
    )
    assert [p["empi_id"] for p in found["persons"]] == ["e1", "e2", "e3"]
    change(delete(ENTRY).where(ENTRY.c.seq == 2))
    broken = CliRunner().invoke(app, ["audit", "verify", "--json"])
    assert broken.exit_code == 1 and "E107" in broken.output


def test_an_account_is_proposed_by_one_and_let_in_by_another(lake_home: Path) -> None:
    from medlake.cli import app

    run = CliRunner()
    made = [
        "accounts",
        "create",
        "zhang.wei",
        "--name",
        "张伟",
        "--role",
        "officer",
        "--org",
        "C201",
        "--as",
        "sys",
    ]
    first = json.loads(run.invoke(app, [*made, "--json"]).stdout.splitlines()[-1])
    assert first["state"] == "waiting" and len(first["first_password"]) >= 12
    assert run.invoke(app, ["accounts", "activate", "zhang.wei", "--as", "sys"]).exit_code == 1
    assert run.invoke(app, ["accounts", "activate", "zhang.wei", "--as", "sec"]).exit_code == 0
    told = run.invoke(app, ["accounts", "list", "--json"]).stdout
    assert '"active"' in told and first["first_password"] not in told


def test_night_work_own_record_and_colleagues_raise_alerts(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock of Shanghai, and by the staff's own residents; whoever looks at strangers by day raises none."""
    for user, resident in (("wang", "e-wang"), ("liu", "e-liu")):
        account_store.create(
            user, "测", "pharmacist", "C201", by="t", word="Correct-Horse-9", empi_id=resident
        )

    def at(hour: int, *persons: str, actor: str = "wang") -> int:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime(2026, 11, 20, hour, 30, tzinfo=SHANGHAI).astimezone(tz)

        with monkeypatch.context() as patch:
            patch.setattr(audit, "datetime", Clock)
            return note(actor, *persons)

    at(12, "e1", "e2")
    at(21, "e1")
    at(6, "e1", actor="li")
    nights = [at(22, "e1"), at(5, "e3", actor="li")]
    own, colleague = at(10, "e-wang", "e1"), at(11, "e-wang", "e4", actor="li")
    audit.record("login", actor="zhao", purpose="login", tables=[], fields=[], rows=0, result="ok")
    window = [datetime(2026, 11, day, tzinfo=SHANGHAI).astimezone(UTC) for day in (19, 22)]
    told = {(a["kind"], a["actor"], a["seq"]) for a in audit_alerts.alerts(*window)}
    assert told == {
        ("night", "wang", nights[0]), ("night", "li", nights[1]), ("own_record", "wang", own),
        ("colleague", "li", colleague),
    }  # fmt: skip


def test_looking_at_many_residents_raises_an_alert_also_from_the_archive(lake_home: Path) -> None:
    account_store.create("wang", "测", "pharmacist", "C201", by="t", word="Correct-Horse-9", empi_id="e-wang")
    limit = audit_alerts.parameters()["volume_persons"]
    seq = note("wang", *[f"e{n}" for n in range(limit - 1)], "e-wang", rows=5)
    note("li", *[f"e{n}" for n in range(limit - 1)], rows=5)
    counted = {
        "actor": "wang",
        "actor_role": "officer",
        "purpose": "statutory_report",
        "tables": [],
        "fields": [],
    }
    audit.record(
        "report_fill", **counted, rows=5, result="ok", persons=["e-wang", *[f"f{n}" for n in range(limit)]]
    )
    now = datetime.now(UTC)
    asked = (now - timedelta(hours=1), now + timedelta(hours=1))
    found = {(a["kind"], a["actor"], a["seq"]) for a in audit_alerts.alerts(*asked) if a["kind"] != "night"}
    assert found == {("volume", "wang", seq), ("own_record", "wang", seq)}
    audit_retention.retain(now + timedelta(days=181))
    assert found == {
        (a["kind"], a["actor"], a["seq"]) for a in audit_alerts.alerts(*asked) if a["kind"] != "night"
    }


def test_residents_that_come_in_parts_are_the_same_as_at_once(log: Path) -> None:
    known = [f"e{n:05d}" for n in range(45_000)]
    both = {
        "actor": "li",
        "purpose": "public_health",
        "tables": [],
        "fields": [],
        "rows": 45_000,
        "result": "ok",
    }
    at_once = audit.record("export", **both, persons=reversed(known))
    in_parts = audit.record("export", **both, persons=lambda: iter([known[:7], known[7:]]))
    with ops.engine().begin() as connection:
        texts = [
            json.loads(r.entry) for r in connection.execute(ENTRY.select().where(ENTRY.c.seq >= at_once))
        ]
        kept = {
            seq: [
                p.empi_id for p in connection.execute(audit_person.select().where(audit_person.c.seq == seq))
            ]
            for seq in (at_once, in_parts)
        }
    assert texts[0] == texts[1] and texts[0]["persons_count"] == 45_000
    assert sorted(kept[at_once]) == sorted(kept[in_parts]) == known
    assert audit.verify() == 5
