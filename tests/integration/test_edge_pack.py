"""Packs: built from silver for exactly a node's own institutions, sealed, signed, found again, followed by what changed."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestion.edge import entry_check, pack_build, pack_files, pki
from ingestion.edge.pack_store import PackStore
from lake.errors import MedlakeError
from lake.settings import settings
from tests.edge_world import AT, issue, silver

DAY = AT.date()
WANG = {
    "archive_id": "A1",
    "name": "王小明",
    "sex_code": "1",
    "birth_date": date(1958, 3, 12),
    "id_type_code": "01",
    "id_no": "429701195803121239",
    "phone": "13912345678",
    "drug_allergy": "青霉素、磺胺",
    "addr_region_code": "429701001201",
    "status_code": "0",
    "is_dead": False,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A lake and its nodes' folders, made once; each test works on a copy."""
    root = tmp_path_factory.mktemp("packs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(root / "var"))
        settings.cache_clear()
        _fill(root)
    settings.cache_clear()
    yield root


@pytest.fixture
def authority(world: Path, lake_home: Path, tmp_path: Path) -> pki.Authority:
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    return pki.Authority()


def _fill(tmp_path: Path) -> None:
    made = pki.init()
    for node, parent in (
        ("C201", "centre"),
        ("H101", "centre"),
        ("C202", "centre"),
        ("C201S01", "C201"),
        ("C201S02", "C201"),
    ):
        issue(made, tmp_path, node, parent=parent)
    silver(
        "ph_archive",
        [
            WANG,
            {
                "archive_id": "A2",
                "name": "李丽",
                "sex_code": "2",
                "birth_date": date(1990, 1, 1),
                "id_no": "429701199001012222",
                "addr_region_code": "429701001202",
            },
        ],
    )
    silver(
        "ph_archive",
        [
            WANG
            | {
                "archive_id": "B1",
                "org_code": "C202",
                "name": "赵六",
                "id_no": "429701196001011111",
                "drug_allergy": "头孢",
            }
        ],
    )
    silver(
        "patient",
        [
            {
                "patient_local_id": "P1",
                "name": "王小明",
                "birth_date": date(1958, 3, 12),
                "id_no": "429701195803121239",
                "health_card_no": "HC1",
            }
        ],
    )
    silver("allergy", [{"allergy_id": "L1", "patient_local_id": "P1", "allergen_name": "花生"}])
    silver("htn_card", [{"card_id": "K1", "archive_id": "A1", "status_code": "active"}])
    visit = {
        "visit_id": "V1",
        "archive_id": "A1",
        "visited_on": DAY - timedelta(days=80),
        "next_visit_on": DAY + timedelta(days=10),
        "drugs": "氨氯地平 5mg qd",
    }
    silver(
        "htn_visit",
        [
            visit,
            visit
            | {
                "visit_id": "V0",
                "visited_on": DAY - timedelta(days=170),
                "next_visit_on": DAY,
                "drugs": "旧药",
            },
        ],
    )
    silver("encounter", [{"encounter_id": "E1", "patient_local_id": "P1"}])
    item = {
        "rx_no": "R1",
        "item_no": 1,
        "encounter_id": "E1",
        "drug_name": "阿司匹林",
        "dose": 100.0,
        "dose_unit": "mg",
        "days": 30,
    }
    silver(
        "prescription_item",
        [
            item | {"rx_at": AT - timedelta(days=10)},
            item | {"item_no": 2, "drug_name": "停用药", "rx_at": AT - timedelta(days=40)},
        ],
    )


def received(authority: pki.Authority, tmp_path: Path, node: str) -> PackStore:
    """The node's store with the newest pack in it."""
    from ingestion.edge import config

    home = config.load(tmp_path / node)
    store = PackStore(home.folder / "pack.db", node, home.centre)
    store.unlock(authority.pack_secret(node))
    data = pack_files.following(node, store.version)
    if data:
        store.take(data)
    return store


def names(store: PackStore) -> set[str]:
    """Everybody in a pack, by the tokens of their archives and local numbers."""
    ways = [("archive_id", a) for a in ("A1", "A2", "B1")] + [("patient_local_id", "P1")]
    return {r["name"] for way, value in ways for r in store.find(way, value)}


def test_what_a_node_is_told_of_a_resident(authority: pki.Authority, tmp_path: Path) -> None:
    assert pack_build.build(DAY)["nodes"] == 5
    store = received(authority, tmp_path, "C201")
    both = store.find("id_no", " 429701195803121239 ")  # the index does not know yet that they are one
    (wang,) = [r for r in both if r["archive_id"]]
    assert len(both) == 2
    assert wang["archive_id"] == ["A1"] and wang["allergies"] == ["磺胺", "青霉素"]
    assert [(d["source"], d["drug"]) for d in wang["drugs"]] == [("htn", "氨氯地平 5mg qd")]
    assert wang["due"] == [
        {
            "programme": "htn",
            "due_on": str(DAY + timedelta(days=10)),
            "last_on": str(DAY - timedelta(days=80)),
        }
    ]
    (patient,) = store.find("health_card_no", "hc1")
    assert patient["allergies"] == ["花生"] and [d["drug"] for d in patient["drugs"]] == ["阿司匹林 100.0mg"]
    assert {
        r["archive_id"][0] if r["archive_id"][0] else ""
        for r in store.find("name_birth", "王小明|1958-03-12")
        if r["archive_id"]
    } == {"A1"}
    assert store.find("id_no", "429701195803121230") == []


def test_one_person_of_the_index_is_one_resident(authority: pki.Authority, tmp_path: Path) -> None:
    import pyarrow as pa

    from lake import ledger, ops, tables

    rows = [("public_health", "A1"), ("his", "P1")]
    columns: dict[str, Any] = {
        "empi_id": ["E1", "E1"], "source_system": [r[0] for r in rows], "org_code": ["C201", "C201"],
        "identifier_type": ["MR", "MR"], "identifier_value": [r[1] for r in rows], "valid_to": pa.array([None, None], pa.date32()),
    }  # fmt: skip
    at = tables.append("silver/person_identifier", pa.table(columns))
    with ops.engine().begin() as connection:
        ledger.set_visible(connection, "silver/person_identifier", at, None)
    pack_build.build(DAY)
    (wang,) = received(authority, tmp_path, "C201").find("id_no", "429701195803121239")
    assert (wang["archive_id"], wang["patient_local_id"], wang["allergies"]) == (
        ["A1"],
        ["P1"],
        ["磺胺", "花生", "青霉素"],
    )
    assert {d["source"] for d in wang["drugs"]} == {"htn", "rx"}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("C201", {"王小明", "李丽"}),
        ("C202", {"赵六"}),
        ("H101", {"王小明", "李丽", "赵六"}),
        ("C201S01", {"王小明"}),
        ("C201S02", {"李丽"}),
    ],
)
def test_nobody_elses_residents(
    authority: pki.Authority, tmp_path: Path, node: str, expected: set[str]
) -> None:
    pack_build.build(DAY)
    assert names(received(authority, tmp_path, node)) == expected


