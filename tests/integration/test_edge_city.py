"""Two levels of real nodes over real lines: cut, flapping, slow, without power; nothing lost, nothing double."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingestion.edge import pack_build, pki, watch
from ingestion.edge.parameters import parameter
from lake.local_time import SHANGHAI
from lake.settings import settings
from tests.edge_city import PASSPHRASE, City
from tests.edge_net import Proxies, network
from tests.edge_world import dropped, silver


@pytest.fixture
def city(lake_home: Path) -> Iterator[City]:
    made = City(lake_home, pki.init(), network())
    try:
        yield made
    finally:
        made.stop()


def readings(org: str, first: int, count: int) -> bytes:
    rows = (
        {
            "device": f"{org}D1",
            "seq": n,
            "metric": "8867-4",
            "value": 60 + n % 60,
            "unit": "/min",
            "ts_device": f"2026-11-18T08:{n // 60 % 60:02d}:{n % 60:02d}.000+08:00",
        }
        for n in range(first, first + count)
    )
    return b"".join(json.dumps(r).encode() + b"\n" for r in rows)


def seen(sources: Path) -> Counter[tuple[str, int]]:
    """How often each reading is in the centre's drop."""
    found: Counter[tuple[str, int]] = Counter()
    for path, content in dropped(sources).items():
        if path.endswith(".ndjson"):
            found.update((r["device"], r["seq"]) for r in map(json.loads, content.splitlines()))
        elif path.endswith(".http"):
            found.update(
                (r["device"], r["seq"])
                for r in (json.loads(json.loads(line)["record"]) for line in content.splitlines())
            )
    return found


def test_days_apart_on_both_levels(city: City) -> None:
    """Everything that can happen in one story: who took something while apart has it in silver, once."""
    given: Counter[tuple[str, int]] = Counter()

    def drop(node: str, name: str, first: int, count: int) -> None:
        city.drop(node, f"iot/{name}.ndjson", readings(node, first, count))
        given.update((f"{node}D1", n) for n in range(first, first + count))

    def post(node: str, seq: int) -> None:
        body = {"table": "vital_reading", "records": [json.loads(readings(node, seq, 1))]}
        assert city.ask(node, "/ingest/iot", body)["records"] == 1
        given[f"{node}D1", seq] += 1

    nodes = ["C201", "C201S01", "C201S02", "C202"]
    city.add("C201", listens=True, mllp=True)
    city.add("C201S01", "C201")
    city.add("C201S02", "C201")
    city.add("C202")
    for node in nodes:
        city.net.cut(node)
    city.start("C201", "C201S02", "C202")
    city.start("C201S01", MEDLAKE_EDGE_CLOCK_SKEW_SECONDS=str(5 * 3600))
    city.started(*nodes)
    # no network at all, and the power goes
    for node in nodes:
        drop(node, "telemetry_1", 0, 3000)
        post(node, 1_000_000)
    city.until(lambda: all(city.waits(n) >= 2 for n in nodes), *nodes)
    city.power_off("C202")
    drop("C202", "telemetry_2", 10_000, 2000)
    city.start("C202", MEDLAKE_KILL_AT="edge.spooling")
    city.died("C202")
    city.start("C202", MEDLAKE_KILL_AT="edge.taken")
    city.died("C202")
    city.start("C202")
    city.power_off("C201S02")
    city.start("C201S02")
    answer = city.say_hl7(
        "C201", b"MSH|^~\\&|HIS|C201|ML|ML|20261118080000||ADT^A04|M1|P|2.4\rPID|1||P1^^^C201\r"
    )
    assert b"MSA|AA|M1" in answer
    # the stations reach their institution, the institution reaches nobody
    for node in ("C201S01", "C201S02"):
        city.net.restore(node)
    city.until(
        lambda: (city.status("C201") or {}).get("relayed_chunks", 0) >= 4, "C201", "C201S01", "C201S02"
    )
    city.until(
        lambda: city.waits("C201S01") == 0 and city.waits("C201S02") == 0, "C201", "C201S01", "C201S02"
    )
    city.power_off("C201")
    city.start("C201")
    # the network comes back, as networks do; the centre loses power again and again
    for node in ("C201", "C202"):
        city.net.restore(node)
    for point in ("edge.keeping", "edge.kept", "edge.planned", "edge.dropped", "edge.applied"):
        city.start_centre(MEDLAKE_KILL_AT=point)
        city.died("centre")
        drop("C202", f"telemetry_{point[5:]}", 20_000 + 100 * len(given), 50)
    city.start_centre()
    city.net.slow("C202", 40)
    drop("C202", "telemetry_3", 40_000, 1000)
    for _ in range(3):
        for node in ("C201", "C202", "C201S01"):
            city.net.cut(node)
        time.sleep(0.3)
        for node in ("C201", "C202", "C201S01"):
            city.net.restore(node)
        drop("C201S01", f"telemetry_{time.time_ns()}", 50_000 + len(given) * 100, 50)
        time.sleep(0.3)
    city.net.fast("C202")
    sources = settings().sources_dir
    city.until(lambda: sum(seen(sources).values()) >= sum(given.values()), "centre", *nodes)
    city.until(lambda: all(city.waits(n) == 0 for n in nodes), "centre", *nodes)
    assert seen(sources) == given
    _as_the_centre_sees_it(nodes)
    _in_silver(given)


