"""Faults of ARC-001, 002, 004, 005, 009, 013, 016, 017; ARC-007 and ARC-018 come from the world itself (natural.py)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import days
from simulator.faults.record import World

TABLE = "ph_archive"
PLACEHOLDERS = ["测试", "无名氏1", "未知", "XXX"]
BAD_PHONES = ["1381234567", "12345678901", "6234567", "138001380000"]


def inject(world: World) -> None:
    """Identity faults go to archives without any service record: an age or a name there moves no other rule."""
    free = _unserved(world)
    id_no = world.array(TABLE, "id_no")

    rows = world.choose(TABLE, "ARC-001", free)
    world.put(
        TABLE,
        rows,
        id_no=[
            f"{id_no[r][:6]}{id_no[r][8:17]}" if i % 2 else id_no[r][:17] for i, r in enumerate(rows.tolist())
        ],
    )
    world.note(TABLE, rows, "ARC-001", "rule", "id_no")

    rows = world.choose(TABLE, "ARC-002", free)
    world.put(
        TABLE, rows, id_no=[id_no[r][:17] + ("7" if id_no[r][17] != "7" else "4") for r in rows.tolist()]
    )
    world.note(TABLE, rows, "ARC-002", "rule", "id_no")

    rows = world.choose(TABLE, "ARC-004", free)
    birth = world.array(TABLE, "birth_date")
    world.put(TABLE, rows, birth_date=days(birth[rows] + np.timedelta64(40, "D")))
    world.note(TABLE, rows, "ARC-004", "rule", "birth_date")

    rows = world.choose(TABLE, "ARC-005", free)
    sex = world.array(TABLE, "sex_code")
    world.put(TABLE, rows, sex_code=["2" if sex[r] == "1" else "1" for r in rows.tolist()])
    world.note(TABLE, rows, "ARC-005", "rule", "sex_code")

    rows = world.choose(TABLE, "ARC-009", free)
    world.put(TABLE, rows, name=[PLACEHOLDERS[i % len(PLACEHOLDERS)] for i in range(len(rows))])
    world.note(TABLE, rows, "ARC-009", "rule", "name")

    rows = world.choose(TABLE, "ARC-013", free)
    world.put(TABLE, rows, phone=[BAD_PHONES[i % len(BAD_PHONES)] for i in range(len(rows))])
    world.note(TABLE, rows, "ARC-013", "rule", "phone")

    rows = world.choose(TABLE, "ARC-016", free)
    world.put(TABLE, rows, is_dead=True)
    world.note(TABLE, rows, "ARC-016", "rule", "is_dead,death_date,status_code")
    buried_alive(world)


def sound_identity(world: World) -> np.ndarray:
    """Active archives whose identity data break no rule and whose number nobody else has."""
    table = world.tables[TABLE]
    id_no = table["id_no"]
    counts = pc.value_counts(id_no.combine_chunks())
    unique = counts.filter(pc.equal(counts.field("counts"), 1)).field("values")
    good = pc.fill_null(
        pc.and_(pc.match_substring_regex(id_no, "^[0-9]{17}[0-9X]$"), pc.is_in(id_no, unique)), False
    )
    good = pc.and_(
        good,
        pc.and_(pc.equal(table["status_code"], "0"), pc.equal(pc.fill_null(table["id_type_code"], ""), "01")),
    )
    result = good.combine_chunks().to_numpy(zero_copy_only=False)
    matches = _matches_number(world, result)
    out: np.ndarray = result & matches
    return out


def _matches_number(world: World, candidates: np.ndarray) -> np.ndarray:
    """Check character, birth date and sex agree with the number (GB 11643-1999)."""
    ids = world.tables[TABLE]["id_no"].to_pylist()
    birth, sex = world.array(TABLE, "birth_date"), world.array(TABLE, "sex_code")
    rows = np.flatnonzero(candidates)
    digits = np.array([[int(c) for c in ids[r][:17]] for r in rows.tolist()], dtype="int64").reshape(
        len(rows), 17
    )
    weights = np.array([7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2])
    check = np.array(list("10X98765432"))[(digits @ weights) % 11]
    last = np.array([ids[r][17] for r in rows.tolist()])
    born = np.array([f"{ids[r][6:10]}-{ids[r][10:12]}-{ids[r][12:14]}" for r in rows.tolist()])
    shown = np.datetime_as_string(birth[rows]) if len(rows) else born
    parity = np.where(digits[:, 16] % 2 == 1, "1", "2")
    result = np.zeros(len(candidates), dtype=bool)
    result[rows] = (check == last) & (born == shown) & (parity == sex[rows].astype(str))
    return result


def _unserved(world: World) -> np.ndarray:
    """Sound archives, delivered once, to which no card, visit, examination or device belongs."""
    ids = world.tables[TABLE]["archive_id"]
    served: set[str] = set()
    for table in ("htn_card", "dm_card", "htn_visit", "dm_visit", "ph_exam", "device_binding"):
        served.update(pc.unique(world.tables[table]["archive_id"].combine_chunks()).to_pylist())
    free = np.array([a not in served for a in ids.to_pylist()])
    counts = pc.value_counts(ids.combine_chunks())
    single = pc.is_in(ids, counts.filter(pc.equal(counts.field("counts"), 1)).field("values"))
    in_registry = pc.fill_null(
        pc.is_in(world.tables[TABLE]["id_no"], world.tables["death_registry"]["id_no"].combine_chunks()),
        False,
    )
    result: np.ndarray = (
        sound_identity(world)
        & free
        & single.to_numpy()
        & ~in_registry.to_numpy()
        & (world.array(TABLE, "deliver_on") <= world.end)
    )
    return result


def buried_alive(world: World) -> None:
    """Archives closed for a death that is followed by visits (ARC-017): the death was written to the wrong archive."""
    visits, archives = world.tables["htn_visit"], world.array(TABLE, "archive_id")
    day = world.array("htn_visit", "visited_on")
    old = day < np.datetime64(world.window.history_end) - np.timedelta64(120, "D")
    latest: dict[str, np.datetime64] = {}
    mine = visits["archive_id"].to_pylist()
    for row in np.flatnonzero(old & (world.array("htn_visit", "deliver_on") <= world.end)).tolist():
        latest[mine[row]] = max(latest.get(mine[row], day[row]), day[row])
    alive = (world.array(TABLE, "status_code") == "0") & np.isin(archives.astype(str), list(latest))
    rows = world.choose(TABLE, "ARC-017", alive & sound_identity(world))
    death = np.array([latest[archives[r]] for r in rows.tolist()], dtype="datetime64[D]") - np.timedelta64(
        5, "D"
    )
    world.put(TABLE, rows, is_dead=True, status_code="1", death_date=days(death))
    world.note(TABLE, rows, "ARC-017", "rule", "death_date")


def scientific_ids(world: World, centres: tuple[str, ...]) -> None:
    """Identity numbers that a spreadsheet turned into 4.29701E+17, in the workbooks of these centres (ARC-001)."""
    in_books = np.isin(world.array(TABLE, "org_code").astype(str), list(centres))
    rows = np.flatnonzero(_unserved(world) & in_books)
    taken = world.touched.setdefault(TABLE, set())
    archive = world.array(TABLE, "archive_id")
    rows = np.array(
        [r for r in rows.tolist() if archive[r] not in taken][: int(world.rates["scientific_ids"])],
        dtype="int64",
    )
    taken.update(archive[rows].tolist())
    id_no = world.array(TABLE, "id_no")
    world.put(
        TABLE,
        rows,
        id_no=pa.array([f"{id_no[r][0]}.{id_no[r][1:6]}E+17" for r in rows.tolist()], pa.string()),
    )
    world.note(TABLE, rows, "ARC-001", "scientific_notation", "id_no")
