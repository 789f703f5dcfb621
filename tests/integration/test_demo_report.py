"""The running demo as later checks see it: its report, its sockets, its command line, its closed gate."""

from __future__ import annotations

import json
import sqlite3
from datetime import date
from pathlib import Path

import duckdb
import psutil

from tests.conftest import Demo
from tests.lineage_world import Standard, events


def _listening(demo: Demo) -> dict[int, set[str]]:
    """Addresses on which the demo's processes listen, by port."""
    pids: set[int] = set()
    for note in (demo.home / "run").glob("*.pid"):
        root = psutil.Process(json.loads(note.read_text())["pid"])
        pids |= {p.pid for p in [root, *root.children(recursive=True)]}
    found: dict[int, set[str]] = {}
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.pid in pids:
            found.setdefault(connection.laddr.port, set()).add(connection.laddr.ip)
    return found


def test_report_has_what_later_checks_read(running_demo: Demo) -> None:
    report = json.loads((running_demo.home / "demo.json").read_text())
    assert {
        "seconds_total",
        "seconds_pipeline",
        "stages",
        "peak_rss_mb",
        "peak_tree_mb",
        "urls",
        "ledger",
        "empi",
        "gate",
        "published_at",
    } <= set(report)
    assert {"airflow", "wall", "quality"} <= set(report["urls"])
    assert set(report["ledger"]) == {"received", "loaded", "duplicate", "quarantined"}
    assert set(report["empi"]) == {"precision", "recall", "f1", "exact_clusters"}
    assert 0 < report["seconds_pipeline"] <= report["seconds_total"]
    assert report["peak_rss_mb"] < 2048


def test_the_ledger_balances_and_something_was_refused(running_demo: Demo) -> None:
    counts = running_demo.report["ledger"]
    assert counts["received"] == counts["loaded"] + counts["duplicate"] + counts["quarantined"]
    assert min(counts.values()) > 0


def test_every_step_left_lineage_that_the_standard_accepts(running_demo: Demo) -> None:
    standard = Standard()
    steps = events(running_demo.home / "lineage" / "openlineage.jsonl")
    tasks = events(running_demo.home / "lineage" / "airflow")
    assert [p for e in [*steps, *tasks] for p in standard.problems(e)] == []
    done = {e["job"]["name"]: e for e in steps if e["eventType"] == "COMPLETE"}
    assert {"ingestion.his", "empi.link", "quality.check", "products.build", "products.publish"} <= set(done)
    assert {d["name"] for d in done["empi.link"]["outputs"]} >= {"silver/person", "silver/person_identifier"}
    assert "silver/patient" in {d["name"] for d in done["empi.link"]["inputs"]}
    parent = done["empi.link"]["run"]["facets"]["parent"]
    assert parent["run"]["runId"] in {e["run"]["runId"] for e in tasks}, "the Airflow task around it"


def test_the_published_status_of_every_source(running_demo: Demo) -> None:
    with duckdb.connect(str(running_demo.serving_path.resolve()), read_only=True) as con:
        rows = con.execute(
            "SELECT count(*), sum(received), sum(loaded + duplicate + quarantined), count(*) FILTER (feed = 'referral')"
            " FROM gold.ingest_status"
        ).fetchone()
    assert rows is not None
    assert rows[0] > 20 and rows[3] > 0
    assert rows[1] == rows[2] == running_demo.report["ledger"]["received"]


def test_the_backfill_kept_a_ledger_of_its_partitions(running_demo: Demo) -> None:
    path = running_demo.home / "ops" / "medlake.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as con:
        rows = con.execute(
            "SELECT feed, data_date, state, attempts, files FROM backfill_partition"
        ).fetchall()
    assert {r[2] for r in rows} == {"done"}
    first, last = min(r[1] for r in rows), max(r[1] for r in rows)
    days = (date.fromisoformat(last) - date.fromisoformat(first)).days + 1
    assert len(rows) == days * len({r[0] for r in rows}) and days > 28, "from the early deliveries on"
    assert all((r[3] > 0) == (r[4] > 0) for r in rows), "worked on where something was delivered"
    assert (
        len({r[1] for r in rows if r[4]}) == 2 + 5
    )  # the history, the first day, and five weeks before them


def test_the_fault_rates_keep_every_gate_open(running_demo: Demo) -> None:
    assert running_demo.report["gate"] == "open"


