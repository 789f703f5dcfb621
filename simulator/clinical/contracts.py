"""Family doctors: contracts renewed every year, and what was performed of their packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.cards import Care
from simulator.clinical.draw import NO_DAY, age_on, days, instants, numbers, pick, serial_ids, stream, to_days
from simulator.clinical.served import Served, add_months, family, same, span

BEFORE = 540  # days before the end of the history on which the contract system began
YEAR = 365
VOLUNTEERS = 0.12  # residents of no priority group who sign


@dataclass(frozen=True)
class Groups:
    """Per resident since when and until when somebody belongs to a group (NaT: not, or still)."""

    since: dict[str, np.ndarray]
    until: dict[str, np.ndarray]

    def first(self) -> np.ndarray:
        """First day in any group (NaT: none)."""
        out: np.ndarray = np.fmin.reduce(np.stack(list(self.since.values())))
        return out


def make_groups(served: Served, care: Care, world: Mapping[str, pa.Table]) -> Groups:
    """Elderly, children, managed patients, mothers, and everybody with a card of another programme or a disability."""
    size, cohort = len(served.birth), served.cohort
    nobody = np.full(size, NO_DAY)
    since, until = {}, {}
    since["elder"], until["elder"] = add_months(served.birth, 12 * 65), nobody
    since["child"], until["child"] = served.birth.copy(), add_months(served.birth, 84)
    for name, begun in (("htn", care.htn_from), ("dm", care.dm_from)):
        since[name], until[name] = nobody.copy(), nobody.copy()
        since[name][care.who], until[name][care.who] = begun, care.ended
    cards = world["preg_card"]
    who, day = cards["resident"].to_numpy(), to_days(cards["carded_on"])
    since["preg"], until["preg"] = nobody.copy(), nobody.copy()
    order = np.argsort(day, kind="stable")
    since["preg"][who[order]] = day[order]
    until["preg"] = since["preg"] + 260
    other = nobody.copy()
    for table in ("smi_card", "tb_notice"):
        if table in world:
            other[world[table]["resident"].to_numpy()] = served.begin
    disability = served.archives.table["disability"].slice(0, len(served.archives.archive_id)).to_pylist()
    disabled = np.array([d not in (None, "无") for d in disability])
    other[(served.archive >= 0) & disabled[served.archive]] = served.begin
    since["other"], until["other"] = other, nobody
    # Who left a group before the contract system began is not in it; the dead are in none.
    start = served.history_end - BEFORE
    for name in since:
        gone = (~np.isnat(until[name]) & (until[name] < start)) | (cohort.death < start)
        since[name] = np.where(gone, NO_DAY, since[name])
    return Groups(since, until)


def _chains(
    served: Served, groups: Groups, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Resident, number in the chain, first day of each contract's year."""
    size, first = len(served.birth), groups.first()
    signs = (served.archive >= 0) & (~np.isnat(first) | (rng.random(size) < VOLUNTEERS))
    who = np.flatnonzero(signs)
    start = served.history_end - BEFORE + rng.integers(0, 170, len(who)).astype("timedelta64[D]")
    ready = np.fmax(first[who], served.opened[who])
    start = np.where(ready > start - 10, ready + span(rng, 5, 20, len(who)), start)
    start = np.maximum(start, served.opened[who] + 5)
    all_who, all_number, all_start = [], [], []
    for number in range(BEFORE // YEAR + 1):
        begins = start + number * YEAR
        death = served.cohort.death[who]
        takes = (begins <= served.horizon + 10) & (np.isnat(death) | (begins < death))
        all_who.append(who[takes])
        all_number.append(np.full(int(takes.sum()), number))
        all_start.append(begins[takes])
    return np.concatenate(all_who), np.concatenate(all_number), np.concatenate(all_start)


def make_contracts(
    served: Served, care: Care, world: Mapping[str, pa.Table], seed: int
) -> dict[str, pa.Table]:
    """``fd_contract`` (again where it expires or ends by death in the daily window) and ``fd_service``."""
    rng = stream(seed, "family", "contracts")
    groups = make_groups(served, care, world)
    who, number, starts = _chains(served, groups, rng)
    order = np.lexsort((served.archive[who], starts))
    who, number, starts = who[order], number[order], starts[order]
    size, ends = len(who), starts + (YEAR - 1)
    signed = np.maximum(starts - span(rng, 0, 5, size), served.opened[who])
    has = _belongs(served, groups, who, starts)
    packages = family()["contracts"]["packages"]
    ids = serial_ids("QY", np.arange(1, size + 1), 8)
    bits = np.zeros(size, dtype="int64")
    names = [n for n in packages if n != "all"]
    for place, name in enumerate(names):
        bits += has[name] << place
    every = [[n for place, n in enumerate(names) if mask >> place & 1] for mask in range(1 << len(names))]
    held = [";".join([packages["all"]["package"], *(packages[n]["package"] for n in mask)]) for mask in every]
    tags = ["、".join(packages[n]["tag"] for n in mask) or None for mask in every]
    org = served.org(who)
    base = pa.table({
        "contract_id": ids, "archive_id": served.archive_id(who),
        "family_id": pc.binary_join_element_wise("JT", served.archive_id(who), ""),
        "team_id": serial_ids(pc.binary_join_element_wise(org, "T", ""), 1 + served.archive[who] % 4, 2),
        "doctor_id": served.doctor(who), "package_ids": pick(held, bits),
        "crowd_tags": pa.array(tags, pa.string()).take(pa.array(bits)),
        "signed_on": days(signed), "starts_on": days(starts), "ends_on": days(ends),
        "sign_way_code": pick(["paper", "electronic", "onsite"], who % 3), "pay_source_code": same("public", size),
        "amount": numbers(60 + 30 * np.minimum(bits, 4)), "org_code": org, "resident": pa.array(who),
    })  # fmt: skip
    death = served.cohort.death[who]
    over = np.where(~np.isnat(death) & (death <= ends), death + 1, ends + 1)
    cancelled = ~np.isnat(death) & (death <= ends)
    table = _states(base, served, signed, over, cancelled)
    return {
        "fd_contract": table,
        "fd_service": _services(rng, served, base, has, who, starts, ends, signed, death),
    }


def _belongs(served: Served, groups: Groups, who: np.ndarray, day: np.ndarray) -> dict[str, np.ndarray]:
    """Group membership on the day a contract begins; for managed patients, that still lasts at the horizon.

    A package is changed when the management ends, so a contract never names a card that is closed.
    """
    out = {}
    for name in ("child", "htn", "dm", "preg"):
        since, until = groups.since[name][who], groups.until[name][who]
        lasts = np.isnat(until) | (until > (served.horizon + 7 if name in ("htn", "dm") else day))
        out[name] = ~np.isnat(since) & (since <= day) & lasts
    age = age_on(served.birth[who], day)
    out["elder"] = age >= 65
    out["child"] = age <= 6
    return out


def _states(
    base: pa.Table, served: Served, signed: np.ndarray, over: np.ndarray, cancelled: np.ndarray
) -> pa.Table:
    """Contracts as the history shows them, and again where they end in the daily window."""
    done = over <= served.history_end

    def version(rows: np.ndarray, closed: np.ndarray, known: np.ndarray) -> pa.Table:
        part = base.take(pa.array(rows))
        died = cancelled[rows] & closed
        extra = {
            "status_code": pick(["active", "expired", "cancelled"], np.where(closed, 1 + cancelled[rows], 0)),
            "cancelled_on": days(np.where(died, over[rows], NO_DAY)),
            "cancel_reason": pick(["死亡"], np.where(died, 0, -1)),
            "source_updated_at": instants(known.astype("datetime64[s]") + np.timedelta64(15 * 3600, "s")),
            "deliver_on": days(served.window.deliver_on(known)),
        }
        for name, column in extra.items():
            part = part.append_column(name, column)
        return part

    later = np.flatnonzero(~done & (over <= served.horizon))
    first = version(np.arange(len(over)), done, np.where(done, over, signed))
    return pa.concat_tables([first, version(later, np.full(len(later), True), over[later])]).combine_chunks()


def _services(
    rng: np.random.Generator, served: Served, base: pa.Table, has: dict[str, np.ndarray], who: np.ndarray,
    starts: np.ndarray, ends: np.ndarray, signed: np.ndarray, death: np.ndarray,
) -> pa.Table:  # fmt: skip
    """One row per item of a package: what the year holds and what was performed by the end of the history."""
    until = np.minimum(np.where(np.isnat(death), ends, np.minimum(ends, death)), served.history_end)
    share = np.clip((until - starts).astype("int64") / (YEAR - 1), 0, 1)
    parts = []
    for place, (name, item) in enumerate(family()["contracts"]["packages"].items()):
        rows = np.flatnonzero(has.get(name, np.full(len(who), True)))
        planned = int(item["count"])
        done = np.ceil(planned * share[rows] - 0.05).clip(0, planned).astype("int64")
        # The first third of the year may pass without a service; from then on the team keeps up.
        done = np.where((share[rows] < 0.35) & (rng.random(len(rows)) < 0.3), 0, done)
        day = np.where(done > 0, np.maximum(until[rows] - span(rng, 0, 40, len(rows)), starts[rows]), NO_DAY)
        parts.append((rows, np.full(len(rows), place), np.full(len(rows), planned), done, day))
    row, kind, due, done, day = (np.concatenate(p) for p in zip(*parts, strict=True))
    names = [item["service"] for item in family()["contracts"]["packages"].values()]
    typed = np.fmax(np.maximum(signed[row], np.minimum(until[row], served.history_end)), day)
    stamp = served.stamp(rng, who[row], np.where(signed[row] > served.history_end, signed[row], typed))
    table = pa.table({
        "contract_id": base["contract_id"].take(pa.array(row)), "archive_id": served.archive_id(who[row]),
        "service_name": pick(names, kind), "planned_on": days((starts + YEAR // 2)[row]), "done_on": days(day),
        "planned_count": pa.array(due), "done_count": pa.array(done),
        "status_code": pick(["planned", "done"], (done >= due).astype("int64")), **stamp,
    })  # fmt: skip
    table = table.sort_by(
        [("deliver_on", "ascending"), ("contract_id", "ascending"), ("service_name", "ascending")]
    )
    ids = serial_ids("LY", np.arange(1, table.num_rows + 1), 8)
    return table.add_column(0, "service_id", ids).combine_chunks()