def test_only_what_changed_follows(authority: pki.Authority, tmp_path: Path) -> None:
    pack_build.build(DAY)
    store = received(authority, tmp_path, "C201")
    assert pack_build.build(DAY)["changed"] == 0
    assert pack_files.following("C201", store.version) == b""
    whole = len(pack_files.following("C201", 0))
    silver("ph_archive", [{"archive_id": "A3", "name": "孙七", "id_no": "429701200001013333"}])
    silver("allergy", [{"allergy_id": "L2", "patient_local_id": "P1", "allergen_name": "虾"}])
    assert pack_build.build(DAY, ["C201"])["versions"] == {"C201": 2}
    delta = pack_files.following("C201", 1)
    assert len(delta) < whole / 5
    assert store.take(delta) == 2 and store.version == 2
    assert store.find("health_card_no", "HC1")[0]["allergies"] == ["花生", "虾"]
    assert store.find("archive_id", "A3")[0]["name"] == "孙七"
    assert store.find("archive_id", "A2")[0]["name"] == "李丽"
    with pytest.raises(MedlakeError) as error:
        store.take(delta)
    assert error.value.code == "E290"


def test_who_left_is_gone(authority: pki.Authority, tmp_path: Path) -> None:
    from lake import ledger, ops, tables

    pack_build.build(DAY)
    store = received(authority, tmp_path, "C201")
    assert store.find("patient_local_id", "P1")
    kept = tables.read("silver/patient").to_table().slice(0, 0)
    at = tables.overwrite("silver/patient", kept)
    with ops.engine().begin() as connection:
        ledger.set_visible(connection, "silver/patient", at, None)
    pack_build.build(DAY)
    store.take(pack_files.following("C201", 1))
    assert store.find("patient_local_id", "P1") == [] and store.find("health_card_no", "HC1") == []
    assert store.find("archive_id", "A1")


