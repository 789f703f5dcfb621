"""However resources come (in parts, again, corrected, deleted, results before their report), the typed rows are in
the end those of the resources that are there: what one delivery of all of them into an empty lake gives."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingestion.readers import fhir
from lake import tables
from lake.contracts import table_contract
from lake.settings import settings
from tests.ingestion_world import Collected, landed

Row = dict[str, Any]
Typed = dict[str, dict[tuple[Any, ...], Row]]
LAB = [{"coding": [{"code": "laboratory"}]}]
_PLACE = {"file_no", "source_line", "_extra", "_op", "source_updated_at", "recorded_at", "org_code"}


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each world sets a home of its own; afterwards the settings are read anew."""
    monkeypatch.setenv("MEDLAKE_HOME", "")
    yield
    settings.cache_clear()


class World:
    """A lake as the engine would keep it: silver's ``fhir_resource`` on disk, the typed tables in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / uuid4().hex
        self.enter()
        self.typed: Typed = {}
        self.clock = 0
        self.held: dict[tuple[str, str], str] = {}

    def enter(self) -> None:
        os.environ["MEDLAKE_HOME"] = str(self.folder / "var")
        settings.cache_clear()

    def deliver(self, *lines: dict[str, Any]) -> None:
        self.clock += 1
        content = "\n".join(json.dumps(line) for line in lines).encode()
        sink = Collected()
        fhir.read_many([landed(self.folder / f"{self.clock}.ndjson", content)], sink)
        assert not sink.rejects
        for table, rows in sink.tables.items():
            if table == "fhir_resource":
                self._hold(rows)
                continue
            held = self.typed.setdefault(table, {})
            for row in rows:
                key = tuple(row[k] for k in table_contract(table).key)
                if row["_op"] == "D":
                    held.pop(key, None)
                else:
                    held[key] = {k: v for k, v in row.items() if k not in _PLACE and v is not None}

    def _hold(self, rows: list[Row]) -> None:
        contract = table_contract("fhir_resource")
        names = [f.name for f in contract.fields]
        newest: dict[tuple[str, str], Row] = {}
        for r in sorted(rows, key=lambda r: r["last_updated_at"] or ""):  # by the source's own instant
            key = (r["resource_type"], r["resource_id"])
            if (r["last_updated_at"] or "") >= self.held.get(key, ""):
                newest[key] = r
                self.held[key] = r["last_updated_at"] or ""
        if not newest:
            return
        columns = {n: pa.array([r.get(n) for r in newest.values()], pa.string()) for n in names}
        columns["org_code"] = pa.array(["H101"] * len(newest), pa.string())
        columns["is_deleted"] = pa.array([r["_op"] == "D" for r in newest.values()], pa.bool_())
        data = pa.table(columns)
        at = data.schema.get_field_index("last_updated_at")
        data = data.set_column(
            at, "last_updated_at", data["last_updated_at"].cast(pa.timestamp("us", tz="UTC"))
        )
        if tables.exists("silver/fhir_resource"):
            tables.merge("silver/fhir_resource", data, key=["org_code", "resource_type", "resource_id"])
        else:
            tables.append("silver/fhir_resource", data)


def at(instant: int) -> dict[str, Any]:
    return {"lastUpdated": f"2026-11-18T{instant // 60:02d}:{instant % 60:02d}:00Z"}


def deletion(kind: str, identity: str, instant: int) -> dict[str, Any]:
    entry = {
        "request": {"method": "DELETE", "url": f"{kind}/{identity}"},
        "response": {"lastModified": at(instant)["lastUpdated"]},
    }
    return {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}


def observation(identity: str, value: str, components: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "resourceType": "Observation",
        "id": identity,
        "status": "final",
        "category": LAB,
        "code": {"coding": [{"system": "http://loinc.org", "code": "1-1"}]},
        "subject": {"reference": "Patient/p"},
        "issued": "2026-11-18T01:00:00Z",
        "valueString": value,
    }
    if components:
        part = {"code": {"coding": [{"code": "c"}]}, "valueString": value}
        made["component"] = [part] * components
    return made


def report(identity: str, results: list[str]) -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport",
        "id": identity,
        "status": "final",
        "category": [{"coding": [{"code": "LAB"}]}],
        "code": {"coding": [{"code": "P"}]},
        "subject": {"reference": "Patient/p"},
        "issued": "2026-11-18T01:00:00Z",
        "result": [{"reference": f"Observation/{r}"} for r in results],
    }


def claim(identity: str, lines: int) -> dict[str, Any]:
    item = {"productOrService": {"text": "x"}, "quantity": {"value": 1}, "net": {"value": 2}}
    return {
        "resourceType": "Claim",
        "id": identity,
        "created": "2026-11-18",
        "item": [item | {"sequence": n} for n in range(1, lines + 1)],
    }


def encounter(identity: str, kind: str) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": identity,
        "class": {"code": kind},
        "subject": {"reference": "Patient/p"},
    }


names = st.sampled_from(["a", "b", "c"])
resources = st.one_of(
    st.builds(observation, names, st.sampled_from(["1", "2"]), st.integers(0, 2)),
    st.builds(report, st.sampled_from(["r", "s"]), st.lists(names, max_size=3, unique=True)),
    st.builds(claim, st.just("k"), st.integers(0, 3)),
    st.builds(encounter, st.sampled_from(["e", "f"]), st.sampled_from(["AMB", "IMP"])),
)
steps = st.lists(st.tuples(resources, st.booleans(), st.booleans()), min_size=1, max_size=7)


@hypothesis_settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps, st.randoms(use_true_random=False))
def test_any_history_ends_where_its_last_state_begins(
    tmp_path: Path, history: list[tuple[dict[str, Any], bool, bool]], random: Any
) -> None:
    world = World(tmp_path)
    state: dict[tuple[str, str], dict[str, Any]] = {}
    delivery: list[dict[str, Any]] = []
    past: list[dict[str, Any]] = []
    for instant, (resource, is_deleted, is_end) in enumerate(history, 1):
        key = (resource["resourceType"], resource["id"])
        if is_deleted:
            state.pop(key, None)
            delivery.append(deletion(*key, instant))
        else:
            state[key] = resource
            delivery.append(resource | {"meta": at(instant)})
        if is_end:
            if past and random.random() < 0.3:
                delivery.append(random.choice(past))  # an old version comes again, late
            past += delivery
            random.shuffle(delivery)
            world.deliver(*delivery)
            delivery = []
    if delivery:
        world.deliver(*delivery)
    fresh = World(tmp_path)
    if state:
        fresh.deliver(*state.values())
    found = {t: rows for t, rows in world.typed.items() if rows}
    assert found == {t: rows for t, rows in fresh.typed.items() if rows}
