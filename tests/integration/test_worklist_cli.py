"""``medlake worklist``: what people type, what they see, what programs get."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from medlake.commands.worklist import app, clock
from tests.worklist_world import NOW, ask

WHO = ["--as", "张三", "--role", "lab_technician"]

KINDS = Path(__file__).parents[2] / "worklist" / "kinds"


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output


def told(*words: str) -> dict[str, Any]:
    code, out = run(*words, "--json")
    assert code == 0, out
    return dict(json.loads(out.strip().splitlines()[-1]))


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (timedelta(minutes=12, seconds=5), "剩余 12 min"),
        (-timedelta(hours=2, minutes=59), "超时 2 h"),
        (timedelta(days=3), "剩余 3 d"),
        (-timedelta(seconds=4), "超时 4 s"),
        (None, "—"),
    ],
)
def test_a_deadline_as_people_say_it(left: timedelta | None, text: str) -> None:
    assert clock(NOW + left if left is not None else None, NOW) == text


def test_an_item_from_list_to_close(lake_home: Path) -> None:
    item = ask("critical_value", "k1", requesting_org_code="C201")
    (row,) = told("list", "--kind", "critical_value")["rows"]
    assert row["item_id"] == item.item_id and row["possible"][0]["action"] == "confirm"
    code, out = run("list")
    assert code == 0 and "危急值" in out and "检验技师" in out and item.item_id[:10] in out
    assert told("take", item.item_id[:10], *WHO)["assignee"] == "张三"
    code, out = run("act", item.item_id, "confirm", *WHO)
    assert code == 1 and "recheck" in out
    steps = [
        ("confirm", WHO, ["recheck=一致"]),
        ("notify", WHO, ["channel=phone", "notifier=张三"]),
        ("receive", ["--as", "护士", "--role", "ward_nurse"], ["readback_ok=true"]),
        ("acknowledge", ["--as", "医生", "--role", "attending_doctor"], []),
        ("handle", ["--as", "医生", "--role", "attending_doctor"], ["action_text=补钾", "order_id=O1"]),
    ]
    for action, who, fields in steps:
        words = [w for f in fields for w in ("--set", f)]
        assert told("act", item.item_id, action, *who, *words)["owner_role"]
    done = told("close", item.item_id, "--as", "医生", "--role", "attending_doctor", "--set", "emr_doc=D1")
    assert done["state"] == "closed"
    assert told("list")["rows"] == [] and len(told("list", "--closed")["rows"]) == 1
    shown = told("show", item.item_id)
    assert [e["action"] for e in shown["events"]][-1] == "close" and len(shown["events"]) == 8
    code, out = run("show", item.item_id)
    assert code == 0 and "acknowledge" in out and "已关闭" in out


def test_a_command_key_and_a_version_are_taken(lake_home: Path) -> None:
    item = ask("critical_value", "k1")
    words = ["act", item.item_id, "confirm", *WHO, "--set", "recheck=ok", "--key", "c1"]
    assert told(*words)["version"] == told(*words)["version"] == 2
    code, out = run("act", item.item_id, "refute", *WHO, "--version", "1", "--reason", "x")
    assert code == 1 and "E913" in out


def test_an_engineer_runs_a_turn_and_reads_the_statistics(lake_home: Path) -> None:
    from lake import work

    work.ask([work.Request("k", "silent_feed", "H001", "warn", "feed/his", NOW, "ingestion")])
    assert told("run", "--once")["taken"] == 1
    stats = told("stats")
    assert stats["kinds"][0]["kind"] == "silent_feed" and stats["steps"][0]["step"] == "acknowledge"
    assert told("assign", "W", "--to", "李四", "--as", "王", "--role", "data_steward")["assignee"] == "李四"
    assert len(told("kinds")["rows"]) == len(list(KINDS.glob("*.yaml")))
    assert told("migrate")["revision"]
    assert told("decisions", "--date", "2026-11-18")["decisions"] == 0


def test_what_is_wrong_is_said_with_its_number(lake_home: Path) -> None:
    code, out = run("show", "Wnothing")
    assert code == 1 and "E903" in out
    item = ask("silent_feed", "k1")
    code, out = run(
        "act", item.item_id, "acknowledge", "--as", "a", "--role", "integration_engineer", "--set", "broken"
    )
    assert code == 2 and "--set" in out
    code, out = run("act", item.item_id, "acknowledge", "--as", "a", "--role", "system")
    assert code == 1 and "E915" in out