def _as_the_centre_sees_it(nodes: list[str]) -> None:
    rows = {r["node"]: r for r in watch.nodes(datetime.now(UTC))}
    assert [rows[n]["state"] for n in nodes] == ["ok"] * 4
    assert [rows[n]["through"] for n in nodes] == ["", "C201", "C201", ""]
    assert all(rows[n]["pending_chunks"] == 0 and rows[n]["failed"] == 0 for n in nodes)
    assert rows["C201S01"]["offset_ms"] == pytest.approx(-5 * 3600 * 1000, abs=60_000)
    from ingestion.edge import centre_store

    store = centre_store.open_store()
    told = (
        store.reading()
        .execute("SELECT node_at, offset_ms, received_at, data_date FROM delivery WHERE node = 'C201S01'")
        .fetchall()
    )
    store.close()
    for node_at, _, received_at, data_date in told:  # its own clock's word is kept, the day is the centre's
        ahead = datetime.fromisoformat(node_at) - datetime.fromisoformat(received_at)
        assert ahead.total_seconds() > 4 * 3600
        assert data_date == datetime.fromisoformat(received_at).astimezone(SHANGHAI).date().isoformat()
    assert {o for _, o, _, _ in told} - {None}  # measured as soon as there was anybody to ask


def _in_silver(given: Counter[tuple[str, int]]) -> None:
    import ingestion
    from lake import duck, ledger, tables

    hl7 = [p for p in dropped(settings().sources_dir) if p.endswith(".hl7")]
    assert [p.split("/")[:2] for p in hl7] == [["hl7v2", "C201"]]
    for day in sorted(p.name for p in settings().sources_dir.iterdir()):
        done = ingestion.ingest_feed("iot", datetime.fromisoformat(day).date())
        assert (
            done["received"] == done["loaded"] + done["duplicate"] + done["quarantined"]
            and not done["quarantined"]
        )
    at = ledger.visible("silver/")["silver/vital_reading"]
    with duck.connect() as con:
        rows = con.execute(
            f"SELECT device_id, seq FROM {tables.scan_sql('silver/vital_reading', at)}"
        ).fetchall()
    assert Counter(rows) == given


