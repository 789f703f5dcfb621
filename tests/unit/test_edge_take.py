"""The node's drop folder and the centre's: a file goes in once, comes out once, as it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingestion.edge import centre_store, pki
from ingestion.edge.apply import _path
from ingestion.edge.centre import Centre
from ingestion.edge.take import tree
from lake.errors import MedlakeError
from lake.settings import settings
from tests.edge_world import Bench, dropped, issue


@pytest.fixture
def authority(lake_home: Path) -> pki.Authority:
    return pki.init()


@pytest.fixture
def centre(authority: pki.Authority) -> Centre:
    return Centre(authority)


@pytest.fixture
def node(authority: pki.Authority, tmp_path: Path) -> Bench:
    return Bench(issue(authority, tmp_path, "C201"))


def deliver(node: Bench, centre: Centre) -> dict[str, bytes]:
    """Everything of a node into the centre's drop; without the folder that names the taking."""
    assert centre.intake.take(node.peer, node.chunks()).problem is None
    centre.apply()
    found = dropped(settings().sources_dir)
    return {
        "/".join(p for p in path.split("/") if not p.startswith("edge-C2")): content
        for path, content in found.items()
    }


def test_files_arrive_as_they_were(centre: Centre, node: Bench) -> None:
    large = os.urandom(3 << 20) + b"end"
    node.drop("pacs/one.dcm", large)
    node.drop("iot/C201S01/telemetry_1.ndjson", b'{"device": "D1"}\n')
    node.drop("public_health/htn_visit/2024/一月.csv", "随访ID\n1\n".encode("gb18030"))
    node.drop("his/empty.csv", b"")
    assert node.scan() == 4
    assert [p for p in (node.home.folder / "drop").rglob("*") if p.is_file()] == []
    assert deliver(node, centre) == {
        "pacs/C201/one.dcm": large,
        "iot/C201S01/telemetry_1.ndjson": b'{"device": "D1"}\n',
        "public_health/C201/htn_visit/2024/一月.csv": "随访ID\n1\n".encode("gb18030"),
        "his/C201/empty.csv": b"",
    }


def test_what_is_not_whole_waits(node: Bench) -> None:
    node.drop("his/a.csv.part", b"1")
    node.drop("his/.hidden", b"1")
    node.drop("his/~$book.xlsx", b"1")
    growing = node.drop("his/b.csv", b"1")
    assert node.folder.scan() == 0
    growing.write_bytes(b"12")
    assert node.folder.scan() == 0  # it changed since the last look
    assert node.folder.scan() == 1


def test_announced_counts_stay_with_their_file(centre: Centre, node: Bench) -> None:
    node.drop("his/fee_item_1.csv", b"x" * (17 << 20))
    node.drop("his/fee_item_1.csv.manifest.json", b'{"records": 1}')
    node.drop("his/patient_1.csv", b"y")
    assert node.scan() == 3
    centre.intake.take(node.peer, node.chunks())
    centre.apply()
    found = {Path(p).name: Path(p).parent for p in dropped(settings().sources_dir)}
    assert found["fee_item_1.csv"] == found["fee_item_1.csv.manifest.json"]


def test_what_may_not_be_taken_stays_and_is_told(node: Bench) -> None:
    kept = [
        node.drop("loose.csv", b"1"),
        node.drop("unheard_of/a.csv", b"1"),
        node.drop("his/C202/a.csv", b"1"),
    ]
    node.drop("his/C201S01/a.csv", b"1")
    assert node.scan() == 1
    assert all(p.exists() for p in kept)
    assert node.folder.refused == {"E295": 3}


