"""A small town whose registrations change from day to day, and the oracle of the incremental run: all linked at once.

Few names, days and telephones on purpose, so that families, twins, lent ids and newborns meet often.
"""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from empi import calibration, golden, linking, registry, sources, state, unlinkable
from lake import ledger, ops, runs, tables
from lake.contracts import table_contract
from tests.empi_world import id_number

FIRST = date(2026, 11, 2)
_FIELDS = ("name", "sex_code", "birth_date", "id_no", "phone", "addr_detail")
_ADDRESSES = ("湖东区湖滨街道湖滨老洲社区3组12号", "湖滨老洲社区3组12号", "老洲村5号", None)


class Town:
    """Residents and their registrations; every choice follows from the seed."""

    def __init__(self, seed: int, *, ahead: bool = True) -> None:
        self.random = random.Random(seed)
        self.ahead = 9 if ahead else 0  # days after the first on which newborns may be said to be born
        self.serial = 0
        self.people: list[dict[str, Any]] = []
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}  # (table, number) -> silver row
        self.clock = datetime(2026, 11, 1, tzinfo=UTC)

    def person(self) -> dict[str, Any]:
        pick = self.random.choice
        born = pick(
            [date(1960 + i % 4, 3 + i % 3, 7 + i) for i in range(8)]
            + [FIRST + timedelta(days=min(self.ahead, 2))]
        )
        sex = pick("12")
        serial = self.random.randrange(1, 40) * 2 + (sex == "1")
        made: dict[str, Any] = {
            "name": pick("王李张欧") + pick("建秀小丽") + pick(["国", "芳", "", "英"]),
            "sex_code": sex,
            "birth_date": born,
            "id_no": id_number(born, serial),
            "phone": f"1390722{self.random.randrange(1000, 1012)}",
            "addr_detail": pick(_ADDRESSES),
        }
        if self.people and self.random.random() < 0.3:  # a twin, or one of the same house
            made |= {k: pick(self.people)[k] for k in ("birth_date", "phone", "addr_detail")}
            made["id_no"] = id_number(made["birth_date"], serial)
        self.people.append(made)
        return made

    def register(self) -> tuple[str, str]:
        """One more registration, of a known resident or a new one, with what desks do to it."""
        pick, chance = self.random.choice, self.random.random
        who = pick(self.people) if self.people and chance() < 0.6 else self.person()
        row = {f: who[f] for f in _FIELDS}
        row |= {"id_no": None} if chance() < 0.3 else {}
        row |= {"birth_date": None} if chance() < 0.1 else {}
        row |= {"id_no": pick(self.people)["id_no"]} if chance() < 0.08 else {}  # lent
        row |= {"name": pick(["无名氏", None, "王建国", "张小英"])} if chance() < 0.08 else {}
        row |= {"phone": "13900000001" if chance() < 0.5 else None} if chance() < 0.2 else {}
        self.serial += 1
        if chance() < 0.4:
            key = ("ph_archive", f"A{self.serial:04d}")
            row |= {"archive_id": key[1], "org_code": pick(["C201", "C202"]), "status_code": "1"}
        else:
            key = ("patient", f"{self.random.randrange(1000):03d}-{self.serial}")
            row |= {"patient_local_id": key[1], "org_code": pick(["H101", "H102"])}
            row |= {"health_card_no": f"K{self.random.randrange(100, 140)}000"} if chance() < 0.2 else {}
            mothers = [r for (t, _), r in self.rows.items() if t == "patient" and not r["is_deleted"]]
            if mothers and chance() < 0.15:
                mother = pick(mothers)
                row |= {"name": f"{mother['name'] or '王丽'}之{pick(['子', '长女', '次子'])}", "id_no": None}
                row |= {
                    "birth_date": FIRST + timedelta(days=self.random.randrange(-9, 1 + self.ahead)),
                    "phone": None,
                }
                row |= {"mother_patient_id": mother["patient_local_id"], "org_code": mother["org_code"]}
        self.rows[key] = row | {"is_deleted": False}
        return key

    def change(self, key: tuple[str, str]) -> tuple[str, str]:
        field = self.random.choice([*_FIELDS, "is_deleted"])
        row = self.rows[key]
        if field == "is_deleted":
            row["is_deleted"] = not row["is_deleted"]
        else:
            row[field] = self.random.choice([self.random.choice(self.people)[field], None])
        return key

    def day(self, new: int, changes: int) -> list[tuple[str, str]]:
        standing = sorted(self.rows)
        touched = [self.change(self.random.choice(standing)) for _ in range(changes)] if standing else []
        return sorted({*touched, *(self.register() for _ in range(new))})

    def deliver(self, keys: list[tuple[str, str]]) -> None:
        self.clock += timedelta(hours=1)
        for name in ("patient", "ph_archive"):
            contract = table_contract(name)
            schema = contract.silver_schema()
            blank = dict.fromkeys(schema.names) | {"data_date": FIRST, "batch_id": "b"}
            rows = [blank | self.rows[k] | {"source_updated_at": self.clock} for k in keys if k[0] == name]
            if rows:
                table = pa.Table.from_pylist(rows, schema=schema)
                tables.merge(f"silver/{name}", table, key=contract.full_key)
                show(f"silver/{name}")

    def decide(self) -> None:
        """People keep two records apart, or join them; never against each other (that is E303's test)."""
        one, other = self.random.sample(sorted(k for k in self.rows if not self.rows[k]["is_deleted"]), 2)
        row: dict[str, str] = {"decision": self.random.choice(["must_link", "cannot_link"])}
        for side, (table, number) in zip("lr", (one, other), strict=True):
            system = {"patient": "his", "ph_archive": "public_health"}[table]
            row |= {f"source_system_{side}": system, f"org_code_{side}": self.rows[table, number]["org_code"]}
            row[f"identifier_value_{side}"] = number
        tables.append("silver/match_decision", pa.Table.from_pylist([row]))
        show("silver/match_decision")


