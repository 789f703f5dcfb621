"""Faults of FDC-001 to FDC-007."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import days
from simulator.faults.copies import at_noon, changed, history_end, in_ids, place, renamed, settled
from simulator.faults.record import SCHEMA, World
from simulator.faults.tcm import newest_archives

TABLE, SERVICE = "fd_contract", "fd_service"
CAMPAIGN = 68  # contracts of one doctor on one day: more than anybody can explain to people
CENTRES_PER = 7000  # archives per centre that had such a day

# Groups whose members should have a contract, read on the state at the end, per archive.
UNSIGNED = """
WITH card AS (
    SELECT resident, tag FROM (
        SELECT resident, 'card' AS tag, status_code, row_number() OVER (PARTITION BY card ORDER BY stamp DESC) AS n
        FROM cards WHERE deliver_on <= $end) WHERE n = 1 AND status_code = 'active'
), signed AS (
    SELECT resident FROM (
        SELECT resident, status_code, starts_on, ends_on,
            row_number() OVER (PARTITION BY contract_id ORDER BY source_updated_at DESC) AS n
        FROM contract WHERE deliver_on <= $end)
    WHERE n = 1 AND status_code = 'active' AND starts_on <= $end AND ends_on >= $end
), aged AS (
    SELECT *, date_diff('year', birth_date, CAST($end AS DATE))
        - (strftime(birth_date, '%m%d') > strftime(CAST($end AS DATE), '%m%d'))::INT AS age FROM archive
)
SELECT row_no FROM aged
WHERE status_code = '0' AND NOT is_dead AND resident NOT IN (SELECT resident FROM signed)
    AND (age >= 65 OR age <= 6 OR resident IN (SELECT resident FROM card) OR coalesce(disability, '无') NOT IN ('无', '无残疾'))