def test_a_full_spool_refuses_and_keeps(authority: pki.Authority, centre: Centre, tmp_path: Path) -> None:
    node = Bench(issue(authority, tmp_path, "C203", quota_mb=2))
    first = node.drop("pacs/1.dcm", os.urandom(1 << 20))
    assert node.scan() == 1 and not first.exists()
    second = node.drop("pacs/2.dcm", os.urandom(1 << 20))
    assert node.scan() == 0 and second.exists()
    assert node.folder.refused == {"E282": 1}
    with pytest.raises(MedlakeError) as error:
        node.chain.room(1 << 20)
    assert error.value.code == "E282"
    assert len(node.chunks()) == 1  # the oldest is still there
    centre.intake.take(node.peer, node.chunks())
    node.spool.acknowledged("C203", 1, 1, 1)
    node.spool.prune(pressed=False)
    node.spool.reading().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert node.scan() == 1 and not second.exists()


def test_what_the_parent_has_goes_first_when_space_is_short_and_nothing_else(
    authority: pki.Authority, tmp_path: Path
) -> None:
    node = Bench(issue(authority, tmp_path, "C203"))
    node.add(b"a", b"b", b"c")
    node.spool.acknowledged("C203", 1, 2, 0)
    assert node.spool.prune(pressed=False) == 0
    assert node.spool.backlog().chunks == 1
    assert node.spool.prune(pressed=True) == 2
    assert [c.seq for c in node.chunks()] == [3]


