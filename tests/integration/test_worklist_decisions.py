"""Decisions come back into the lake as the feed ``decision``: each exactly once, whatever is killed."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import ingestion
import worklist
from lake.settings import settings
from tests.ingestion_world import content
from tests.worklist_world import NOW, ask, home
from worklist import decisions

DAY = date(2026, 11, 18)


def decide(number: int, *, day: int = 18, org: str | None = None) -> str:
    item = ask("critical_value", f"d{number}", requesting_org_code=org or "", at=NOW.replace(day=day))
    for action, data in (
        ("confirm", {"recheck": "一致"}),
        ("notify", {"channel": "phone", "notifier": "张"}),
    ):
        at = NOW.replace(day=day)
        worklist.act(
            item.item_id, action, actor="张三", role="lab_technician", data=data, reason="复核", at=at
        )
    return item.item_id


def silver(columns: str = "decision_id") -> list[tuple[object, ...]]:
    return content("silver/decision", columns)


def test_a_day_of_decisions_is_a_drop_and_comes_in_once(lake_home: Path) -> None:
    ids = [decide(n, org="C201" if n else None) for n in range(3)]
    assert worklist.drop_decisions(DAY) == {"data_date": "2026-11-18", "decisions": 6, "files": 2}
    files = sorted(
        p.relative_to(settings().sources_dir).parts for p in settings().sources_dir.rglob("*.ndjson")
    )
    assert [f[:3] for f in files] == [("2026-11-18", "worklist", "C201"), ("2026-11-18", "worklist", "H001")]
    assert all(f[3].startswith("decision_20261118_") for f in files)
    first = ingestion.ingest_feed("worklist", DAY)
    assert (first["received"], first["loaded"], first["quarantined"]) == (6, 6, 0)
    assert worklist.drop_decisions(DAY)["decisions"] == 0
    ingestion.ingest_feed("worklist", DAY)
    found = silver(
        "item_id, kind, action, from_state, to_state, actor, actor_role, reason, org_code, decided_at"
    )
    assert len(found) == 6
    one = next(r for r in found if r[0] == ids[0] and r[2] == "confirm")
    assert one[1:] == (
        "critical_value", "confirm", "detected", "confirmed", "张三", "lab_technician", "复核", "H001", NOW,
    )  # fmt: skip


def test_what_the_engine_does_is_no_decision(lake_home: Path) -> None:
    item = ask("critical_value", "k1")
    worklist.fire(NOW + timedelta(hours=1))
    worklist.assign(item.item_id, "李", actor="王", role="lab_lead", at=NOW)
    assert worklist.drop_decisions(DAY)["decisions"] == 0


def test_decisions_after_midnight_belong_to_the_next_drop(lake_home: Path) -> None:
    decide(1)
    decide(2, day=19)
    assert worklist.drop_decisions(DAY)["decisions"] == 2
    assert worklist.drop_decisions(date(2026, 11, 19))["decisions"] == 2


@pytest.mark.parametrize("where", ["_write", "rename", "after"])
def test_a_kill_while_dropping_loses_and_repeats_nothing(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    decide(1)
    real = decisions._write

    def dies(*args: object) -> int:
        if where == "after":
            real(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    def no_rename(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        if where == "rename":
            monkeypatch.setattr(Path, "rename", no_rename)
        else:
            monkeypatch.setattr(decisions, "_write", dies)
        worklist.drop_decisions(DAY)
    monkeypatch.undo()
    settings.cache_clear()
    monkeypatch.setenv("MEDLAKE_HOME", str(lake_home))
    decide(2)
    worklist.drop_decisions(DAY)
    ingestion.ingest_feed("worklist", DAY)
    assert Counter(silver()).most_common(1)[0][1] == 1 and len(silver()) == 4


def test_an_anonymous_item_gives_nobody_away(lake_home: Path) -> None:
    item = ask("adverse_event", "ae", reporting="voluntary", event_level="3")
    data = {"category_code": "fall"}
    worklist.act(
        item.item_id, "triage", actor="管理员", role="safety_officer", data=data, reason="王报告所述", at=NOW
    )
    worklist.drop_decisions(DAY)
    ingestion.ingest_feed("worklist", DAY)
    assert silver("actor, actor_role, reason, action") == [(None, "safety_officer", None, "triage")]


@given(st.lists(st.sampled_from(["decide", "drop", "ingest"]), min_size=2, max_size=5))
@hypothesis_settings(max_examples=5, deadline=None)
def test_any_order_of_deciding_dropping_and_ingesting_loads_each_once(steps: list[str]) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder, home(Path(folder) / "var"):
        made = 0
        for step in [*steps, "drop", "ingest"]:
            if step == "decide":
                decide(made)
                made += 1
            elif step == "drop":
                worklist.drop_decisions(DAY)
            else:
                ingestion.ingest_feed("worklist", DAY)
        found = Counter(silver())
        assert len(found) == 2 * made and all(n == 1 for n in found.values())
