"""Delta tables and the ledger: transactions that skip, batches that balance or leave nothing behind."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from lake import audit, duck, ledger, ops, runs, tables
from lake.errors import MedlakeError

DAY = date(2026, 11, 18)


def rows(*pairs: tuple[str, int]) -> pa.Table:
    at = datetime(2026, 11, 18, tzinfo=UTC)
    return pa.table(
        {
            "org_code": [p[0] for p in pairs],
            "value": pa.array([p[1] for p in pairs], pa.int64()),
            "at": pa.array([at] * len(pairs), pa.timestamp("us", tz="UTC")),
        }
    )


def content(name: str, at: int | None = None) -> list[tuple[str, int]]:
    return (
        duck.connect()
        .execute(f"SELECT org_code, value FROM {tables.scan_sql(name, at)} ORDER BY ALL")
        .fetchall()
    )


def line(received: int, loaded: int, duplicate: int = 0, quarantined: int = 0) -> ledger.Line:
    return ledger.Line("patient", "H001", "a.csv", received, loaded, duplicate, quarantined)


def test_a_write_with_the_same_transaction_happens_once(lake_home: Path) -> None:
    for _ in range(2):
        tables.append("silver/x", rows(("a", 1)), txn=("b1", 1))
    for _ in range(2):
        tables.merge("silver/x", rows(("a", 5), ("b", 2)), key=["org_code"], txn=("b1", 2))
    assert content("silver/x") == [("a", 5), ("b", 2)]
    assert content("silver/x", 0) == [("a", 1)]


def test_merge_keeps_the_newer_row(lake_home: Path) -> None:
    tables.append("silver/x", rows(("a", 7), ("b", 1)))
    tables.merge("silver/x", rows(("a", 3), ("b", 4)), key=["org_code"], newer="s.value >= t.value")
    assert content("silver/x") == [("a", 7), ("b", 4)]


def test_empty_and_partitioned_tables_read_with_their_types(lake_home: Path) -> None:
    tables.append("silver/empty", rows())
    assert content("silver/empty") == []
    tables.append("silver/parts", rows(("01", 1), ("a b", 2)), partition_by=["org_code"])
    assert content("silver/parts") == [("01", 1), ("a b", 2)]
    kinds = duck.connect().execute(f"DESCRIBE SELECT * FROM {tables.scan_sql('silver/parts')}").fetchall()
    assert {k[0]: k[1] for k in kinds}["at"] == "TIMESTAMP WITH TIME ZONE"


def test_a_missing_table_is_a_numbered_error(lake_home: Path) -> None:
    with pytest.raises(MedlakeError) as caught:
        tables.scan_sql("silver/nothing")
    assert caught.value.code == "E103"


def test_a_batch_that_balances_becomes_visible(lake_home: Path) -> None:
    batch = ledger.begin("b1", "his", DAY, contract_version="1", writes=["silver/patient"])
    tables.append("silver/patient", rows(("a", 1)), txn=(batch.batch_id, 1))
    assert ledger.visible() == {}
    assert ledger.commit(batch, [line(3, 1, 1, 1)]) == {
        "received": 3,
        "loaded": 1,
        "duplicate": 1,
        "quarantined": 1,
    }
    assert ledger.visible() == {"silver/patient": 0}
    assert ledger.begin("b1", "his", DAY, contract_version="1", writes=[]).state == "committed"
    assert ledger.totals(DAY)["loaded"] == 1 and ledger.totals(date(2020, 1, 1))["loaded"] == 0


def test_a_batch_that_does_not_balance_leaves_nothing(lake_home: Path) -> None:
    first = ledger.begin("b1", "his", DAY, contract_version="1", writes=["silver/patient"])
    tables.append("silver/patient", rows(("a", 1)), txn=(first.batch_id, 1))
    ledger.commit(first, [line(1, 1)])
    second = ledger.begin("b2", "his", DAY, contract_version="1", writes=["silver/patient", "silver/fresh"])
    tables.append("silver/patient", rows(("b", 2)), txn=(second.batch_id, 1))
    tables.append("silver/fresh", rows(("c", 3)), txn=(second.batch_id, 1))
    with pytest.raises(MedlakeError) as caught:
        ledger.commit(second, [line(5, 1)])
    assert caught.value.code == "E105"
    assert content("silver/patient", ledger.visible()["silver/patient"]) == [("a", 1)]
    assert not tables.exists("silver/fresh")
    assert ledger.totals()["received"] == 1


def test_an_undone_delivery_can_be_delivered_again(lake_home: Path) -> None:
    """The undone attempt's Delta transactions must not make the next attempt skip its writes."""
    tables.append("silver/patient", rows(("z", 0)))
    first = ledger.begin("b1", "his", DAY, contract_version="1", writes=["silver/patient"])
    tables.append("silver/patient", rows(("a", 1)), txn=(first.batch_id, 1))
    ledger.undo(first, reason="test")
    again = ledger.begin("b1", "his", DAY, contract_version="1", writes=["silver/patient"])
    tables.append("silver/patient", rows(("a", 1)), txn=(again.batch_id, 1))
    ledger.commit(again, [line(1, 1)])
    assert content("silver/patient") == [("a", 1), ("z", 0)]


def test_a_killed_batch_is_found_and_taken_up(lake_home: Path) -> None:
    batch = ledger.begin("b1", "his", DAY, contract_version="1", writes=["silver/patient"])
    tables.append("silver/patient", rows(("a", 1)), txn=(batch.batch_id, 1))
    found = ledger.open_batches("his")
    assert [b.batch_id for b in found] == ["b1"] and found[0].pinned == {"silver/patient": -1}
    tables.append("silver/patient", rows(("a", 1)), txn=(found[0].batch_id, 1))
    ledger.commit(found[0], [line(1, 1)])
    assert content("silver/patient") == [("a", 1)]


def test_a_run_pins_what_is_visible_and_stays_the_same(lake_home: Path) -> None:
    batch = ledger.begin("b1", "his", DAY, contract_version="1", writes=["silver/patient"])
    tables.append("silver/patient", rows(("a", 1)))
    ledger.commit(batch, [line(1, 1)])
    run = runs.open_run(DAY)
    runs.record_output(run, {"silver/person": 0})
    assert runs.open_run(DAY).versions == {"silver/patient": 0, "silver/person": 0}
    tables.append("silver/patient", rows(("b", 2)))
    connection = duck.connect()
    duck.create_views(connection, {"silver/patient": runs.get_run(DAY).versions["silver/patient"]})
    assert connection.execute("SELECT count(*) FROM silver.patient").fetchall() == [(1,)]
    with pytest.raises(MedlakeError) as caught:
        runs.get_run(date(2020, 1, 1))
    assert caught.value.code == "E106"


def test_audit_chain_finds_any_edit(lake_home: Path) -> None:
    for n in range(3):
        audit.record("export", actor="officer", purpose="p", tables=["t"], fields=["f"], rows=n, result="ok")
    assert audit.verify() == 3
    with ops.engine().begin() as connection:
        connection.exec_driver_sql(
            "UPDATE audit_entry SET entry = replace(entry, '\"rows\": 1', '\"rows\": 9') WHERE seq = 2"
        )
    with pytest.raises(MedlakeError) as caught:
        audit.verify()
    assert caught.value.code == "E107"


def test_home_is_the_service_accounts_alone(lake_home: Path) -> None:
    tables.append("silver/x", rows(("a", 1)))
    assert lake_home.stat().st_mode & 0o077 == 0
