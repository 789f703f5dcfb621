"""The registry over FHIR as it runs: ``medlake serve`` on a linked and indexed city, asked over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

import empi
from bench import empi_city
from empi import online, state
from empi.online import Query
from lake import audit, ops
from lake.access_tables import audit_person
from lake.settings import settings
from portal import clients
from tests.fhir_shapes import problems
from tests.upload_world import serving

DAY = date(2026, 11, 20)
RESIDENT_ID = "urn:oid:2.16.156.10011.1.3"
JSON = {"content-type": "application/fhir+json"}


@dataclass
class City:
    base: str
    words: dict[str, str]
    home: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, method: str, path: str, who: str | None = "both", **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.words[who]}"} if who else {}
        headers |= more.pop("headers", {})
        answer = httpx.request(method, f"{self.base}/fhir{path}", headers=headers, timeout=60, **more)
        assert answer.headers["content-type"] == "application/fhir+json"
        assert problems(answer.json()) == []
        return answer

    def operation(self, name: str, *parts: dict[str, Any], **more: Any) -> httpx.Response:
        return self.ask(
            "POST", f"/Patient/${name}", json={"resourceType": "Parameters", "parameter": list(parts)},
            **{"headers": JSON, **more},
        )  # fmt: skip

    def match(self, row: dict[str, Any], *parts: dict[str, Any], **more: Any) -> httpx.Response:
        return self.operation("match", {"name": "resource", "resource": patient(row)}, *parts, **more)


def patient(row: dict[str, Any]) -> dict[str, Any]:
    """A registration as a FHIR Patient."""
    from bench.match_queries import patient as written

    return written(row)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    """1,500 residents; tokens that may ask, merge, both, or only upload."""
    home = tmp_path_factory.mktemp("fhir") / "var"
    with pytest.MonkeyPatch.context() as patch:
        empi_city.prepare(str(home), 1500, 11)
        patch.setenv("MEDLAKE_HOME", str(home))
        settings.cache_clear()
        empi.link(DAY)
        online.build()
        scopes = {
            "ask": ["empi"],
            "change": ["empi-merge"],
            "both": ["empi", "empi-merge"],
            "upload": ["iot"],
        }
        words = {who: clients.create("H101", found, note="门诊建档")[1] for who, found in scopes.items()}
        connection = duckdb.connect()
        connection.execute(f"ATTACH '{state.path()}' AS kept (READ_ONLY)")
        rows = (
            connection.execute(
                f"""SELECT t.*, r.idno, r.id_own, p.empi_id FROM read_parquet('{home}/city/registration.parquet') t
                JOIN kept.record r ON (r.source_system, r.org_code, r.identifier_value)
                    = (t.source_system, t.org_code, t.local_id)
                JOIN kept.person p USING (rec_id) ORDER BY t.source_system, t.org_code, t.local_id"""
            )
            .to_arrow_table()
            .to_pylist()
        )
        connection.close()
        with serving(home, words["both"], fhir_max_bytes="20000") as server:
            yield City(server.base, words, home, rows)
    settings.cache_clear()


@pytest.fixture(autouse=True)
def _home(city: City, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MEDLAKE_HOME", str(city.home))
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def known(city: City) -> dict[str, Any]:
    """A registration of the hospital register whose number is its own, of an active person."""
    return next(r for r in city.rows if r["id_own"] and r["source_system"] == "his" and r["sex_code"] in "12")


def entries(city: City, since: int) -> list[dict[str, Any]]:
    """Audit entries after one of them."""
    table = ops.audit_entry
    with ops.engine().begin() as connection:
        query = table.select().where(table.c.seq > since).order_by(table.c.seq)
        return [json.loads(row.entry) | {"seq": row.seq} for row in connection.execute(query)]


def residents(entry: dict[str, Any]) -> set[str]:
    """Whom an entry is about: kept beside the chain."""
    with ops.engine().begin() as connection:
        query = audit_person.select().where(audit_person.c.seq == entry["seq"])
        return {row.empi_id for row in connection.execute(query)}


def last_entry() -> int:
    with ops.engine().begin() as connection:
        rows = connection.execute(
            ops.audit_entry.select().order_by(ops.audit_entry.c.seq.desc()).limit(1)
        ).all()
    return rows[0].seq if rows else 0


def code(answer: httpx.Response) -> str:
    return str(answer.json()["issue"][0]["details"]["coding"][0]["code"])


def test_anybody_may_read_what_the_service_can_do(city: City) -> None:
    told = city.ask("GET", "/metadata", None).json()
    assert (told["resourceType"], told["fhirVersion"]) == ("CapabilityStatement", "4.0.1")
    names = {o["name"] for o in told["rest"][0]["resource"][0]["operation"]}
    assert names == {"match", "merge", "unmerge", "ihe-pix", "lookup"}


def test_matching_over_http_is_the_indexs_own(city: City) -> None:
    index = online.open_index()
    asked = [r for r in city.rows[::37] if r["name"]]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(city.match, asked))
    right = 0
    for row, answer in zip(asked, answers, strict=True):
        given = {
            k: row[k] for k in ("name", "birth_date", "id_no", "health_card_no", "insurance_no", "phone")
        }
        given |= {k: row[k] for k in ("contact_name", "contact_phone", "addr_detail")}
        sex = row["sex_code"] if row["sex_code"] in ("1", "2") else None
        hits = index.match(Query(**given, sex_code=sex, org_code="H101"))
        bundle = answer.json()
        assert (answer.status_code, bundle["type"], bundle["total"]) == (200, "searchset", len(hits))
        told = [
            (e["resource"]["id"], e["search"]["extension"][0]["valueCode"], e["search"]["score"])
            for e in bundle.get("entry", [])
        ]
        assert told == [(h.empi_id, h.grade, pytest.approx(h.score, abs=1e-6)) for h in hits]
        right += bool(hits) and hits[0].empi_id == row["empi_id"]
    assert right > 0.95 * len(asked)


def test_certain_matches_only_and_at_most_so_many(city: City, known: dict[str, Any]) -> None:
    certain = {"name": "onlyCertainMatches", "valueBoolean": True}
    found = city.match(known, certain).json()
    assert [e["resource"]["id"] for e in found["entry"]] == [known["empi_id"]]
    bare = {"resourceType": "Patient", "name": [{"text": known["name"]}], "gender": "male"}
    vague = city.operation("match", {"name": "resource", "resource": bare}, certain).json()
    assert vague["total"] == 0 and "entry" not in vague
    assert city.match(known, {"name": "count", "valueInteger": 1}).json()["total"] == 1
    direct = city.ask("POST", "/Patient/$match", json=patient(known), headers=JSON).json()
    assert direct["entry"][0]["resource"]["id"] == known["empi_id"]


def test_a_guarded_match_says_why_and_is_never_certain(city: City, known: dict[str, Any]) -> None:
    from empi.online.single import check_digit

    first = known["idno"][:14] + f"{(int(known['idno'][14:17]) + 2) % 1000:03d}"
    other = known | {"id_no": first + check_digit(first)}
    hits = {e["resource"]["id"]: e["search"] for e in city.match(other).json().get("entry", [])}
    told = {e["url"]: e["valueCode"] for e in hits[known["empi_id"]]["extension"]}
    assert told["urn:hmg:ext:match-guard"] == "two_ids"
    assert told["http://hl7.org/fhir/StructureDefinition/match-grade"] == "possible"


def test_the_golden_record(city: City, known: dict[str, Any]) -> None:
    found = city.ask("GET", f"/Patient/{known['empi_id']}", "ask").json()
    assert (found["id"], found["active"]) == (known["empi_id"], True)
    values = {(i["system"], i["value"]) for i in found["identifier"]}
    mine = f"urn:hmg:org:{known['org_code']}:patient"
    assert {(RESIDENT_ID, known["idno"]), (mine, known["local_id"]), ("urn:hmg:empi", found["id"])} <= values
    official = next(n for n in found["name"] if n.get("use") == "official")
    assert official["text"] == official["family"] + "".join(official.get("given", []))
    sources = {o["other"]["identifier"]["value"] for o in found["link"] if o["type"] == "seealso"}
    assert sources == {r["local_id"] for r in city.rows if r["empi_id"] == known["empi_id"]}


def test_searching_by_identifier(city: City, known: dict[str, Any]) -> None:
    local = f"urn:hmg:org:{known['org_code']}:patient|{known['local_id']}"
    number = f"{RESIDENT_ID}|{known['idno']}"

    def ids(**given: Any) -> list[str]:
        bundle = city.ask("GET", "/Patient", params=given).json()
        return [e["resource"]["id"] for e in bundle.get("entry", [])]

    mine = [known["empi_id"]]
    assert ids(identifier=number) == ids(identifier=local) == ids(identifier=known["idno"].lower()) == mine
    assert ids(identifier=f"urn:hmg:empi|{known['empi_id']}") == ids(_id=known["empi_id"]) == mine
    assert ids(identifier=[number, local]) == ids(identifier=f"{RESIDENT_ID}|0,{local}") == mine
    assert ids(identifier=[number, f"{RESIDENT_ID}|0"]) == ids(identifier="urn:x|1") == []
    assert ids(identifier=f"urn:oid:2.16.156.10011.1.19|{known['idno']}") == []
    posted = city.ask("POST", "/Patient/_search", data={"identifier": number}).json()
    assert [e["resource"]["id"] for e in posted["entry"]] == mine
    for wrong in ({}, {"identifier": f"{RESIDENT_ID}|"}, {"identifier": "|1"}, {"name": "王"}):
        answer = city.ask("GET", "/Patient", params=wrong)
        assert (answer.status_code, code(answer)) == (400, "E339")


def test_one_code_to_the_resident(city: City, known: dict[str, Any]) -> None:
    def ids(answer: httpx.Response) -> list[str]:
        return [e["resource"]["id"] for e in answer.json().get("entry", [])]

    mine = known["empi_id"]
    assert mine in ids(city.ask("GET", "/Patient/$lookup", params={"code": known["idno"]}))
    given = {"code": known["local_id"], "org": known["org_code"]}
    assert ids(city.ask("POST", "/Patient/$lookup", data=given)) == [mine]
    asked = {"name": "code", "valueString": known["idno"]}
    assert mine in ids(city.operation("lookup", asked))
    assert ids(city.ask("GET", "/Patient/$lookup", params={"code": "429701195803129999"})) == []
    assert city.ask("GET", "/Patient/$lookup", params={"code": " "}).status_code == 400


def test_pixm(city: City, known: dict[str, Any]) -> None:
    local = f"urn:hmg:org:{known['org_code']}:patient"

    def pix(**given: Any) -> httpx.Response:
        return city.ask("GET", "/Patient/$ihe-pix", params=given)

    everything = pix(sourceIdentifier=f"{RESIDENT_ID}|{known['idno']}").json()["parameter"]
    values = {(p["valueIdentifier"]["system"], p["valueIdentifier"]["value"]) for p in everything[:-1]}
    assert (local, known["local_id"]) in values and (RESIDENT_ID, known["idno"]) not in values
    assert everything[-1]["name"] == "targetId"
    assert everything[-1]["valueReference"]["reference"].endswith(f"/fhir/Patient/{known['empi_id']}")
    one = pix(sourceIdentifier=f"{local}|{known['local_id']}", targetSystem=RESIDENT_ID).json()["parameter"]
    assert [p["valueIdentifier"]["value"] for p in one] == [known["idno"]]
    nothing = pix(sourceIdentifier=f"{local}|{known['local_id']}", targetSystem="urn:hmg:org:H001:pacs")
    assert (nothing.status_code, nothing.json()) == (200, {"resourceType": "Parameters"})
    for given, status, words in (
        ({"sourceIdentifier": "urn:oid:1.2.3|7"}, 400, "sourceIdentifier Assigning Authority not found"),
        ({"sourceIdentifier": f"{local}|nobody"}, 404, "sourceIdentifier Patient Identifier not found"),
        (
            {"sourceIdentifier": f"{local}|{known['local_id']}", "targetSystem": "urn:oid:1.2.3"},
            403,
            "targetSystem not found",
        ),
    ):
        answer = pix(**given)
        assert (answer.status_code, answer.json()["issue"][0]["details"]["text"]) == (status, words)
    assert pix().status_code == pix(sourceIdentifier="7").status_code == 400


def reference(name: str, empi_id: str) -> dict[str, Any]:
    return {"name": name, "valueReference": {"reference": f"Patient/{empi_id}"}}


def pair(city: City, archives: bool) -> tuple[str, str]:
    """Two persons, both with a health archive in use or the second without any."""
    sources: dict[str, set[str]] = {}
    for row in city.rows:
        sources.setdefault(row["empi_id"], set()).add(row["source_system"])
    having = sorted(e for e, s in sources.items() if "public_health" in s)
    without = sorted(e for e, s in sources.items() if "public_health" not in s)
    return (having[0], having[1]) if archives else (having[2], without[0])


def test_a_merge_is_applied_at_once_and_undone(city: City) -> None:
    target, source = pair(city, archives=False)
    before = [city.ask("GET", f"/Patient/{e}").json() for e in (target, source)]
    both = reference("target-patient", target), reference("source-patient", source)
    shown = city.operation("merge", *both, {"name": "preview", "valueBoolean": True})
    assert shown.status_code == 200
    assert [city.ask("GET", f"/Patient/{e}").json() for e in (target, source)] == before
    seen = last_entry()
    headers = JSON | {"x-actor": "10086", "x-purpose-of-use": "PATADMIN", "idempotency-key": "merge-0001"}
    done = city.operation("merge", *both, {"name": "reason", "valueString": "持证核实"}, headers=headers)
    assert done.status_code == 200
    parts = {p["name"]: p for p in done.json()["parameter"]}
    result = parts["result"]["resource"]
    links = {(o["type"], o["other"].get("reference")) for o in result["link"]}
    assert result["id"] == target and ("replaces", f"Patient/{source}") in links
    preview = {p["name"]: p for p in shown.json()["parameter"]}["result"]["resource"]
    assert preview["link"] == result["link"]
    assert {e["purpose"] for e in entries(city, seen) if e["action"] == "fhir_merge"} == {"PATADMIN"}
    assert all(e["actor"].endswith("/10086") for e in entries(city, seen))
    again = city.operation("merge", *both, headers=headers).json()
    assert {p["name"]: p for p in again["parameter"]}["change-id"] == parts["change-id"]
    retired = city.ask("GET", f"/Patient/{source}").json()
    led = [{"other": {"reference": f"Patient/{target}"}, "type": "replaced-by"}]
    assert retired == {"resourceType": "Patient", "id": source, "active": False, "link": led}
    theirs = next(r for r in city.rows if r["empi_id"] == source)
    token = f"urn:hmg:org:{theirs['org_code']}:patient|{theirs['local_id']}"
    if theirs["source_system"] == "his":
        found = city.ask("GET", "/Patient", params={"identifier": token}).json()
        assert [e["resource"]["id"] for e in found["entry"]] == [target]
    refused = city.operation("merge", *both, headers=JSON)
    assert (refused.status_code, code(refused)) == (422, "E321")
    undone = city.operation("unmerge", reference("source-patient", source))
    assert undone.status_code == 200
    assert {p["name"]: p for p in undone.json()["parameter"]}["result"]["resource"]["id"] == source
    assert [city.ask("GET", f"/Patient/{e}").json() for e in (target, source)] == before
    by_change = {"name": "change-id", "valueString": parts["change-id"]["valueString"]}
    assert city.operation("unmerge", by_change).status_code == 200  # the same undo again changes nothing
    nothing = city.operation("unmerge", {"name": "change-id", "valueString": "C0"})
    assert (nothing.status_code, code(nothing)) == (404, "E322")


def test_two_archives_are_merged_by_two_people(city: City) -> None:
    target, source = pair(city, archives=True)
    answer = city.operation("merge", reference("target-patient", target), reference("source-patient", source))
    assert answer.status_code == 202
    parts = {p["name"]: p for p in answer.json()["parameter"]}
    assert parts["outcome"]["resource"]["issue"][0]["severity"] == "information"
    table = ops.work_request
    with ops.engine().begin() as connection:
        asked = connection.execute(
            table.select().where(table.c.request_key == parts["request-key"]["valueString"])
        ).one()
    assert asked.kind == "empi_review"
    for empi_id in (target, source):
        assert city.ask("GET", f"/Patient/{empi_id}").json()["active"] is True


def test_whoever_is_named_badly_is_not_merged(city: City, known: dict[str, Any]) -> None:
    other = next(r for r in city.rows if r["id_own"] and r["empi_id"] != known["empi_id"])
    target = reference("target-patient", known["empi_id"])
    both = [
        {"name": "source-patient-identifier", "valueIdentifier": {"system": RESIDENT_ID, "value": v}}
        for v in (known["idno"], other["idno"])
    ]
    nobody = {"name": "source-patient-identifier", "valueIdentifier": {"system": RESIDENT_ID, "value": "0"}}
    for parts in (both, [nobody]):
        answer = city.operation("merge", target, *parts)
        assert (answer.status_code, code(answer)) == (422, "E348")
    wrong: list[list[dict[str, Any]]] = [
        [],
        [{"name": "source-patient", "valueString": "x"}],
        [reference("source-patient", other["empi_id"]), {"name": "result-patient", "resource": {}}],
    ]
    for parts in wrong:
        assert city.operation("merge", target, *parts).status_code == 400
    itself = city.operation("merge", target, reference("source-patient", known["empi_id"]))
    assert (itself.status_code, code(itself)) == (422, "E321")


def test_tokens_and_their_scopes(city: City, known: dict[str, Any]) -> None:
    path = f"/Patient/{known['empi_id']}"
    refused = city.ask("GET", path, None)
    assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Bearer")
    for who, method, asked in (
        ("upload", "GET", path),
        ("change", "GET", path),
        ("ask", "POST", "/Patient/$merge"),
        ("ask", "POST", "/Patient/$unmerge"),
    ):
        answer = city.ask(method, asked, who, headers=JSON)
        assert (answer.status_code, code(answer)) == (403, "E342")
    token_id, word = clients.create("H101", ["empi"])
    city.words["short"] = word
    assert city.ask("GET", path, "short").status_code == 200
    clients.revoke(token_id)
    assert city.ask("GET", path, "short").status_code == 401


@pytest.mark.parametrize(
    ("body", "kind", "status", "number"),
    [
        (b"{", "application/fhir+json", 400, "E338"),
        (b"[]", "application/json", 400, "E338"),
        (b"[" * 15_000, "application/json", 400, "E338"),
        (b'{"resourceType":"Bundle"}', "application/fhir+json", 400, "E338"),
        (b'{"resourceType":"Parameters"}', "application/fhir+json", 400, "E338"),
        (b'{"resourceType":"Patient"}', "application/fhir+json", 422, "E340"),
        (b'{"resourceType":"Patient","gender":"male"}', "application/fhir+json", 422, "E340"),
        (b'{"resourceType":"Patient","name":"\xe7\x8e\x8b"}', "application/fhir+json", 400, "E338"),
        (b'{"resourceType":"Patient","name":[{"text":7}]}', "application/fhir+json", 400, "E338"),
        (b'{"resourceType":"Patient","birthDate":"1958-02-30"}', "application/fhir+json", 400, "E338"),
        (b'{"resourceType":"Patient","birthDate":"12.3.1958"}', "application/fhir+json", 400, "E338"),
        (
            b'{"resourceType":"Patient","identifier":[{"system":"urn:x"}]}',
            "application/fhir+json",
            400,
            "E338",
        ),
        (b"x" * 20_001, "application/fhir+json", 413, "E344"),
        (b"<Parameters/>", "application/fhir+xml", 415, "E345"),
    ],
)
def test_bad_requests(city: City, body: bytes, kind: str, status: int, number: str) -> None:
    answer = city.ask("POST", "/Patient/$match", content=body, headers={"content-type": kind})
    assert (answer.status_code, code(answer)) == (status, number)


def test_bad_parameters_headers_and_paths(city: City, known: dict[str, Any]) -> None:
    for part in (
        {"name": "count", "valueInteger": 0},
        {"name": "count", "valueString": "5"},
        {"name": "count", "valueBoolean": True},
        {"name": "onlyCertainMatches", "valueInteger": 1},
        {"name": "resource", "resource": {"resourceType": "Patient"}},
    ):
        answer = city.match(known, part)
        assert (answer.status_code, code(answer)) == (400, "E339")
    path = f"/Patient/{known['empi_id']}"
    for headers in ({"x-purpose-of-use": "王小东"}, {"x-actor": "a b"}, {"idempotency-key": "short"}):
        raw = {k: v.encode() for k, v in headers.items()}
        answer = city.ask("GET", path, headers=raw)
        assert (answer.status_code, code(answer)) == (400, "E346")
    assert city.ask("GET", path, headers={"accept": "application/fhir+xml"}).status_code == 406
    assert city.ask("GET", path, params={"_format": "xml"}).status_code == 406
    missing = city.ask("GET", "/Patient/E000000000000")
    assert (missing.status_code, code(missing)) == (404, "E341")
    assert city.ask("GET", "/Observation").status_code == 404
    assert city.ask("DELETE", path).status_code == 405


def test_the_audit_tells_who_and_why_and_nothing_of_anybody(city: City, known: dict[str, Any]) -> None:
    seen = last_entry()
    city.match(known, headers=JSON | {"x-purpose-of-use": "TREAT"})
    city.ask("GET", "/Patient", "ask", params={"identifier": f"{RESIDENT_ID}|{known['idno']}"})
    city.ask("GET", "/Patient/E000000000000", "ask")
    matched, searched, missed = entries(city, seen)
    assert (matched["action"], matched["purpose"]) == ("fhir_match", "TREAT")
    assert matched["rows"] >= 1 and {"name", "id_no"} <= set(matched["fields"])
    assert (searched["purpose"], searched["fields"], searched["rows"]) == ("门诊建档", ["identifier"], 1)
    assert (missed["rows"], missed["result"]) == (0, "E341")
    assert residents(searched) == {known["empi_id"]} <= residents(matched)
    audit.verify()
    told = json.dumps(entries(city, 0), ensure_ascii=False)
    logged = "".join(p.read_text("utf-8") for p in (city.home / "logs").glob("*.jsonl"))
    for value in (
        known["idno"],
        known["name"],
        known["local_id"],
        known["empi_id"],
        known["phone"] or "1390",
    ):
        assert value not in told and value not in logged


def test_without_an_index_it_says_so(city: City, known: dict[str, Any]) -> None:
    from empi.online.making import link

    at = link().readlink()
    link().unlink()
    try:
        answer = city.match(known)
        assert (answer.status_code, code(answer)) == (503, "E337")
    finally:
        link().symlink_to(at)
    assert city.match(known).status_code == 200