def test_a_stolen_node_is_out(city: City) -> None:
    city.add("C201", listens=True)
    city.add("C201S01", "C201")
    city.add("C202")
    city.start_centre()
    city.start("C201", "C201S01", "C202")
    city.started("C201", "C201S01", "C202")
    for node in ("C201S01", "C202"):
        city.until(lambda node=node: bool((city.status(node) or {}).get("connected")), node)  # type: ignore[misc]
    authority = pki.Authority()
    authority.revoke("C202")
    authority.revoke("C201S01")
    for node in ("C202", "C201S01"):  # on the open connection, then in the handshake
        city.until(
            lambda node=node: not (city.status(node) or {"connected": True})["connected"],
            "centre",
            "C201",
            node,
        )  # type: ignore[misc]
        city.drop(node, "iot/telemetry_1.ndjson", readings(node, 0, 10))
        city.until(lambda node=node: city.waits(node) > 0, node)  # type: ignore[misc]
    city.drop("C201", "iot/telemetry_1.ndjson", readings("C201", 0, 10))
    city.until(lambda: len(seen(settings().sources_dir)) == 10, "centre", "C201")
    assert {device for device, _ in seen(settings().sources_dir)} == {"C201D1"}
    assert all(city.waits(n) > 0 for n in ("C202", "C201S01"))  # it keeps what it has, for nobody to read
    for node in ("C202", "C201S01"):
        for path in city.folder(node).glob("spool.db*"):
            assert b"ts_device" not in path.read_bytes()


def test_a_slow_line_keeps_its_cap_and_goes_on_where_it_was(city: City) -> None:
    city.add("C202", bandwidth_bytes_per_second=400_000)
    city.start_centre()
    city.start("C202")
    city.started("C202")
    content = os.urandom(1_200_000)
    began = time.monotonic()
    city.drop("C202", "pacs/1.dcm", content)
    city.until(
        lambda: (city.status("C202") or {}).get("sent_bytes", 0) > 0 or city.waits("C202") == 1, "C202"
    )
    city.until(lambda: content in dropped(settings().sources_dir).values(), "centre", "C202")
    assert time.monotonic() - began > (len(content) - 400_000 - (1 << 16)) / 400_000


def test_residents_and_rules_without_a_network(city: City) -> None:
    """The pack comes down both levels while there is a network; then look-ups and checks need none."""
    silver(
        "ph_archive",
        [
            {
                "archive_id": "A1",
                "name": "王小明",
                "sex_code": "1",
                "id_no": "429701195803121239",
                "addr_region_code": "429701001201",
                "drug_allergy": "青霉素",
            }
        ],
    )
    city.add("C201", listens=True, unlock="parent")
    city.add("C201S01", "C201")
    city.add("C201S02", "C201", unlock="parent")
    pack_build.build(datetime(2026, 11, 18, tzinfo=UTC).date())
    city.start_centre()
    city.start("C201", "C201S01", "C201S02")
    city.started("C201", "C201S01", "C201S02")
    for node in (
        "C201",
        "C201S02",
    ):  # the centre's secret comes to a station through its institution, which cannot read it
        city.until(
            lambda node=node: (city.status(node) or {}).get("pack_version") == 1,  # type: ignore[misc]
            *("centre", "C201", "C201S02"),
        )
    assert city.status("C201S01")["pack_locked"]  # type: ignore[index]
    assert city.ask("C201S01", "/unlock", {"passphrase": "falsch"}) == (403, "E291")
    assert city.ask("C201S01", "/lookup?way=archive_id&value=A1") == (423, "E289")
    assert city.ask("C201S01", "/unlock", {"passphrase": PASSPHRASE}) == {"locked": False}
    city.until(lambda: (city.status("C201S01") or {}).get("pack_version") == 1, "centre", "C201", "C201S01")
    for node in ("C201", "C201S01"):
        city.net.cut(node)
    for node in ("C201", "C201S01"):
        (found,) = city.ask(node, "/lookup?way=id_no&value=429701195803121239")["residents"]
        assert (found["name"], found["allergies"]) == ("王小明", ["青霉素"])
        told = city.ask(
            node,
            "/check",
            {
                "table": "ph_archive",
                "record": {"archive_id": "A9", "name": "测试", "id_type_code": "01", "id_no": "4297011958"},
            },
        )
        assert {"ARC-001", "ARC-009"} <= {p["rule_id"] for p in told["problems"]}
    # the power goes while there is no network: input works at once, look-ups wait for the passphrase
    city.power_off("C201S01")
    city.start("C201S01")
    city.started("C201S01")
    assert city.ask("C201S01", "/lookup?way=archive_id&value=A1") == (423, "E289")
    assert (
        city.ask(
            "C201S01",
            "/ingest/iot",
            {"table": "vital_reading", "records": [json.loads(readings("C201S01", 1, 1))]},
        )["records"]
        == 1
    )
    assert city.ask("C201S01", "/unlock", {"passphrase": PASSPHRASE}) == {"locked": False}
    assert len(city.ask("C201S01", "/lookup?way=archive_id&value=A1")["residents"]) == 1
    audit = b"".join(p.read_bytes() for p in (city.folder("C201S01") / "home" / "ops").iterdir())
    assert b"edge.lookup" in audit and b"429701195803121239" not in audit


