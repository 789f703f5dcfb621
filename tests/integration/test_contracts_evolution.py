"""A contract changes while its data is in the lake: what only adds is taken by the next batch, what breaks is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import ingestion
from ingestion import contracting
from lake import contracts as dictionary
from lake import duck, ledger, tables
from medlake.commands.contracts import app
from tests.ingestion_world import content, drop
from tests.unit.test_contracts_diff import BASE, Node, _field, _props, _set

DAYS = [date(2026, 11, d) for d in range(16, 22)]


@pytest.fixture
def put(lake_home: Path) -> Callable[[Node], Path]:
    """Makes a version of the demo contract the site's own and gives a copy to compare the next one with."""

    def made(node: Node) -> Path:
        own = dictionary.site_dir()
        own.mkdir(parents=True, exist_ok=True)
        (
            own / f".version-{len(list(own.iterdir()))}"
        ).touch()  # the folder changed, whatever its clock's grain
        text = yaml.safe_dump(node, allow_unicode=True)
        (own / "demo.odcs.yaml").write_text(text, "utf-8")
        copy = lake_home.parent / f"demo-{node['version']}.odcs.yaml"
        copy.write_text(text, "utf-8")
        return copy

    return made


def deliver(number: int, text: str) -> dict[str, Any]:
    drop("demo", "H101", f"demo_row_{number}.csv", text.encode(), DAYS[number])
    return ingestion.ingest_feed("demo", DAYS[number])


def version(*fields: Node, number: str = "1.3.0") -> Node:
    node: Node = json.loads(json.dumps(BASE))
    _props(node).extend(fields)
    node["version"] = number
    return node


def test_new_optional_fields_enter_the_lake_with_the_next_batch(put: Callable[[Node], Path]) -> None:
    before = put(BASE)
    first = "ROW_ID,WEIGHT,SEX,NOTE\n1,60,男,a\n2,70,女,b\n"
    assert deliver(0, first)["loaded"] == 2
    later = put(version(_field("height", "number"), _field("source_updated_at", "timestamp")))
    told = contracting.review("demo", str(before))
    assert told["refused"] == []
    assert {c["kind"] for c in told["changes"]} == {"field_added", "lake_column_missing"}

    # a known key (merge) and a new one (append): both have the new columns, the rows before hold NULL
    more = "ROW_ID,WEIGHT,SEX,NOTE,HEIGHT,SOURCE_UPDATED_AT\n2,71,女,b,165.5,2026-11-17 08:00:00\n3,80,男,c,180,\n"
    assert deliver(1, more)["loaded"] == 2
    columns = "row_id, weight, sex, note, height, source_updated_at IS NOT NULL"
    assert content("silver/demo_row", columns) == [
        ("1", 60.0, "1", "a", None, False),
        ("2", 71.0, "2", "b", 165.5, True),
        ("3", 80.0, "1", "c", 180.0, False),
    ]
    assert content("bronze/demo/demo_row", "row_id, height") == [
        ("1", None),
        ("2", "165.5"),
        ("2", None),
        ("3", "180"),
    ]
    # the first delivery comes again under the new contract: its fingerprints are the same, nothing is new
    drop("demo", "H101", "again.csv", (first + " \n").encode(), DAYS[2])
    again = ingestion.ingest_feed("demo", DAYS[2])
    assert (again["loaded"], again["duplicate"]) == (
        1,
        1,
    )  # row 2 has changed since, so the old text is another version
    assert contracting.review("demo", str(later))["changes"] == []


def test_views_of_a_pinned_version_see_the_columns_of_that_version(put: Callable[[Node], Path]) -> None:
    put(BASE)
    deliver(0, "ROW_ID,WEIGHT,SEX,NOTE\n1,60,男,a\n")
    (batch,) = ledger.committed("demo", DAYS[0])
    old = tables.version("silver/demo_row")
    put(version(_field("height", "number")))
    deliver(1, "ROW_ID,WEIGHT,SEX,NOTE,HEIGHT\n1,61,男,a,170\n")
    assert batch
    with duck.connect() as con:
        duck.create_views(con, {"silver/demo_row": old})
        assert con.execute("SELECT weight FROM silver.demo_row").fetchall() == [(60.0,)]
        duck.create_views(con, {"silver/demo_row": tables.version("silver/demo_row")})
        assert con.execute("SELECT weight, height FROM silver.demo_row").fetchall() == [(61.0, 170.0)]


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (lambda n: _props(n)[1].update(logicalType="string"), {"type_widened", "lake_type_differs"}),
        (lambda n: _props(n).pop(3), {"field_removed", "lake_column_left"}),
        (lambda n: _props(n)[3].update(name="remark"), {"field_renamed", "lake_column_left"}),
        (lambda n: _set(_props(n)[1], "unit", "g"), {"unit_changed"}),
        (lambda n: _props(n)[3].update(required=True), {"required_added"}),
    ],
    ids=["type", "removed", "renamed", "unit", "required"],
)  # fmt: skip
def test_breaking_changes_are_refused_before_any_batch(
    put: Callable[[Node], Path], change: Callable[[Node], Any], kinds: set[str]
) -> None:
    before = put(BASE)
    deliver(0, "ROW_ID,WEIGHT,SEX,NOTE\n1,60,男,a\n")
    node = version()
    change(node)
    put(node)
    done = CliRunner().invoke(app, ["diff", "demo", "--against", str(before), "--json"])
    assert done.exit_code == 1
    told = json.loads(done.stdout.splitlines()[-1])
    assert {r["kind"] for r in told["refused"]} == kinds
    assert all("2.0.0" in r["remedy_zh"] and "2.0.0" in r["remedy_en"] for r in told["refused"])
    people = CliRunner().invoke(app, ["diff", "demo", "--against", str(before)])
    assert people.exit_code == 1 and "✗" in people.stdout


def test_an_unchanged_contract_passes_on_the_command_line(put: Callable[[Node], Path]) -> None:
    done = CliRunner().invoke(app, ["diff", "demo", "--against", str(put(BASE)), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout.splitlines()[-1])["changes"] == []