ORDER BY row_no
"""


def inject(world: World) -> None:
    unsigned(world)
    kept_by_the_dead(world)
    overlapping(world)
    impossible_dates(world)
    not_performed(world)
    wrong_package(world)
    campaign(world)


def _active(world: World) -> np.ndarray:
    """Contracts in force from well before the end until well after it."""
    running = (world.array(TABLE, "starts_on") <= history_end(world)) & (
        world.array(TABLE, "ends_on") > world.end + 10
    )
    result: np.ndarray = (
        running & (world.array(TABLE, "status_code") == "active") & settled(world, TABLE, "contract_id")
    )
    return result


def unsigned(world: World) -> None:
    """Members of a priority group whom nobody signed; :func:`note_unsigned` logs them (FDC-007)."""
    tagged = np.array([t is not None for t in world.array(TABLE, "crowd_tags")], dtype=bool)
    rows = world.choose(TABLE, "FDC-007", _active(world) & tagged)
    people = set(world.array(TABLE, "archive_id")[rows].tolist())
    for table in (TABLE, SERVICE):
        world.drop(table, np.flatnonzero(in_ids(world, table, "archive_id", people)))


def kept_by_the_dead(world: World) -> None:
    """The resident died, the archive was closed, the contract runs on (FDC-003)."""
    at = place(world, "ph_archive", "archive_id", world.tables[TABLE]["archive_id"].to_pylist())
    closed = (world.array("ph_archive", "status_code") == "1")[at] & settled(
        world, "ph_archive", "archive_id"
    )[at]
    ended = (world.array(TABLE, "status_code") == "cancelled") & settled(world, TABLE, "contract_id")
    rows = world.choose(TABLE, "FDC-003", ended & closed & (at >= 0))
    world.put(
        TABLE, rows, status_code="active", cancelled_on=None, cancel_reason=None, package_ids="基础服务包"
    )
    world.note(TABLE, rows, "FDC-003", "rule", "status_code")
    gone = in_ids(world, SERVICE, "contract_id", set(world.array(TABLE, "contract_id")[rows].tolist()))
    world.drop(SERVICE, np.flatnonzero(gone))


def overlapping(world: World) -> None:
    """A second team signed the same resident for the same months (FDC-001)."""
    rows = world.choose(TABLE, "FDC-001", _active(world))
    again = renamed(world.tables[TABLE].take(pa.array(rows)), "contract_id")
    team = pc.binary_join_element_wise(again["team_id"].combine_chunks(), "B", "")
    start = world.array(TABLE, "starts_on")[rows]
    again = changed(again, team_id=team, starts_on=days(start + 20), ends_on=days(start + 384))
    world.note(TABLE, np.concatenate([rows, world.add(TABLE, again)]), "FDC-001", "rule", "starts_on,ends_on")


def impossible_dates(world: World) -> None:
    """An old contract that ends before it begins, or runs for three years and more (FDC-002)."""
    old = (world.array(TABLE, "status_code") == "expired") & settled(world, TABLE, "contract_id")
    rows = world.choose(TABLE, "FDC-002", old)
    start = world.array(TABLE, "starts_on")[rows]
    move = np.where(np.arange(len(rows)) % 2 == 0, -5, 1200).astype("timedelta64[D]")
    world.put(TABLE, rows, ends_on=days(start + move))
    world.note(TABLE, rows, "FDC-002", "rule", "ends_on")


def not_performed(world: World) -> None:
    """Half of the year is over and nothing was done (FDC-004)."""
    half = world.array(TABLE, "starts_on") < history_end(world) - 190
    rows = world.choose(TABLE, "FDC-004", _active(world) & half)
    mine = np.flatnonzero(
        in_ids(world, SERVICE, "contract_id", set(world.array(TABLE, "contract_id")[rows].tolist()))
    )
    world.put(SERVICE, mine, done_count=0, done_on=None, status_code="planned")
    world.note(TABLE, rows, "FDC-004", "rule", "contract_id")


def wrong_package(world: World) -> None:
    """A package for diabetics sold to somebody without diabetes (FDC-005)."""
    diabetic = set(world.tables["dm_card"]["archive_id"].to_pylist())
    package = world.array(TABLE, "package_ids")
    rows = world.choose(TABLE, "FDC-005", _active(world) & ~in_ids(world, TABLE, "archive_id", diabetic))
    world.put(TABLE, rows, package_ids=[f"{package[r]};糖尿病个性包" for r in rows.tolist()])
    world.note(TABLE, rows, "FDC-005", "rule", "package_ids")


def campaign(world: World) -> None:
    """A doctor signed a whole village on one day, a year and a half ago (FDC-006)."""
    expired = np.flatnonzero(world.array(TABLE, "status_code") == "expired")
    archives = world.tables["ph_archive"]
    able = settled(world, "ph_archive", "archive_id") & (world.array("ph_archive", "status_code") == "0")
    org = world.array("ph_archive", "org_code").astype(str)
    names, counts = np.unique(org[able], return_counts=True)
    large = names[np.argsort(-counts, kind="stable")][: 1 + archives.num_rows // CENTRES_PER]
    if not len(expired) or world.rates["rules"].get("FDC-006", 1) <= 0:
        return
    for number, centre in enumerate(large.tolist()):
        rows = np.flatnonzero(able & (org == centre))[:CAMPAIGN]
        if len(rows) < CAMPAIGN:  # a village too small for it
            continue
        people = archives.take(pa.array(rows))
        day = np.full(len(rows), history_end(world) - (700 + 9 * number))
        doctor = f"{centre}G01"
        template = world.tables[TABLE].take(pa.array(np.repeat(expired[:1], len(rows))))
        ids = pc.binary_join_element_wise("QYC", people["archive_id"].combine_chunks(), "")
        added = changed(
            template, contract_id=ids, **{n: people[n].combine_chunks() for n in ("archive_id", "org_code", "resident")},
            family_id=pc.binary_join_element_wise("JT", people["archive_id"].combine_chunks(), ""), doctor_id=doctor,
            team_id=f"{centre}T01", package_ids="基础服务包", crowd_tags=None, signed_on=days(day), starts_on=days(day),
            ends_on=days(day + 364), source_updated_at=at_noon(day + 365), deliver_on=[world.window.history_end] * len(rows),
        )  # fmt: skip
        world.add(TABLE, added)
        values = [world.window.history_end, "public_health", "contract_day", centre, f"{doctor}|{day[0]}", "FDC-006", "rule",
                  "contracts", "injected"]  # fmt: skip
        log = [pa.array([v], f.type) for v, f in zip(values, SCHEMA, strict=True)]
        world.log.append(pa.table(log, schema=SCHEMA))


def note_unsigned(world: World) -> None:
    """Log every active archive of a priority group whose owner has no contract in force (FDC-007).

    Besides those dropped: who has just turned 65, was just born or just got a card, and the dead whose archive is open.
    """
    parts = []
    for table, key in (("htn_card", "card_id"), ("dm_card", "card_id"), ("preg_card", "card_id"), ("smi_card", "card_id"),
                       ("tb_notice", "notice_id")):  # fmt: skip
        if table in world.tables:
            rows = world.tables[table]
            stamp = "source_updated_at" if "source_updated_at" in rows.column_names else "deliver_on"
            parts.append(pa.table({
                "card": pc.binary_join_element_wise(table, rows[key].combine_chunks(), "|"), "resident": rows["resident"],
                "status_code": rows["status_code"], "deliver_on": rows["deliver_on"],
                "stamp": rows[stamp].cast(pa.timestamp("s")),
            }))  # fmt: skip
    archive = world.tables["ph_archive"]
    archive = archive.append_column("row_no", pa.array(np.arange(archive.num_rows))).filter(
        pa.array(newest_archives(world))
    )
    with duckdb.connect() as connection:
        connection.register("cards", pa.concat_tables(parts))
        connection.register("contract", world.tables[TABLE])
        connection.register("archive", archive)
        found = connection.execute(UNSIGNED, {"end": world.window.end}).fetchnumpy()["row_no"]
    world.note("ph_archive", np.asarray(found, dtype="int64"), "FDC-007", "rule", "archive_id", "natural")