def test_everything_listens_on_loopback_alone(running_demo: Demo) -> None:
    found = _listening(running_demo)
    ports = {int(running_demo.env[f"MEDLAKE_{n}_PORT"]) for n in ("AIRFLOW", "SUPERSET", "PORTAL")}
    assert ports <= set(found)
    assert {address for addresses in found.values() for address in addresses} == {"127.0.0.1"}


def test_a_port_that_is_taken_is_named(running_demo: Demo, tmp_path: Path) -> None:
    import subprocess

    from tests.conftest import MEDLAKE

    taken = running_demo.env["MEDLAKE_PORTAL_PORT"]
    env = running_demo.env | {"MEDLAKE_HOME": str(tmp_path / "var"), "MEDLAKE_AIRFLOW_PORT": taken}
    done = subprocess.run(
        [str(MEDLAKE), "demo", "--json"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    problem = json.loads(done.stdout.strip().splitlines()[-1])
    assert (
        problem["error"] == "E702"
        and taken in problem["zh"]
        and "MEDLAKE_AIRFLOW_PORT" in problem["remedy_en"]
    )


def test_running_it_again_reuses_what_is_there(running_demo: Demo) -> None:
    before = running_demo.serving_path.resolve()
    report = running_demo.run("demo")
    assert running_demo.serving_path.resolve() == before
    assert report["ledger"] == running_demo.report["ledger"]


def test_redelivery_through_the_command_line_changes_nothing(running_demo: Demo) -> None:
    drop = running_demo.home / "sources" / running_demo.report["data_date"] / "iot"
    first = running_demo.run("status")["ledger"]
    again = running_demo.run("ingest", str(drop), "--feed", "iot", "--date", running_demo.report["data_date"])
    assert again["received"] == again["duplicate"] > 0
    assert again["loaded"] == again["quarantined"] == 0
    after = [e for e in running_demo.run("status")["ledger"] if e["state"] == "committed"]
    assert sum(e["loaded"] for e in after) == sum(e["loaded"] for e in first if e["state"] == "committed")


def test_no_patient_data_in_any_log(running_demo: Demo) -> None:
    """Names, identity numbers and telephones of the simulated residents appear in no log of any component."""
    truth = running_demo.home / "truth" / "resident.parquet"
    known = duckdb.sql(
        f"SELECT name, id_no, phone FROM '{truth}' WHERE length(name) >= 3 AND id_no IS NOT NULL LIMIT 1500"
    ).fetchall()
    logs = [p for p in (running_demo.home / "logs").rglob("*") if p.is_file()]
    logs += [p for p in (running_demo.home / "airflow" / "logs").rglob("*.log") if p.is_file()]
    text = "\n".join(p.read_text("utf-8", errors="replace") for p in logs)
    assert len(text) > 1000
    leaked = [i for i, row in enumerate(known) for value in row if value and str(value) in text]
    assert leaked == []


def test_the_serving_file_holds_tables_only(running_demo: Demo) -> None:
    with duckdb.connect(str(running_demo.serving_path.resolve()), read_only=True) as connection:
        kinds = connection.execute("SELECT DISTINCT table_type FROM information_schema.tables").fetchall()
    assert kinds == [("BASE TABLE",)]


def test_a_bad_day_closes_the_gate_and_keeps_the_last_good_version(closed_demo: Demo) -> None:
    assert closed_demo.report["gate"] == "closed"
    assert "chronic_disease" in closed_demo.report["blocked"]
    with duckdb.connect(str(closed_demo.serving_path.resolve()), read_only=True) as connection:
        rows = connection.execute(
            "SELECT product, gate, data_date, reason_zh FROM ops.publication"
        ).fetchall()
    dates = {gate: {str(r[2]) for r in rows if r[1] == gate} for gate in ("open", "closed")}
    assert dates["open"] == {"2026-11-21"} and dates["closed"] == {"2026-11-20"}
    assert all(r[3] for r in rows if r[1] == "closed")


def test_another_city_is_not_mixed_into_this_one(running_demo: Demo) -> None:
    import subprocess

    from tests.conftest import MEDLAKE

    env = running_demo.env | {"MEDLAKE_DEMO_RESIDENTS": "4000"}
    done = subprocess.run(
        [str(MEDLAKE), "demo", "--json"], env=env, capture_output=True, text=True, check=False
    )
    problem = json.loads(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 1 and problem["error"] == "E706" and "residents 4000" in problem["en"]
