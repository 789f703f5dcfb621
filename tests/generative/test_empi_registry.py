"""Stable ids: whatever happens to the clusters, ids behave."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from empi import redirects, registry

Clustering = list[int]  # record -> smallest record of its person


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(autouse=True)
def _lake(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lake.settings import settings as lake_settings

    monkeypatch.setenv("MEDLAKE_HOME", str(home))
    lake_settings.cache_clear()


def day(connection: duckdb.DuckDBPyConnection, clustering: Clustering, number: int) -> dict[str, int]:
    """One run over records 0..n-1; afterwards ``crosswalk`` is the registry and ``event`` the run's events."""
    records = [("his", "H101", f"{i:03d}") for i in range(len(clustering))]
    connection.register(
        "given",
        pa.table(
            {
                "rec_no": pa.array(range(len(records)), pa.int32()),
                **{k: pa.array([r[j] for r in records]) for j, k in enumerate(registry.RECORD_KEY)},
            }
        ),
    )
    connection.execute("CREATE OR REPLACE TABLE source_record AS SELECT * FROM given")
    connection.execute(
        "CREATE OR REPLACE TABLE record AS SELECT *, false AS id_own, NULL::VARCHAR AS idno, "
        "NULL::VARCHAR AS card, NULL::VARCHAR AS insurance "
        "FROM given"
    )
    connection.register(
        "label",
        pa.table({"rec_no": list(range(len(clustering))), "cluster_no": pa.array(clustering, pa.int64())}),
    )
    connection.execute("CREATE OR REPLACE TABLE cluster AS SELECT *, 'score' AS link_cause FROM label")
    tables = {r[0] for r in connection.execute("SHOW TABLES").fetchall()}
    if "crosswalk" in tables:
        connection.execute("CREATE OR REPLACE TABLE before AS SELECT * FROM crosswalk")
    registry.create_previous(connection, "before" if "crosswalk" in tables else None)
    when = date(2026, 11, number)
    registry.assign_ids(connection, f"run-{number}")
    registry.build_crosswalk(connection, when)
    return registry.build_events(connection, f"run-{number}", when)


def persons(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """empi_id of each record, in order."""
    rows = connection.execute(
        "SELECT identifier_value, empi_id FROM crosswalk WHERE valid_to IS NULL AND identifier_type = 'MR' ORDER BY 1"
    ).fetchall()
    assert [r[0] for r in rows] == [f"{i:03d}" for i in range(len(rows))], "one open row per record"
    return [r[1] for r in rows]


def canonical(labels: list[int]) -> Clustering:
    first: dict[int, int] = {}
    return [first.setdefault(label, i) for i, label in enumerate(labels)]


clusterings = st.lists(st.integers(0, 4), min_size=1, max_size=9).map(canonical)


def oracle(before: list[str], since: dict[str, int], clustering: Clustering) -> dict[int, str]:
    """Claims by shared records, then age, then id, then cluster; each side used once."""
    shared = Counter(zip(clustering, before, strict=False))
    taken: dict[int, str] = {}
    for (cluster, empi_id), _ in sorted(
        shared.items(), key=lambda c: (-c[1], since[c[0][1]], c[0][1], c[0][0])
    ):
        if cluster not in taken and empi_id not in taken.values():
            taken[cluster] = empi_id
    return taken


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clusterings, clusterings, clusterings)
def test_ids_over_three_days(one: Clustering, two: Clustering, three: Clustering) -> None:
    # records never vanish from a register: each day knows at least those of the day before
    two = canonical(two + list(range(100, 100 + len(one) - len(two)))) if len(two) < len(one) else two
    three = (
        canonical(three + list(range(100, 100 + len(two) - len(three)))) if len(three) < len(two) else three
    )
    connection = duckdb.connect()
    ever: set[str] = set()
    before: list[str] = []
    since: dict[str, int] = {}
    for number, clustering in enumerate((one, two, three), 1):
        events = day(connection, clustering, number)
        now = persons(connection)
        assert canonical([now.index(e) for e in now]) == clustering, "a person is a cluster"
        kept = oracle(before, since, clustering)
        for record, cluster in enumerate(clustering):
            if cluster in kept:
                assert now[record] == kept[cluster]
            else:
                assert now[record] not in ever, "an id is issued once"
        gone = set(before) - set(now)
        fresh = set(now) - set(before)
        assert events["create"] == len(fresh) and events["merge"] == len(gone)
        moved = [r for r, e in enumerate(now) if r >= len(before) or before[r] != e]
        founders = [r for r in moved if now[r] in fresh and clustering[r] == r and r >= len(before)]
        assert events["link"] + events["relink"] == len(moved) - len(founders)
        split = {
            (now[r], before[r]) for r in moved if r < len(before) and now[r] in fresh and before[r] in now
        }
        assert events["split"] == len(split)
        since |= {e: number for e in now if e not in since}
        ever |= set(now)
        before = now


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clusterings)
def test_the_same_clusters_again_change_nothing(clustering: Clustering) -> None:
    connection = duckdb.connect()
    day(connection, clustering, 1)
    first = connection.execute("SELECT * FROM crosswalk ORDER BY ALL").fetchall()
    events = day(connection, clustering, 2)
    assert connection.execute("SELECT * FROM crosswalk ORDER BY ALL").fetchall() == first
    assert sum(events.values()) == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clusterings, clusterings)