def test_a_crash_between_spooling_and_removing_takes_a_file_once(
    node: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = node.drop("his/a.csv", b"1")
    stopped: Callable[[], None] = node.folder._clean
    monkeypatch.setattr(node.folder, "_clean", lambda: None)
    assert node.scan() == 1 and path.exists()
    monkeypatch.setattr(node.folder, "_clean", stopped)
    again = Bench(node.home)
    assert not path.exists()
    assert again.scan() == 0 and len(again.chunks()) == 1


def test_a_new_file_of_the_same_name_is_another(centre: Centre, node: Bench) -> None:
    node.drop("his/a.csv", b"1")
    node.scan()
    node.drop("his/a.csv", b"2")
    node.scan()
    centre.intake.take(node.peer, node.chunks())
    centre.apply()
    assert sorted(dropped(settings().sources_dir).values()) == [b"1", b"2"]


def test_nothing_of_a_stolen_disk_can_be_read(node: Bench) -> None:
    """Not the content, not names of files, with all of the node's keys in hand."""
    node.drop("his/patient_王小明.csv", "王小明,429701195803121234\n".encode() * 500)
    node.add("王小明 13800000000".encode())
    node.scan()
    node.spool.reading().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    for path in node.home.folder.rglob("*"):
        if path.is_file():
            found = path.read_bytes()
            assert (
                "王小明".encode() not in found
                and b"429701195803121234" not in found
                and node.key.key not in found
            )


def test_records_that_came_together_make_one_file(centre: Centre, node: Bench) -> None:
    node.add(b'{"a": 1}', b'{"b": 2}')
    node.chain.write([node.draft(b'{"c": 3}', org_code="C201S01")])
    centre.intake.take(node.peer, node.chunks())
    assert centre.apply() == 2
    assert dropped(settings().sources_dir) == {
        "public_health/C201/edge-C201-1_000000000001.http": b'{"a": 1}\n{"b": 2}\n',
        "public_health/C201S01/edge-C201-1_000000000003.http": b'{"c": 3}\n',
    }
    assert centre.apply() == 0
    assert centre.store.backlog().chunks == 0


def test_a_delivery_that_comes_again_in_another_epoch_is_not_doubled(
    authority: pki.Authority, centre: Centre, node: Bench
) -> None:
    node.add(b"a", b"b")
    node.drop("his/a.csv", b"x" * (2 << 20))
    node.scan()
    centre.intake.take(node.peer, node.chunks()[:3])  # two records, and a part of the file
    centre.apply()
    assert len(dropped(settings().sources_dir)) == 1
    node.chain.begin_again(authority.register.readmit("C201"))
    node.add(b"c")
    assert centre.intake.take(node.peer, node.chunks()).kept == len(node.chunks())
    centre.apply()
    found = dropped(settings().sources_dir)
    lines = sorted(line for p, c in found.items() if p.endswith(".http") for line in c.splitlines())
    assert lines == [b"a", b"b", b"c"]
    assert [c for p, c in found.items() if p.endswith(".csv")] == [b"x" * (2 << 20)]
    assert centre.store.backlog().chunks == 0


def test_a_node_delivers_for_its_own_institutions_alone(centre: Centre, node: Bench) -> None:
    node.chain.write(
        [node.draft(b"1", org_code="H001"), node.draft(b"2", feed="unheard_of"), node.draft(b"3")]
    )
    centre.intake.take(node.peer, node.chunks())
    centre.apply()
    assert list(dropped(settings().sources_dir).values()) == [b"3\n"]
    rows = (
        centre.store.reading()
        .execute("SELECT seq, code FROM delivery WHERE state = 'failed' ORDER BY seq")
        .fetchall()
    )
    assert rows == [(1, "E285"), (2, "E295")]
    assert [f["code"] for f in centre_store.failed(centre.store)] == ["E285", "E295"]
    assert centre_store.try_again(centre.store) == 2 and centre_store.failed(centre.store) == []
    centre.apply()
    assert len(centre_store.failed(centre.store)) == 2


def test_old_deliveries_are_forgotten(centre: Centre, node: Bench) -> None:
    node.add(b"a")
    centre.intake.take(node.peer, node.chunks())
    centre.apply()
    assert centre_store.forget(centre.store, datetime.now(UTC)) == 0
    assert centre_store.forget(centre.store, datetime.now(UTC) + timedelta(days=401)) == 1


def test_content_that_is_not_what_the_node_took_is_set_aside(centre: Centre, node: Bench) -> None:
    meta = {"name": "a.csv", "group": "ab12", "sha256": "0" * 64}
    node.chain.write([node.draft(b"1", framing="file", delivery="d1", meta=meta), node.draft(b"2")])
    centre.intake.take(node.peer, node.chunks())
    centre.apply()
    assert list(dropped(settings().sources_dir).values()) == [b"2\n"]
    assert centre.store.reading().execute("SELECT code FROM delivery WHERE state = 'failed'").fetchall() == [
        ("E298",)
    ]
    assert list(settings().sources_dir.rglob(".*.part")) == []


@pytest.mark.parametrize(
    "name", ["../a.csv", "/etc/passwd", "a/../../b", "", ".hidden", "a\\b", "a\nb", "x" * 300, "a/.b/c"]
)
def test_names_that_lead_elsewhere(node: Bench, name: str) -> None:
    from ingestion.edge.apply import Delivery

    delivery = Delivery(
        "d", "C201", 1, 1, "his", "C201", "file", "", 0, 0, "", None, "", "2026-11-18", 1, "planned"
    )
    with pytest.raises(MedlakeError) as error:
        _path({"name": name, "group": "ab12"}, delivery)
    assert error.value.code == "E284"
    with pytest.raises(MedlakeError):
        _path({"name": "a.csv", "group": "../x"}, delivery)


def test_an_institution_and_what_is_below_it() -> None:
    assert tree("C201S01") == {"C201S01"}
    assert {"C201", "C201S01"} <= tree("C201") and "C202" not in tree("C201")
    assert {"H101", "C201", "C201S01", "C205"} <= tree("H101") and "C206" not in tree("H101")


def test_the_disk_is_full(authority: pki.Authority, tmp_path: Path) -> None:
    """SQLite's own limit stands for the disk's end: nothing is half taken, and it goes on when there is room."""
    node = Bench(issue(authority, tmp_path, "C204"))
    node.add(b"a")
    with node.spool.writing() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    node.spool._writer.execute(f"PRAGMA max_page_count={pages + 20}")
    path = node.drop("pacs/1.dcm", os.urandom(1 << 20))
    assert node.scan() == 0 and path.exists() and node.folder.refused == {"E283": 1}
    with pytest.raises(MedlakeError) as error:
        node.add(os.urandom(1 << 19))
    assert error.value.code == "E283"
    assert [c.seq for c in node.chunks()] == [1]
    node.spool._writer.execute("PRAGMA max_page_count=1000000")
    assert node.scan() == 1
    assert [c.seq for c in node.chunks()] == [1, 2]
    shutil.rmtree(node.home.folder / "drop")