def test_a_locked_pack_tells_nothing(authority: pki.Authority, tmp_path: Path) -> None:
    pack_build.build(DAY)
    received(authority, tmp_path, "C201").close()
    found = b"".join(p.read_bytes() for p in (tmp_path / "C201").iterdir() if p.is_file())
    for secret in ("王小明".encode(), b"429701195803121239", "青霉素".encode(), b"13912345678"):
        assert secret not in found
    from ingestion.edge import config

    home = config.load(tmp_path / "C201")
    store = PackStore(home.folder / "pack.db", "C201", home.centre)
    assert store.locked and store.version == 1
    with pytest.raises(MedlakeError) as error:
        store.find("archive_id", "A1")
    assert error.value.code == "E289"
    with pytest.raises(MedlakeError) as error:
        store.unlock(b"x" * 32)
    assert error.value.code == "E291"
    store.unlock(authority.pack_secret("C201"))
    assert store.find("archive_id", "A1")


def test_only_the_centres_pack_for_this_node_is_believed(authority: pki.Authority, tmp_path: Path) -> None:
    pack_build.build(DAY)
    from ingestion.edge import config

    home = config.load(tmp_path / "C201")
    good = pack_files.following("C201", 0)
    (length,) = struct.unpack_from("<I", good, 4)
    forged = pack_files.write(
        {"node": "C201", "from": 0, "to": 9}, iter([b"{}"]), authority.pack_secret("C201"), home.key
    )
    bad = [
        good[:-1] + bytes([good[-1] ^ 1]),
        good[:10] + b"x" + good[11:],
        forged,
        pack_files.following("C202", 0),
        b"",
        good[: length + 50],
    ]
    for data in bad:
        with pytest.raises(MedlakeError) as error:
            pack_files.read(data, "C201", home.centre)
        assert error.value.code == "E290"


def test_entries_are_checked_offline(authority: pki.Authority, tmp_path: Path) -> None:
    pack_build.build(DAY)
    store = received(authority, tmp_path, "C201")
    good = {"visit_id": "V9", "archive_id": "A1", "visited_on": str(DAY), "visit_way_code": "1", "sbp_mmhg": "150", "dbp_mmhg": 85,
            "visit_class_code": "2", "recorded_at": f"{DAY} 17:00:00", "next_visit_on": str(DAY + timedelta(days=14))}  # fmt: skip
    found = entry_check.check(store, "htn_visit", good, DAY)
    assert found["resident"] and [p for p in found["problems"] if p["severity"] == "error"] == [], found[
        "problems"
    ]
    # 135/85 at 68 years reaches the goal, so "not satisfied" contradicts it; the pack told the birth date
    wrong = entry_check.check(store, "htn_visit", good | {"sbp_mmhg": 135}, DAY)
    assert "HTN-004" in {p["rule_id"] for p in wrong["problems"]}
    assert all("{" not in p["message_zh"] for p in wrong["problems"])
    unknown = entry_check.check(store, "htn_visit", good | {"sbp_mmhg": 135, "archive_id": "ZZ"}, DAY)
    assert not unknown["resident"] and "HTN-004" not in {p["rule_id"] for p in unknown["problems"]}
    typed = entry_check.check(
        store,
        "htn_visit",
        {"visit_id": "V9", "收缩压": "高", "随访方式": "家庭", "visit_class_code": "77"},
        DAY,
    )
    codes = [(p["rule_id"], p["fields"][0]) for p in typed["problems"]]
    assert (
        ("E211", "sbp_mmhg") in codes
        and ("unmapped", "visit_class_code") in codes
        and ("unmapped", "visit_way_code") not in codes
    )
    assert any(c == "E210" for c, _ in codes)
    with pytest.raises(MedlakeError) as error:
        entry_check.check(store, "unheard_of", {}, DAY)
    assert error.value.code == "E299"