def test_certificates_are_renewed_in_good_time(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:  # two thirds of their life are over when they are made
        patch.setattr(
            pki, "parameter", lambda name, on: 0.5 if name == "certificate_days" else parameter(name, on)
        )
        city.add("C201", listens=True)
        city.add("C201S01", "C201")
    old = {n: (city.folder(n) / "node.crt").read_bytes() for n in ("C201", "C201S01")}
    city.start_centre()
    city.start("C201", "C201S01")
    city.started("C201", "C201S01")
    for node in old:
        city.until(
            lambda node=node: (city.folder(node) / "node.crt").read_bytes() != old[node],
            "centre",
            "C201",
            node,
        )  # type: ignore[misc]
    city.drop("C201S01", "iot/telemetry_1.ndjson", readings("C201S01", 0, 10))
    city.until(lambda: len(seen(settings().sources_dir)) == 10, "centre", "C201", "C201S01")
    assert len(pki.Authority().register.keys("C201S01")) == 2  # once, not at every call


def test_the_local_door(city: City) -> None:
    city.add("C202")
    city.start("C202")
    city.started("C202")
    record = json.loads(readings("C202", 1, 1))
    for path, body, expected in (
        ("/ingest/unheard_of", {"table": "x", "records": [record]}, (400, "E102")),
        ("/ingest/iot", {"table": "x", "records": [record]}, (400, "E268")),
        ("/ingest/iot?org=H001", {"table": "vital_reading", "records": [record]}, (400, "E285")),
        ("/ingest/iot", [1], (400, "E299")),
        ("/check", {"table": "htn_visit", "record": 1}, (400, "E299")),
        ("/lookup?way=shoe_size&value=43", None, (400, "E299")),
    ):
        assert city.ask("C202", path, body) == expected, path
    import urllib.error
    import urllib.request

    port = city.page_port("C202")
    for path, headers in (
        ("/lookup", {}),
        ("/lookup", {"Authorization": "Bearer x"}),
        ("/", {"Host": "evil.example"}),
    ):
        with city.net.inside("C202"), pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers))
        assert error.value.code == 401
    with city.net.inside("C202"), urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_proxies_cut_too(lake_home: Path) -> None:
    """The network for who may not make namespaces does what the tests above need of it."""
    city = City(lake_home, pki.init(), Proxies())
    try:
        city.add("C202")
        city.start_centre()
        city.start("C202")
        city.started("C202")
        city.net.cut("C202")
        city.until(lambda: (city.status("C202") or {"connected": True})["connected"] is False, "C202")
        city.drop("C202", "iot/telemetry_1.ndjson", readings("C202", 0, 100))
        city.until(lambda: city.waits("C202") == 1, "C202")
        city.net.slow("C202", 200)
        city.net.restore("C202")
        city.until(lambda: len(seen(settings().sources_dir)) == 100, "centre", "C202")
        city.net.fast("C202")
        assert (city.end("C202"), city.end("centre")) == (0, 0)
    finally:
        city.stop()
