"""What counts as a breaking change of a contract, what only adds, and which version each wants."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingestion import contracting
from ingestion.contracting import against
from lake import contracts as dictionary
from lake.contracts import FeedContract, load_contract
from lake.errors import MedlakeError

Node = dict[str, Any]


def _custom(**values: Any) -> list[Node]:
    return [{"property": k, "value": v} for k, v in values.items()]


def _field(name: str, kind: str = "string", **more: Any) -> Node:
    custom = {"labelZh": name, "gbt39725Level": 3} | more.pop("custom", {})
    return {"name": name, "physicalName": name.upper(), "logicalType": kind, "physicalType": "X", "description": name,
            "customProperties": _custom(**custom)} | more  # fmt: skip


BASE: Node = {
    "apiVersion": "v3.1.0",
    "kind": "DataContract",
    "id": "medlake.demo",
    "name": "demo",
    "version": "1.2.0",
    "status": "active",
    "domain": "clinical",
    "description": {"purpose": "x"},
    "team": {"name": "t", "members": [{"username": "data-platform", "role": "owner"}]},
    "slaProperties": [{"property": "grace", "value": 24, "unit": "h"}],
    "customProperties": _custom(labelZh="演示", nationalGrade="一般数据"),
    "schema": [
        {
            "name": "demo_row",
            "description": "rows",
            "customProperties": _custom(labelZh="行", grain="一行", gbt39725Level=4, nationalGrade="一般数据"),
            "properties": [
                _field("row_id", required=True, primaryKey=True, primaryKeyPosition=1),
                _field("weight", "number", custom={"unit": "kg"}),
                _field("sex", custom={"codeSystem": "sex", "gbt39725Level": 4}),
                _field("note"),
            ],
        }
    ],
}  # fmt: skip


@pytest.fixture
def load(tmp_path: Path) -> Callable[[Node], FeedContract]:
    def made(node: Node) -> FeedContract:
        path = tmp_path / "demo.odcs.yaml"
        path.write_text(yaml.safe_dump(node, allow_unicode=True), "utf-8")
        return load_contract(path)

    return made


def _table(node: Node) -> Node:
    return dict.__getitem__(node, "schema")[0]  # type: ignore[no-any-return]


def _props(node: Node) -> list[Node]:
    return _table(node)["properties"]  # type: ignore[no-any-return]


def _set(node: Node, name: str, value: Any) -> None:
    found = [p for p in node["customProperties"] if p["property"] == name]
    if found:
        found[0]["value"] = value
    else:
        node["customProperties"].append({"property": name, "value": value})


def _swap(node: Node) -> None:
    fields = _props(node)
    fields[1], fields[2] = fields[2], fields[1]


CASES: list[tuple[str, Callable[[Node], Any], str, bool, str]] = [
    ("removed", lambda n: _props(n).pop(3), "field_removed", True, "demo.demo_row.note"),
    ("renamed", lambda n: _props(n)[3].update(name="remark"), "field_renamed", True, "demo.demo_row.note"),
    ("narrower", lambda n: _props(n)[3].update(logicalType="integer"), "type_narrowed", True, "demo.demo_row.note"),
    ("wider", lambda n: _props(n)[1].update(logicalType="string"), "type_widened", True, "demo.demo_row.weight"),
    ("must", lambda n: _props(n)[3].update(required=True), "required_added", True, "demo.demo_row.note"),
    ("may", lambda n: _props(n)[0].update(required=False), "required_dropped", False, "demo.demo_row.row_id"),
    ("key", lambda n: _props(n)[3].update(required=True, primaryKey=True), "key_changed", True, "demo.demo_row"),
    ("unit", lambda n: _set(_props(n)[1], "unit", "g"), "unit_changed", True, "demo.demo_row.weight"),
    ("unit now", lambda n: _set(_props(n)[3], "unit", "g"), "unit_changed", False, "demo.demo_row.note"),
    ("codes", lambda n: _set(_props(n)[2], "codeSystem", "abo"), "code_system_changed", True, "demo.demo_row.sex"),
    ("codes now", lambda n: _set(_props(n)[3], "codeSystem", "a"), "code_system_changed", False, "demo.demo_row.note"),
    ("lower", lambda n: _set(_props(n)[2], "gbt39725Level", 2), "level_lowered", True, "demo.demo_row.sex"),
    ("higher", lambda n: _set(_props(n)[3], "gbt39725Level", 4), "level_raised", False, "demo.demo_row.note"),
    ("source", lambda n: _props(n)[3].update(physicalName="N"), "source_name_changed", True, "demo.demo_row.note"),
    ("order", _swap, "order_changed", True, "demo.demo_row"),
    ("added", lambda n: _props(n).append(_field("more")), "field_added", False, "demo.demo_row.more"),
    ("in between", lambda n: _props(n).insert(1, _field("more")), "order_changed", True, "demo.demo_row"),
    ("added must", lambda n: _props(n).append(_field("more", required=True)), "required_field_added", True,
     "demo.demo_row.more"),
    ("label", lambda n: _set(_props(n)[3], "labelZh", "备注"), "label_changed", False, "demo.demo_row.note"),
    ("said", lambda n: _props(n)[3].update(description="other"), "described", False, "demo.demo_row.note"),
    ("element", lambda n: _set(_props(n)[3], "dataElement", "DE01.00.001.00"), "data_element_changed", False,
     "demo.demo_row.note"),
    ("grade", lambda n: _set(_table(n), "nationalGrade", "重要数据"), "grade_changed", False, "demo.demo_row"),
    ("grace", lambda n: n["slaProperties"][0].update(value=48), "grace_changed", False, "demo"),
]  # fmt: skip


#: Changes that one edit makes besides the one it is named by.
ALONG = {"key_changed": {"required_added"}, "order_changed": {"field_added"}}


@pytest.mark.parametrize(
    ("change", "kind", "breaking", "place"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_change_has_its_kind_and_its_place(
    load: Callable[[Node], FeedContract], change: Callable[[Node], Any], kind: str, breaking: bool, place: str
) -> None:
    old, node = load(BASE), copy.deepcopy(BASE)
    change(node)
    found = contracting.diff(old, load(node))
    told = {(c.kind, c.place): c for c in found}
    assert (kind, place) in told, found
    assert told[kind, place].breaking is breaking
    assert told[kind, place].zh and told[kind, place].en
    assert {c.kind for c in found} <= {kind} | ALONG.get(kind, set())


def test_the_same_contract_has_no_change(load: Callable[[Node], FeedContract]) -> None:
    assert contracting.diff(load(BASE), load(copy.deepcopy(BASE))) == []


def test_feeds_and_tables_come_and_go(load: Callable[[Node], FeedContract]) -> None:
    old, node = load(BASE), copy.deepcopy(BASE)
    node["schema"].append(copy.deepcopy(_table(BASE)) | {"name": "second"})
    both = load(node)
    assert [(c.kind, c.breaking, c.place) for c in contracting.diff(old, both)] == [
        ("table_added", False, "demo.second")
    ]
    assert [(c.kind, c.breaking) for c in contracting.diff(both, old)] == [("table_removed", True)]
    assert [(c.kind, c.breaking) for c in contracting.diff(None, old)] == [("feed_added", False)]
    assert [(c.kind, c.breaking) for c in contracting.diff(old, None)] == [("feed_removed", True)]


@pytest.fixture
def site(lake_home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Node], Path]:
    """Writes the site's own contract and gives the file of the version before."""
    before = lake_home.parent / "before.odcs.yaml"
    before.write_text(yaml.safe_dump(BASE, allow_unicode=True), "utf-8")
    monkeypatch.setattr(against, "MIGRATIONS", lake_home / "migrations")

    def put(node: Node) -> Path:
        own = dictionary.site_dir()
        own.mkdir(parents=True, exist_ok=True)
        (own / f".{len(list(own.iterdir()))}").touch()  # the folder has changed, whatever its clock's grain
        (own / "demo.odcs.yaml").write_text(yaml.safe_dump(node, allow_unicode=True), "utf-8")
        return before

    return put


