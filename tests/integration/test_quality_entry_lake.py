"""Entry checks, files and rule authoring on a real lake: what they say is what the day's check says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from starlette.testclient import TestClient
from typer.testing import CliRunner

from lake import audit, tables
from lake.errors import MedlakeError
from lake.settings import settings
from medlake.cli import app
from portal import clients
from portal.app import create_app
from quality import authoring, entry
from quality.authoring import overlay
from quality.rule import rulebook
from quality.shapes import contract_tables
from tests import quality_world as world

DAY = world.DAY_1


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checked city with faults; tests change no table of it."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("entry-lake") / "var"
        patch.setenv("MEDLAKE_HOME", str(home))
        settings.cache_clear()
        world.city(300, faults=True)
        world.deliver(DAY)
        _check()
        yield home
    settings.cache_clear()


def _check() -> None:
    from quality.daily import check

    check(DAY, is_judged=False)


@pytest.fixture(autouse=True)
def no_rules_of_the_site(city: Path) -> Iterator[None]:
    yield
    (city / "quality" / "rules" / "book.json").unlink(missing_ok=True)


def rows(sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(sql).fetchall()


def findings(table: str) -> set[tuple[str, str]]:
    scan = tables.scan_sql("quality/finding")
    return set(
        rows(f"SELECT rule_id, record_key FROM {scan} WHERE table_name = '{table}' AND last_seen_on IS NULL")
    )


def test_a_file_of_the_lakes_rows_has_the_lakes_findings(city: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "visits.csv", tmp_path / "out.parquet"
    columns = "visit_id, archive_id, org_code, visited_on, visit_way_code, sbp_mmhg, dbp_mmhg, heart_rate_bpm, height_cm, " \
        "weight_kg, bmi, visit_class_code, is_referred, next_visit_on, recorded_at, doctor_id"  # fmt: skip
    rows(f"COPY (SELECT {columns} FROM {tables.scan_sql('silver/htn_visit')}) TO '{source}' (HEADER)")
    before = {t: tables.version(t) for t in tables.names()}
    told = entry.check_file(source, "htn_visit", as_of=DAY, with_lake=True, out=out)
    found = set(rows(f"SELECT DISTINCT rule_id, record_key FROM '{out}'"))
    assert found == findings("htn_visit")
    assert told["findings"] == len(found) > 0
    assert {t: tables.version(t) for t in tables.names()} == before


def test_residents_rows_are_looked_up_for_their_own_institution(city: Path) -> None:
    built = entry.build_residents(DAY)
    assert built["rows"] > 1000
    archive, org, visit, on = rows(
        f"SELECT archive_id, org_code, visit_id, visited_on FROM {tables.scan_sql('silver/htn_visit')} "
        "ORDER BY visited_on DESC, archive_id LIMIT 1"
    )[0]
    record = {"archive_id": archive, "visited_on": str(on), "visit_way_code": "1", "sbp_mmhg": 128, "dbp_mmhg": 80,
              "visit_class_code": "1", "heart_rate_bpm": 72}  # fmt: skip
    checker = entry.open_checker()
    (own,) = checker.check("htn_visit", record, org, DAY)["records"]
    assert "HTN-022" in {v["rule_id"] for v in own["violations"]}, "a second visit of that day"
    (same,) = checker.check("htn_visit", record | {"visit_id": visit}, org, DAY)["records"]
    assert "HTN-022" not in {v["rule_id"] for v in same["violations"]}, "the same visit, typed in again"
    (other,) = checker.check("htn_visit", record, "H001", DAY)["records"]
    waiting = {n["rule_id"]: n["why"] for n in other["not_evaluated"]}
    assert waiting["HTN-022"] == "resident_rows"
    many = checker.check("htn_visit", [record] * 12, org, DAY)
    assert len(many["records"]) == 12
    again = entry.build_residents(DAY)
    assert again["rows"] == built["rows"]
    assert len(list((city / "quality" / "entry").glob("*.duckdb"))) == 1
    assert checker.check("htn_visit", record, org, DAY)["records"] == [own]


@pytest.mark.parametrize("table", ["htn_visit", "dm_visit"])
def test_records_typed_in_again_beside_their_residents_rows_have_the_days_findings(
    city: Path, table: str
) -> None:
    """The store keeps of other tables what rules read, and no more: nothing that a rule reads may be missing."""
    if not (city / "quality" / "entry" / "residents.json").exists():
        entry.build_residents(DAY)
    known, checker, wanted = contract_tables()[table], entry.open_checker(), findings(table)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        silver = connection.sql(f"FROM {tables.scan_sql(f'silver/{table}')}").to_arrow_table().to_pylist()
    by_org: dict[str, list[dict[str, Any]]] = {}
    for row in silver:
        by_org.setdefault(row["org_code"], []).append(row)
    judged, wrong, looking_back = 0, [], set()
    of_queries = {r.id for r in rulebook().of_table(table) if r.target(table).query}
    for org, given in sorted(by_org.items(), key=lambda pair: -len(pair[1]))[:6]:
        fields = [f.name for f in known.fields]
        plain = [{f: _as_json(row[f]) for f in fields if row.get(f) is not None} for row in given[:200]]
        told = checker.check(table, plain, org, DAY)["records"]
        for row, record in zip(given, told, strict=False):
            key = "|".join(str(row[k]) for k in known.key)
            found = {v["rule_id"] for v in record["violations"]}
            left = {n["rule_id"] for n in record["not_evaluated"]}
            looking_back |= set(record["evaluated"]) & of_queries
            judged += len(record["evaluated"])
            wrong += [(r, key) for r in found ^ ({r for r, k in wanted if k == key} - left)]
    assert wrong == []
    assert judged > 500 and looking_back, "rules that look back are among them"


def _as_json(value: Any) -> Any:
    return value if isinstance(value, str | bool | int | float) else value.isoformat()


def test_a_dry_run_says_what_the_next_check_finds(city: Path) -> None:
    made = authoring.draft("change", "EXM-003", on=DAY, settings=["tolerance_pct=1"])
    told = authoring.dry_run(made)
    now = len(
        [
            1
            for rule, _ in findings("ph_exam") | findings("htn_visit") | findings("dm_visit")
            if rule == "EXM-003"
        ]
    )
    assert (told["before"], told["failing"], told["newly_failing"]) == (now, now, 0)
    gone = authoring.dry_run(authoring.draft("retire", "HTN-029", on=DAY))
    assert gone["failing"] == 0 and gone["no_longer_failing"] == gone["before"]


NEW = {
    "id": "HTN-901", "title_zh": "收缩压偏高", "title_en": "High", "version": 1, "category": "准确性", "kind": "row",
    "table": "htn_visit", "severity": "warn", "eligibility": "sbp_mmhg is not null", "condition": "sbp_mmhg > :limit",
    "params": {"limit": [{"valid_from": "2020-01-01", "value": 125}]}, "fields": ["sbp_mmhg"],
    "observed": {"sbp_mmhg": "sbp_mmhg"}, "message_zh": "血压{sbp_mmhg}高于{limit}", "remedy_zh": "复测",
    "source_standard": "本地", "verified": "K", "products": {"quality": "show"}, "owner": "公共卫生科",
    "introduced_on": "2026-01-01", "tolerance_pct": 5,
    "examples": [{"expect": "pass", "row": {"sbp_mmhg": 100}}, {"expect": "fail", "row": {"sbp_mmhg": 150}}],
}  # fmt: skip


def test_a_new_rule_goes_from_proposal_to_book_by_two_persons(city: Path) -> None:
    made = authoring.draft("new", "", on=DAY, file=NEW)
    kept = authoring.propose(made, by="管家甲", note="试")
    scan = tables.scan_sql("silver/htn_visit")
    (wanted,) = rows(f"SELECT count(*) FROM {scan} WHERE sbp_mmhg > 125")[0]
    assert kept.dry_run["newly_failing"] == wanted > 0
    assert sum(o["newly_failing"] for o in kept.dry_run["by_org"]) == wanted
    keys = {r[0] for r in rows(f"SELECT visit_id FROM {scan} WHERE sbp_mmhg > 125")}
    samples = kept.dry_run["samples"]["newly_failing"]
    assert len(samples) == 10 and all(s["record_key"] in keys for s in samples)
    assert "HTN-901" not in {r.id for r in rulebook().rules}
    with pytest.raises(MedlakeError, match="E448"):
        authoring.publish(kept.proposal_id, by="管家甲", on=DAY)
    done = authoring.publish(kept.proposal_id, by="管家乙", on=DAY)
    assert (done["version"], done["introduced_on"]) == (1, str(DAY))
    rule = rulebook().rule("HTN-901")
    assert rule.observing(date(2026, 12, 17)) and not rule.observing(date(2026, 12, 18))
    with pytest.raises(MedlakeError, match="E448"):
        authoring.publish(kept.proposal_id, by="管家乙", on=DAY)

    # one institution's own threshold, then retirement; versions count up and stay
    change = authoring.draft("change", "HTN-901", on=DAY, settings=["org.C201.limit=900@2020-01-01"])
    tried = authoring.propose(change, by="管家甲")
    own = rows(f"SELECT count(*) FROM {scan} WHERE sbp_mmhg > 125 AND org_code = 'C201'")[0][0]
    assert tried.dry_run["no_longer_failing"] == own > 0
    assert [o["org_code"] for o in tried.dry_run["by_org"]] == ["C201"]
    assert authoring.publish(tried.proposal_id, by="管家乙", on=DAY)["version"] == 2
    gone = authoring.propose(authoring.draft("retire", "HTN-901", on=DAY), by="管家甲")
    authoring.publish(gone.proposal_id, by="管家丙", on=DAY)
    assert "HTN-901" not in {r.id for r in rulebook().rules}
    steps = [(e["step"], e["version"]) for e in authoring.log("HTN-901")][::-1]
    assert steps == [
        ("proposed", None),
        ("published", 1),
        ("proposed", None),
        ("published", 2),
        ("proposed", None),
        ("retired", 3),
    ]
    assert audit.verify() >= 6
    assert {p.name for p in (overlay.folder() / "published").glob("HTN-901*")} == {
        "HTN-901.v1.yaml",
        "HTN-901.v2.yaml",
    }
    assert authoring.draft("new", "", on=DAY, file=NEW).file["rules"][0]["version"] == 4  # type: ignore[index]


def test_a_change_of_a_shipped_rule_lies_over_it_and_overtaken_proposals_do_not_hold(city: Path) -> None:
    before = rulebook().rule("HTN-013")
    first = authoring.propose(
        authoring.draft("change", "HTN-013", on=DAY, settings=["owner=慢病科"]), by="管家甲"
    )
    second = authoring.propose(
        authoring.draft("change", "HTN-013", on=DAY, settings=["owner=质控科"]), by="管家甲"
    )
    done = authoring.publish(first.proposal_id, by="管家乙", on=DAY)
    assert done["version"] == before.version + 1
    assert (rulebook().rule("HTN-013").owner, len(rulebook().rules)) == (
        "慢病科",
        len({r.id for r in rulebook().rules}),
    )
    with pytest.raises(MedlakeError, match="E448"):
        authoring.publish(second.proposal_id, by="管家乙", on=DAY)
    authoring.reject(second.proposal_id, by="管家乙", note="已被取代")
    states = {p.proposal_id: p.state for p in authoring.proposals() if p.rule_id == "HTN-013"}
    assert states == {first.proposal_id: "published", second.proposal_id: "rejected"}


@pytest.mark.parametrize(
    ("settings_", "place"),
    [
        (["params.nope=3"], "params.nope"),
        (["severity=fatal"], "htn.yaml:rules/28/severity"),
        (["condition=no_such_column > 1"], "HTN-019:examples/0"),
        (["params.max_daily=1@2020-01-01"], "HTN-019:examples/0"),
        (["org.X999.max_daily=3"], "org.X999.max_daily"),
        (["params.max_daily=many"], "params.max_daily"),
        (["id=HTN-999"], "id"),
    ],
)
def test_a_change_that_does_not_hold_together_is_refused_at_its_place(
    city: Path, settings_: list[str], place: str
) -> None:
    with pytest.raises(MedlakeError) as error:
        authoring.draft("change", "HTN-019", on=DAY, settings=settings_, place="HTN-019")
    assert error.value.code == "E447"
    assert error.value.place.split("/")[0].split(":")[0] == place.split("/")[0].split(":")[0]
    assert error.value.place.split("/")[-1] == place.split("/")[-1]


def test_the_form_over_http_takes_two_scopes_and_named_persons(city: Path) -> None:
    door = TestClient(create_app(), raise_server_exceptions=False)

    def token(*scopes: str, actor: str | None = "管家甲") -> dict[str, str]:
        headers = {"authorization": f"Bearer {clients.create('H001', scopes)[1]}"}
        return headers | ({"X-Actor": actor.encode().decode("latin-1")} if actor else {})

    body = {"action": "change", "rule_id": "HTN-013", "settings": ["owner=x"]}
    assert (
        door.post("/quality/rules/dry-run", json=body, headers=token("rules", actor=None)).json()["code"]
        == "E426"
    )
    tried = door.post("/quality/rules/dry-run", json=body, headers=token("rules", actor="anna"))
    assert tried.status_code == 200, tried.text
    assert tried.json()["newly_failing"] == 0
    bad = door.post(
        "/quality/rules/dry-run", json=body | {"settings": ["x=1"]}, headers=token("rules", actor="anna")
    )
    assert (bad.status_code, bad.json()["code"], bad.json()["place"]) == (422, "E447", "x")
    kept = door.post("/quality/rules", json=body, headers=token("rules", actor="anna")).json()
    path = f"/quality/rules/proposals/{kept['proposal_id']}/publish"
    assert door.post(path, json={}, headers=token("rules", actor="bert")).status_code == 403
    assert door.post(path, json={}, headers=token("rules-approve", actor="anna")).json()["code"] == "E448"
    assert door.post(path, json={}, headers=token("rules-approve", actor="bert")).json()["version"] == 2
    told = door.get("/quality/rules/log", headers=token("rules", actor="anna")).json()["rows"]
    assert told[0]["step"] == "published" and told[0]["actor"] == "bert"


def test_the_commands(city: Path, tmp_path: Path) -> None:
    run = CliRunner()

    def asked(*words: str, code: int = 0) -> dict[str, Any]:
        done = run.invoke(app, ["quality", *words, "--json"])
        assert done.exit_code == code, done.output
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))

    source = tmp_path / "visits.csv"
    source.write_text("visit_id,visited_on,sbp_mmhg,dbp_mmhg\nV1,2026-11-01,80,128\n", "utf-8")
    told = asked("check", str(source), "--table", "htn_visit")
    assert (told["rows"], told["as_of"]) == (1, "2026-11-01") and told["findings"] >= 1
    assert run.invoke(app, ["quality", "check", str(source)]).exit_code == 2
    assert run.invoke(app, ["quality", "check"]).exit_code == 2
    file = tmp_path / "rule.yaml"
    file.write_text(yaml.safe_dump(NEW | {"id": "HTN-902"}, allow_unicode=True), "utf-8")
    kept = asked("rules", "new", str(file), "--by", "anna")
    assert kept["newly_failing"] > 0
    assert asked("rules", "publish", kept["proposal_id"], "--by", "anna", code=1)["error"] == "E448"
    assert asked("rules", "publish", kept["proposal_id"], "--by", "bert", "--on", str(DAY))["version"] == 1
    assert "HTN-902" in {r["rule_id"] for r in asked("rules", "list", "--domain", "HTN")["rows"]}
    assert asked("rules", "show", "HTN-902")["version"] == 1
    assert asked("rules", "show", "HTN-999", code=1)["error"] == "E449"
    assert asked("rules", "log", "HTN-902")["rows"][0]["step"] == "published"
    assert asked("entry-store", "--date", str(DAY))["rows"] > 0