def show(name: str) -> None:
    with ops.engine().begin() as connection:
        ledger.set_visible(connection, name, tables.version(name), None)


def rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return sorted(connection.execute(sql).fetchall(), key=repr)


def visible(name: str) -> str:
    return tables.scan_sql(name, ledger.visible("silver/")[name])


def all_at_once(day: date, before: str) -> duckdb.DuckDBPyConnection:
    """The same day linked from all records with the statistics of the kept state, up to the tables it would write."""
    run = runs.get_run(day)
    connection = sources.connect(run)
    about = state.attach(connection)
    assert about is not None and about.run_id == run.run_id, "the day was kept"
    calibration.use(connection, state.STATISTICS)
    records = sources.collect(connection, run)
    sources.collect_decisions(connection, run)
    sources.collect_deaths(connection, run)
    linking.resolve(connection, day, records, state.STATISTICS)
    registry.create_previous(connection, before)
    registry.assign_ids(connection, run.run_id)
    registry.build_crosswalk(connection, day)
    registry.build_events(connection, run.run_id, day)
    golden.build_person(connection)
    return connection


def compare(connection: duckdb.DuckDBPyConnection) -> None:
    """What the incremental run wrote and kept is what linking all at once gives."""
    for name, table in (("silver/person_identifier", "crosswalk"), ("silver/person", "person")):
        columns = ", ".join(r[0] for r in connection.execute(f"DESCRIBE {table}").fetchall())
        assert rows(connection, f"SELECT {columns} FROM {visible(name)}") == rows(
            connection, f"SELECT {columns} FROM {table}"
        )
    unlinkable.find(connection)
    keys = ", ".join(unlinkable.KEY)
    found = rows(connection, f"SELECT {keys}, reason FROM unlinkable JOIN source_record USING (rec_no)")
    assert rows(connection, f"SELECT {keys}, reason FROM {visible(unlinkable.TABLE)}") == found
    assert found, "some cannot be linked"
    record = state.record_columns(connection, "record")
    assert rows(connection, f"SELECT {record} FROM kept.record") == rows(
        connection, f"SELECT {record} FROM record"
    )
    columns = state.pair_columns(connection)

    def keyed(source: str, pair: str, left: str, right: str, number: str) -> str:
        key = "(s.source_system, s.org_code, s.identifier_value)"
        return f"""SELECT {key}, {key.replace("s.", "t.")}, {columns} FROM {pair}
            JOIN {source} s ON s.{number} = {left} JOIN {source} t ON t.{number} = {right}"""

    assert rows(connection, keyed("kept.record", "kept.pair", "id_l", "id_r", "rec_id")) == rows(
        connection, keyed("record", "pair", "rec_l", "rec_r", "rec_no")
    )
    future = "SELECT {}, day FROM {} JOIN {} USING ({})"
    key = "source_system, org_code, identifier_value"
    mother = "SELECT source_system, org_code, mother_identifier FROM {} WHERE mother_identifier IS NOT NULL"
    assert rows(connection, mother.format("kept.mother")) == rows(connection, mother.format("source_record"))
    assert rows(connection, future.format(key, "kept.future", "kept.record", "rec_id")) == rows(
        connection, future.format(key, "future", "record", "rec_no")
    )