def test_history_only_grows(one: Clustering, two: Clustering) -> None:
    two = canonical(two + list(range(100, 100 + len(one) - len(two)))) if len(two) < len(one) else two
    connection = duckdb.connect()
    day(connection, one, 1)
    keys = "SELECT empi_id, identifier_value, valid_from FROM crosswalk"
    first = set(connection.execute(keys).fetchall())
    day(connection, two, 2)
    assert first <= set(connection.execute(keys).fetchall())
    assert not connection.execute("SELECT * FROM crosswalk WHERE valid_to < valid_from").fetchall()


def test_ids_are_opaque_and_well_formed() -> None:
    connection = duckdb.connect()
    day(connection, list(range(500)), 1)
    ids = persons(connection)
    assert len(set(ids)) == 500
    assert all(len(e) == 13 and e[0] == "E" and set(e[1:]) <= set(registry.ALPHABET) for e in ids)


def test_an_id_that_was_ever_used_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator meets an id that exists: it draws anew instead of giving one id to two persons."""
    connection = duckdb.connect()
    day(connection, [0, 1], 1)
    wanted = persons(connection)
    # the history of a registry whose serial numbers restarted: ids exist, yet the count of issued ids is smaller
    connection.execute("CREATE OR REPLACE TABLE kept AS SELECT * FROM crosswalk")
    connection.execute("DROP VIEW crosswalk")
    fresh = day(connection, [0, 1], 1)
    assert fresh["create"] == 2 and persons(connection) == wanted, "the same run draws the same ids"
    connection.execute("DROP VIEW crosswalk")
    connection.execute(
        "CREATE OR REPLACE TABLE crosswalk AS SELECT * FROM kept WHERE identifier_value = '001'"
    )
    day(connection, [0, 1], 1)
    ids = persons(connection)
    assert ids[1] == wanted[1] and len(set(ids)) == 2


def leads_to(merges: dict[str, str], empi_id: str) -> str:
    """The oracle: merge after merge, each id once; one that is met twice is a cycle."""
    met = []
    while empi_id in merges:
        assert empi_id not in met, "no id leads to itself"
        met.append(empi_id)
        empi_id = merges[empi_id]
    return empi_id


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(clusterings, min_size=2, max_size=5))
def test_a_retired_id_leads_to_one_in_use_for_ever(days: list[Clustering]) -> None:
    longest = max(map(len, days))
    connection = duckdb.connect()
    connection.execute("CREATE TABLE changed (event_id VARCHAR, seq BIGINT)")
    merges: dict[str, str] = {}
    before: str | None = None
    for number, clustering in enumerate(days, 1):
        day(connection, canonical(clustering + list(range(100, 100 + longest - len(clustering)))), number)
        redirects.create_redirect(connection, before)
        told = "SELECT other_empi_id, empi_id FROM person_change WHERE event_type = 'merge'"
        now = set(persons(connection))
        merges |= dict(connection.execute(told).fetchall())
        merges = {retired: into for retired, into in merges.items() if retired not in now}
        rows = dict(connection.execute("SELECT empi_id, current_empi_id FROM redirect").fetchall())
        assert rows == {retired: leads_to(merges, retired) for retired in merges}
        assert set(rows.values()) <= now and not set(rows) & now
        connection.execute("CREATE OR REPLACE TABLE redirect_before AS SELECT * FROM redirect")
        before = "redirect_before"
