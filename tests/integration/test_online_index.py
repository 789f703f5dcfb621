"""The online index against the batch run it was made from: the same columns, levels, weights, guards and persons."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import insert

import empi
from bench import empi_city
from empi import model, online, sources, state, weights
from empi.online import compare, index, keys, single
from empi.online.making import link
from empi.online.single import Query
from lake import ops, runs
from lake.errors import MedlakeError
from lake.settings import settings

DAY = date(2026, 11, 20)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A linked and indexed city of 4,000 residents."""
    home = tmp_path_factory.mktemp("online") / "var"
    before = os.environ.get("MEDLAKE_HOME")
    empi_city.prepare(str(home), 4000, 7)
    empi_city.use_home(str(home))
    empi.link(DAY)
    online.build()
    yield home
    os.environ.pop("MEDLAKE_HOME")
    if before:
        os.environ["MEDLAKE_HOME"] = before
    settings.cache_clear()


@pytest.fixture(autouse=True)
def _home(city: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MEDLAKE_HOME", str(city))
    settings.cache_clear()
    yield
    with ops.engine().begin() as connection:
        connection.execute(ops.registry_change.delete())
    settings.cache_clear()


def kept(sql: str) -> list[dict[str, Any]]:
    """Rows of the run's state."""
    connection = duckdb.connect()
    connection.execute(f"ATTACH '{state.path()}' AS kept (READ_ONLY)")
    rows: list[dict[str, Any]] = connection.execute(sql).to_arrow_table().to_pylist()
    connection.close()
    return rows


def query(source: dict[str, Any]) -> Query:
    return Query(**{f.name: source[f.name] for f in fields(Query)})


@pytest.fixture(scope="module")
def asked(city: Path) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
    """rec_no -> (registration as given, the batch's columns)."""
    run = runs.get_run(DAY)
    connection = sources.connect(run)
    sources.collect(
        connection, run
    )  # a full run numbers records in the order of their keys, and the state keeps that
    rows = connection.execute("SELECT * FROM source_record").to_arrow_table().to_pylist()
    connection.close()
    given = {r["rec_no"]: r for r in rows}
    made = {r["rec_id"]: r for r in kept("SELECT * FROM kept.record")}
    return {n: (given[n], made[n]) for n in given}


def test_every_column_is_the_batch_runs(asked: dict[int, tuple[dict[str, Any], dict[str, Any]]]) -> None:
    file = online.open_index()._file()
    columns = set(compare.columns()) - {"is_multiple_birth"}
    differing = []
    for number, (given, made) in asked.items():
        ours = single.standardise(query(given), file.shared, DAY)
        # a newborn without a home takes its mother's, whom a lone registration does not show
        left = {"phone", "kin_phone", "town", "village", "house"} if made["birth_mark"] is not None else set()
        differing += [(number, c, ours[c], made[c]) for c in columns - left if ours[c] != made[c]]
    assert differing == []
    assert len(asked) > 5000


def test_scores_and_guards_are_the_batch_runs(
    asked: dict[int, tuple[dict[str, Any], dict[str, Any]]],
) -> None:
    file = online.open_index()._file()
    pairs = kept("SELECT * FROM kept.pair")
    wanted: dict[int, dict[int, dict[str, Any]]] = {}
    for pair in pairs:
        wanted.setdefault(pair["id_l"], {})[pair["id_r"]] = pair
    seen = 0
    for left, others in wanted.items():
        record = asked[left][1]
        rows = index._compare(file, record, keys.rule_hashes(record))
        found = {row[0]: row for row in rows}
        for right, pair in others.items():
            row = found[right]
            gammas = dict(zip(model.LEVELS, row[4:], strict=False))
            assert gammas == {name: pair[f"gamma_{name}"] for name in model.LEVELS}
            shares = dict(zip(model.FREQUENCY.values(), row[4 + len(gammas) + 1 :: 2], strict=True))
            assert file.weights.total(gammas, shares) == pytest.approx(pair["match_weight"], abs=1e-6)
            assert (row[2], bool(row[3])) == (pair["guard"], bool(pair["is_promoted"]))
            seen += 1
    assert seen == len(pairs) > 2000


def test_the_waterfall_adds_up_to_the_score(asked: dict[int, tuple[dict[str, Any], dict[str, Any]]]) -> None:
    file = online.open_index()._file()
    shares = {
        (c, r[c]): r[f"tf_{c}"]
        for c in model.FREQUENCY.values()
        for r in kept(f"SELECT * FROM kept.calibration.frequency_{c}")
    }
    told = weights.load(int(file.meta["prior_records"]), lambda c, v: shares.get((c, v)))
    for pair in kept("SELECT * FROM kept.pair ORDER BY id_l, id_r LIMIT 1000"):
        record = asked[pair["id_l"]][1]
        gammas = {name: pair[f"gamma_{name}"] for name in model.LEVELS}
        steps = told.explain(gammas, {c: record[c] for c in model.FREQUENCY.values()})
        assert sum(s.weight for s in steps) == pytest.approx(pair["match_weight"], abs=1e-6)
        assert steps[0].comparison == "prior"
        assert {s.comparison for s in steps[1:]} == set(model.LEVELS)


def test_a_registrations_own_data_find_its_person(
    asked: dict[int, tuple[dict[str, Any], dict[str, Any]]],
) -> None:
    found = online.open_index()
    owner = {r["rec_id"]: r["empi_id"] for r in kept("SELECT * FROM kept.person")}
    right = wrong = silent = 0
    for number, (given, _) in list(asked.items())[::5]:
        hits = found.match(query(given))
        assert all(a.score >= b.score for a, b in itertools.pairwise(hits) if a.grade == b.grade)
        if not hits:
            silent += 1
        elif hits[0].empi_id == owner[number]:
            right += 1
        else:
            wrong += 1
        key = (given["source_system"], given["org_code"], given["identifier_value"])
        assert found.by_record(*key) == owner[number]
    assert (wrong, silent) < (right * 0.01, right * 0.05)


def test_strangers_find_nobody(
    tmp_path: Path, asked: dict[int, tuple[dict[str, Any], dict[str, Any]]]
) -> None:
    """Residents of another city, those whose number happens to be in this one left out."""
    from simulator.people import make_city

    known = {made["idno"] for _, made in asked.values()}
    others = make_city(residents=1500, seed=4711).residents.to_pylist()
    found = online.open_index()
    names = {f.name for f in fields(Query)}
    strangers = [{k: v for k, v in r.items() if k in names} for r in others if r["id_no"] not in known]
    matched = [hits for s in strangers if (hits := found.match(Query(**s)))]
    assert len(strangers) > 1400
    assert len(matched) <= 1, matched


def test_one_code_leads_to_the_resident(asked: dict[int, tuple[dict[str, Any], dict[str, Any]]]) -> None:
    found = online.open_index()
    owner = {r["rec_id"]: r["empi_id"] for r in kept("SELECT * FROM kept.person")}
    for number, (given, made) in list(asked.items())[::11]:
        if made["id_own"]:
            assert owner[number] in found.lookup(given["id_no"])
            assert owner[number] in found.lookup(" " + made["idno"].lower() + " ")
        if made["card"]:
            assert owner[number] in found.lookup(given["health_card_no"])
        local = found.lookup(given["identifier_value"], org_code=given["org_code"])
        assert owner[number] in local
    assert found.lookup("429701195803121239999") == []
    assert found.lookup("") == []


def change(kind: str, into: str, other: str, after: dict[str, list[Any]]) -> None:
    """An online change as ``empi.changes`` writes it."""
    with ops.engine().begin() as connection:
        connection.execute(
            insert(ops.registry_change).values(
                change_id=f"{kind}-{other}", kind=kind, empi_id=into, other_empi_id=other, before="{}",
                after=json.dumps(after), reason="测试", actor="a", changed_at=datetime.now(UTC),
            )
        )  # fmt: skip


def test_an_online_merge_shows_at_once_and_an_unmerge_too(
    asked: dict[int, tuple[dict[str, Any], dict[str, Any]]],
) -> None:
    found = online.open_index()
    owner = {r["rec_id"]: r["empi_id"] for r in kept("SELECT * FROM kept.person")}
    one, other = sorted(set(owner.values()))[:2]
    mine = next(n for n, e in owner.items() if e == other)
    key = tuple(asked[mine][0][c] for c in ("source_system", "org_code", "identifier_value"))
    stays, before = found.person(one), found.person(other)
    assert stays is not None
    assert before is not None
    change("merge", one, other, {one: [*stays.records, *before.records], other: []})
    assert found.by_record(*key) == one
    retired = found.person(other)
    assert retired is not None
    assert (retired.is_active, retired.replaced_by) == (False, one)
    survivor = found.person(one)
    assert survivor is not None
    assert survivor.replaces == (other,)
    assert set(survivor.records) == set(stays.records) | set(before.records)
    change("unmerge", one, other, {one: list(stays.records), other: list(before.records)})
    assert found.by_record(*key) == other
    assert found.person(other) == before
    assert found.person(one) == stays


def test_an_unknown_id_and_an_unknown_patient(city: Path) -> None:
    found = online.open_index()
    assert found.person("E000000000000") is None
    assert found.match(Query(name="无名氏", sex_code="1")) == []
    assert found.match(Query()) == []


def test_a_build_again_changes_nothing_and_a_broken_state_is_told(city: Path, tmp_path: Path) -> None:
    at = link().readlink()
    again = online.build()
    assert (again["is_new"], link().readlink()) == (False, at)
    hidden = state.path().with_suffix(".hidden")
    state.path().rename(hidden)
    try:
        with pytest.raises(MedlakeError, match="E335"):
            online.build()
        state.path().write_bytes(b"no database")
        with pytest.raises(MedlakeError, match="E336"):
            online.build()
        assert link().readlink() == at
    finally:
        hidden.replace(state.path())


def test_the_file_is_the_service_accounts_alone(city: Path) -> None:
    assert link().resolve().stat().st_mode & 0o077 == 0
    with sqlite3.connect(f"file:{link()}?mode=ro", uri=True) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