def test_additive_change_wants_a_minor_version(site: Callable[[Node], Path]) -> None:
    node = copy.deepcopy(BASE)
    _props(node).append(_field("more"))
    refused = contracting.review("demo", str(site(node)))["refused"]
    assert [(r["kind"], r["place"]) for r in refused] == [("field_added", "demo.demo_row.more")]
    assert "1.3.0" in refused[0]["remedy_zh"] and "1.3.0" in refused[0]["remedy_en"]
    node["version"] = "1.3.0"
    assert contracting.review("demo", str(site(node))) | {"changes": []} == {
        "against": str(site(node)), "feeds": 1, "breaking": 0, "additive": 1, "refused": [], "changes": [],
    }  # fmt: skip


def test_breaking_change_is_refused_until_a_major_version_says_what_to_do(
    site: Callable[[Node], Path],
) -> None:
    node = copy.deepcopy(BASE)
    _props(node).pop(3)
    node["version"] = "1.3.0"
    (refused,) = contracting.review("demo", str(site(node)))["refused"]
    assert (refused["kind"], refused["place"]) == ("field_removed", "demo.demo_row.note")
    assert "2.0.0" in refused["remedy_zh"] and "demo-2.0.0.yaml" in refused["remedy_en"]
    node["version"] = "2.0.0"
    assert contracting.review("demo", str(site(node)))["refused"]  # the note is missing
    against.MIGRATIONS.mkdir()
    note = against.MIGRATIONS / "demo-2.0.0.yaml"
    note.write_text("changes: [{place: demo.demo_row.other, zh: x, en: x}]", "utf-8")
    assert contracting.review("demo", str(site(node)))["refused"]  # it speaks of something else
    note.write_text("changes: [{place: demo.demo_row.note, zh: x, en: x}]", "utf-8")
    found = contracting.review("demo", str(site(node)))
    assert found["refused"] == [] and found["breaking"] == 1


