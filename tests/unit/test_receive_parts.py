"""Parts of the doors: tokens, rates, Parquet to exact text, JSON keys, frontiers, the register's checks."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from ingestion.pull.database_sql import settled_bound
from ingestion.readers import columnar, json_rows
from ingestion.receive.http import parse
from lake import ops
from lake.contracts import contract, table_contract
from lake.errors import MedlakeError
from medlake.commands import tokens
from portal import clients
from portal.rates import Rates
from tests.ingestion_world import Collected, landed


def test_a_token_is_shown_once_and_ends(lake_home: Path) -> None:
    runner = CliRunner()
    made = runner.invoke(tokens.app, ["create", "--org", "C201", "--feeds", "public_health,iot", "--json"])
    told = json.loads(made.stdout.splitlines()[-1])
    client = clients.check(told["token"])
    assert (client.org_code, client.feeds) == ("C201", {"public_health", "iot"})
    listed = runner.invoke(tokens.app, ["list", "--json"]).stdout
    assert told["token"] not in listed and json.loads(listed.splitlines()[-1])["rows"][0]["state"] == "valid"
    with ops.engine().begin() as connection:
        connection.execute(
            update(ops.client_token).values(expires_at=datetime.now(UTC) - timedelta(seconds=1))
        )
    with pytest.raises(MedlakeError, match="expired"):
        clients.check(told["token"])
    assert runner.invoke(tokens.app, ["revoke", told["token_id"]]).exit_code == 0
    assert clients.listed()[0]["state"] == "revoked"
    assert runner.invoke(tokens.app, ["revoke", "nope"]).exit_code == 1
    for org, feeds in (("X999", ["iot"]), ("C201", ["nope"]), ("C201", [])):
        with pytest.raises(MedlakeError):
            clients.create(org, feeds)


def test_a_bucket_fills_at_its_rate() -> None:
    now = [0.0]
    rates = Rates(2, 3, clock=lambda: now[0])
    assert [rates.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rates.wait("b") == 0, "each client has its own"
    now[0] = 0.5
    assert rates.wait("a") == 0 and rates.wait("a") == 0.5
    now[0] = 100
    assert [rates.wait("a") for _ in range(4)] == [0, 0, 0, 0.5], "no more than the burst is saved"


def test_parquet_values_become_exact_text(tmp_path: Path) -> None:
    at = datetime(2026, 11, 18, 0, 0, 0, 123456, tzinfo=UTC)
    table = pa.table(
        {
            "RX_NO": pa.array(["R1", None]),
            "ITEM_NO": pa.array([1, None], pa.int64()),
            "RX_AT": pa.array([at, None], pa.timestamp("us", "Asia/Shanghai")),
            "QTY": pa.array([Decimal("12345678901234567.123456"), None], pa.decimal128(24, 6)),
            "DOSE": pa.array([0.1, None], pa.float64()),
            "plain_at": pa.array([datetime(2026, 11, 18, 8), None], pa.timestamp("us")),
            "flag": pa.array([True, None]),
            "bytes": pa.array([b"\x00\xff", None], pa.binary()),
            "nested": pa.array([{"a": [1, 2]}, None]),
            "_op": pa.array(["U", "D"]),
        }
    )
    path = tmp_path / "prescription_item_1.parquet"
    pq.write_table(table, path)
    found = Collected()
    columnar.read(landed(path), table_contract("prescription_item"), found)
    first, second = found.tables["prescription_item"]
    names = {f.physical_name: f.name for f in table_contract("prescription_item").fields}
    assert first[names["RX_AT"]] == "2026-11-18T00:00:00.123456Z"
    assert first[names["QTY"]] == "12345678901234567.123456"
    assert (first["source_line"], second["source_line"]) == (1, 2)
    assert (first["_op"], second["_op"], second["rx_no"]) == ("U", "D", None)
    extra = json.loads(first["_extra"])
    assert (
        extra["bytes"] == "AP8=" and json.loads(extra["nested"]) == {"a": [1, 2]} and extra["flag"] == "true"
    )
    assert extra["plain_at"].startswith("2026-11-18 08:00:00") and second["_extra"] is None


@pytest.mark.parametrize("content", [b"PAR1 no parquet", b"x" * 100, b"PAR1" + b"\0" * 50 + b"PAR1"])
def test_a_broken_parquet_file_is_one_reject(tmp_path: Path, content: bytes) -> None:
    found = Collected()
    columnar.read(landed(tmp_path / "patient_1.parquet", content), table_contract("patient"), found)
    assert found.codes() == ["E202"] and found.tables == {}


def _rows(table: str, *objects: dict[str, Any]) -> list[dict[str, Any]]:
    con = json_rows.connection()
    texts = pa.array([json.dumps(o, ensure_ascii=False) for o in objects])
    con.register("given", pa.table({"object": texts, "n": pa.array(range(len(objects)))}))
    query = json_rows.rows_sql(table_contract(table), "given", ["n"])
    return con.execute(f"{query} ORDER BY n").to_arrow_table().to_pylist()


def test_keys_may_be_source_names_english_names_or_labels() -> None:
    f = contract("public_health").tables["htn_visit"].field("sbp_mmhg")
    rows = _rows(
        "htn_visit", {f.physical_name: 1}, {f.name: 2.5}, {f.label_zh: "3"}, {f.name: None, 'a"b\\': [1]}
    )
    assert [r["sbp_mmhg"] for r in rows] == ["1", "2.5", "3", None]
    assert [r["_extra"] for r in rows][:3] == [None] * 3 and json.loads(rows[3]["_extra"]) == {'a"b\\': [1]}


@pytest.mark.parametrize(
    ("newest", "now", "overlap", "bound"),
    [
        (datetime(2026, 11, 18, 12), datetime(2026, 11, 18, 13), 600, datetime(2026, 11, 18, 11, 50)),
        (datetime(2037, 1, 1), datetime(2026, 11, 18, 13), 600, datetime(2026, 11, 18, 12, 50)),
        (date(2026, 11, 18), date(2026, 11, 20), 86_400, date(2026, 11, 16)),
        (1000, None, 10, 990),
        (Decimal("1000.5"), None, 10, Decimal("990.5")),
    ],
)
def test_settled(newest: Any, now: Any, overlap: float, bound: Any) -> None:
    assert settled_bound(newest, now, overlap) == bound


def test_shapes_of_an_upload() -> None:
    one = parse("public_health", "C201", {"visit_id": "V"}, b"{}", table="htn_visit")
    assert (one.table.name, len(one.records)) == ("htn_visit", 1)
    many = parse("public_health", "C201", {"table": "dm_visit", "records": [{}, {}]}, b"{}")
    assert (many.table.name, len(many.records)) == ("dm_visit", 2)
    assert parse("fhir", "C201", {"resourceType": "X"}, b"{}").table.name == "fhir_resource", (
        "a feed of one table"
    )
    for node in ("x", 1, None, [], {"records": {}, "table": 1}, {"a": float("nan")}, {"a": "\ud800"}):
        with pytest.raises(MedlakeError, match="E268"):
            parse("public_health", "C201", node, b"{}", table=None)
