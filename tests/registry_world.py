"""A lake of a few registrations whose persons are plain to see, for tests of merges, undos and approvals."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
from sqlalchemy import select
from typer.testing import CliRunner

from empi import registry
from empi.decisions import RecordKey
from lake import duck, ledger, ops, tables
from lake.contracts import table_contract
from tests.empi_world import id_number

FIRST = date(2026, 11, 2)
_NAMES = ("张建国", "李秀芳", "王海燕", "赵小平", "陈志强", "刘桂英", "孙德明", "周玉兰", "吴国栋", "郑春梅")


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def who(number: int) -> dict[str, Any]:
    """Resident ``number``: name, birth date, valid id, telephone and address of their own."""
    born = date(1950 + number, 1 + number % 12, 3 + number)
    return {
        "name": _NAMES[number],
        "sex_code": "1",
        "birth_date": born,
        "id_no": id_number(born, 101 + 2 * number),
        "phone": f"139072200{number:02d}",
        "addr_detail": f"湖滨老洲社区{number + 1}组{number + 11}号",
    }


def deliver(name: str, rows: Iterable[dict[str, Any]]) -> None:
    """Put rows into a silver table and show it, as a committed batch does."""
    contract = table_contract(name)
    schema = contract.silver_schema()
    blank = dict.fromkeys(schema.names) | {"data_date": FIRST, "batch_id": "b", "is_deleted": False}
    full = [blank | {"source_updated_at": datetime(2026, 11, 1, tzinfo=UTC)} | r for r in rows]
    tables.merge(f"silver/{name}", pa.Table.from_pylist(full, schema=schema), key=contract.full_key)
    with ops.engine().begin() as connection:
        ledger.set_visible(connection, f"silver/{name}", tables.version(f"silver/{name}"), None)


def patient(number: str, org_code: str = "H101", **given: Any) -> dict[str, Any]:
    return {"patient_local_id": number, "org_code": org_code} | given


def archive(number: str, org_code: str = "C201", **given: Any) -> dict[str, Any]:
    return {"archive_id": number, "org_code": org_code, "status_code": "0"} | given


def his(number: str, org_code: str = "H101") -> RecordKey:
    return RecordKey("his", org_code, number)


def shown(name: str) -> str:
    return tables.scan_sql(name, ledger.visible("silver/")[name])


def query(sql: str) -> list[tuple[Any, ...]]:
    connection = duck.connect()
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def person_of() -> dict[RecordKey, str]:
    """Each open registration's person in the lake."""
    return {
        RecordKey(*r[:3]): r[3]
        for r in query(
            f"""SELECT source_system, org_code, identifier_value, empi_id FROM {shown("silver/person_identifier")}
            WHERE identifier_type = 'MR' AND valid_to IS NULL"""
        )
    }


def digest() -> str:
    connection = duck.connect()
    try:
        return registry.crosswalk_sha256(connection, shown("silver/person_identifier"))
    finally:
        connection.close()


def rows(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tables.read(name, ledger.visible("silver/")[name]).to_table().to_pylist()
    return found


def history_rows() -> set[tuple[Any, ...]]:
    """The crosswalk without the end of validity: what may only grow."""
    return {
        tuple(v for k, v in sorted(r.items()) if k != "valid_to") for r in rows("silver/person_identifier")
    }


def visible() -> dict[str, int]:
    return {n: v for n, v in ledger.visible("silver/").items() if n != "silver/match_decision"}


def change_rows() -> list[Any]:
    with ops.engine().begin() as connection:
        return list(connection.execute(select(ops.registry_change).order_by(ops.registry_change.c.seq)))


def command(*words: str) -> tuple[int, str]:
    from medlake.commands.empi import app

    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output


def told(*words: str) -> dict[str, Any]:
    """The JSON object of a command that must succeed."""
    code, out = command(*words, "--json")
    assert code == 0, out
    return dict(json.loads(out.strip().splitlines()[-1]))