def test_a_removed_feed_is_refused(site: Callable[[Node], Path]) -> None:
    before = site(BASE)
    (dictionary.site_dir() / "demo.odcs.yaml").unlink()
    (refused,) = contracting.review(None, str(before))["refused"]
    assert (refused["kind"], refused["place"]) == ("feed_removed", "demo")


def test_contracts_of_the_last_commit_are_read_from_git() -> None:
    old = against.earlier("HEAD")
    assert {"his", "lis", "public_health"} <= set(old)
    assert old["his"].tables["patient"].key == ["patient_local_id"]


def test_what_cannot_be_compared_with_is_told() -> None:
    for other in ("no-such-revision", "/no/such/file.odcs.yaml"):
        with pytest.raises(MedlakeError) as caught:
            contracting.review("his", other)
        assert caught.value.code == "E235"


def test_every_migration_note_names_what_changes_and_what_to_do() -> None:
    notes = sorted(against.MIGRATIONS.glob("*.yaml"))
    assert notes
    for note in notes:
        node = yaml.safe_load(note.read_text("utf-8"))
        assert note.name == f"{node['feed']}-{node['version']}.yaml"
        assert int(node["version"].split(".")[0]) <= int(
            dictionary.contract(node["feed"]).version.split(".")[0]
        )
        assert all(c["place"] and c["zh"] and c["en"] for c in node["changes"])


def test_a_site_cannot_take_a_feed_or_a_table_of_the_platform(site: Callable[[Node], Path]) -> None:
    node = copy.deepcopy(BASE)
    _table(node)["name"] = "patient"
    site(node)
    with pytest.raises(MedlakeError) as caught:
        dictionary.contracts()
    assert caught.value.code == "E101" and "patient" in caught.value.en
