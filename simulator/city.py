"""One simulated city from a seed: residents, care, faults, files, truth.

:func:`simulate` writes the history and the daily deliveries; :func:`simulate_bad_day` adds one more day whose
public-health exports are so broken that the gate of `chronic_disease` closes. Both are deterministic: the same
arguments give the same bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import registry
from lake.errors import MedlakeError
from lake.settings import settings
from lake.truth import truth_dir
from simulator.clinical.hospital_services import FEED_OF as HOSPITAL_FEED_OF
from simulator.clinical.office import FEED_OF as OFFICE_FEED_OF
from simulator.clinical.window import SPARE_DAYS, Window
from simulator.clinical.world import FEED_OF, Register, make_world
from simulator.faults import bad_day as bad
from simulator.faults.inject import put_faults
from simulator.faults.malformed import Damage
from simulator.faults.record import World
from simulator.people import make_city
from simulator.profile import Profile
from simulator.writers import (
    access_log,
    base,
    dicom_files,
    his_csv,
    hl7_files,
    iot_ndjson,
    operations_csv,
    public_health,
)

PARAMETERS = "simulation.json"
FEEDS = (
    "his",
    "lis",
    "pacs",
    "iot",
    "public_health",
    "referral",
    "pharmacy",
    "insurance",
    "hr_finance",
    "attachments",
)
PUBLIC_HEALTH = tuple(table for table, feed in FEED_OF.items() if feed == "public_health")


@dataclass(frozen=True)
class _Built:
    city: Any
    world: World
    damage: Damage


def _build(residents: int, days: int, end_date: date, history_years: int, seed: int, profile: str) -> _Built:
    rates = Profile.load(profile)
    window = Window.of(end_date, days, history_years)
    city = make_city(rates, residents, seed, window.horizon)
    clinical = rates.clinical | {
        "imaging_history_days": rates.history.pacs_history_days, "telemetry_history_days": rates.history.iot_history_days,
    }  # fmt: skip
    tables = make_world(city, Register.of(registry.orgs()), window, clinical, seed)
    told = {"sex_of_resident": city.residents["sex_code"].to_pylist()}
    world, damage = put_faults(tables, window, rates.faults | told, seed)
    return _Built(city, world, damage)


def simulate(
    residents: int,
    days: int,
    end_date: date,
    history_years: int,
    seed: int,
    out: Path | None = None,
    truth: Path | None = None,
    profile: str = "default",
    bad_day: date | None = None,
    empty_feeds: Collection[tuple[date, str]] = (),
) -> dict[str, Any]:
    """Write the whole drop and its truth; returns counts.

    The history of `history_years` is delivered under the day before the first of `days` daily deliveries, the
    last of which is `end_date`; one institution delivers in the weeks before it too (``Window.early_dates``).
    `bad_day` is one of the daily dates; `empty_feeds` are (date, feed) pairs that
    deliver nothing. `out` and `truth` default to the settings. The drop of an earlier simulation in `out` is
    replaced; folders of these dates that no simulation wrote raise E804.
    """
    started = time.perf_counter()
    out, truth = out or settings().sources_dir, truth or truth_dir()
    built = _build(residents, days, end_date, history_years, seed, profile)
    window = built.world.window
    if bad_day is not None:
        bad.resubmit(built.world, bad_day, float(built.world.rates["bad_day_share"]))
    bulk = frozenset([bad_day] if bad_day else [])
    dates = frozenset([*window.early_dates, *window.data_dates])
    drop = base.Drop(Path(out), dates, frozenset(empty_feeds), built.damage, bulk)
    drop.replace()
    write_drop(built.world.tables, drop, window)
    if built.damage and len(window.data_dates) > 2:
        _deliver_again(built.world, drop)
    parameters = {
        "residents": residents, "days": days, "end_date": end_date.isoformat(), "history_years": history_years,
        "seed": seed, "profile": profile,
    }  # fmt: skip
    faults = _write_truth(Path(truth), built, drop, parameters)
    return _summary(built.world, drop, faults, window.data_dates, started)


def simulate_bad_day(
    data_date: date | None = None,
    out: Path | None = None,
    truth: Path | None = None,
    **given: Any,
) -> dict[str, Any]:
    """Deliver one more day for the city that `simulate` wrote; its parameters lie beside the truth.

    The other feeds bring an ordinary day; public health re-exports much of its cards and visits broken.
    `data_date` defaults to the day after the last delivery and must lie within a week of it. Parameters in
    `given` (as of `simulate`) must be those of the city that was written; another city raises E801.
    """
    started = time.perf_counter()
    out, truth = Path(out or settings().sources_dir), Path(truth or truth_dir())
    if not (truth / PARAMETERS).is_file():
        raise MedlakeError("E802", place=str(truth / PARAMETERS))
    known = json.loads((truth / PARAMETERS).read_text(encoding="utf-8"))
    for name, value in given.items():
        wanted = value.isoformat() if isinstance(value, date) else value
        if wanted != known.get(name):
            raise MedlakeError(
                "E801", place=str(truth / PARAMETERS), name=name, given=wanted, known=known.get(name)
            )
    end = date.fromisoformat(known["end_date"])
    data_date = data_date or end + timedelta(days=1)
    if not end < data_date <= end + timedelta(days=SPARE_DAYS):
        raise MedlakeError("E803", place="bad_day", date=data_date, end=end, days=SPARE_DAYS)
    built = _build(
        known["residents"], known["days"], end, known["history_years"], known["seed"], known["profile"]
    )
    bad.resubmit(built.world, data_date, float(built.world.rates["bad_day_share"]))
    drop = base.Drop(out, frozenset([data_date]), bulk=frozenset([data_date]))
    drop.extend()
    write_drop(built.world.tables, drop, built.world.window)
    faults = _write_truth(truth, built, drop, known, up_to=data_date)
    return _summary(built.world, drop, faults, [data_date], started)


def write_drop(tables: dict[str, pa.Table], drop: base.Drop, window: Window) -> None:
    """All files of the wanted dates."""
    wanted = pa.array(sorted(drop.dates), pa.date32())
    rows = {name: table.filter(pc.is_in(table["deliver_on"], wanted)) for name, table in tables.items()}
    con = base.connect()
    for name in his_csv.KEYS:
        his_csv.write(con, drop, name, rows[name])
    hl7_files.write_adt(con, drop, rows["patient"])
    hl7_files.write_oru(con, drop, rows["lab_report"], rows["lab_result"], window.history_end)
    iot_ndjson.write(con, drop, rows["vital_reading"], rows["device_binding"])
    dicom_files.write(drop, rows["imaging_instance"])
    for name in (*HOSPITAL_FEED_OF, *OFFICE_FEED_OF):
        operations_csv.write(con, drop, name, rows[name])
    access_log.write(drop, rows["audit_event"])
    for name in PUBLIC_HEALTH:
        public_health.write(con, drop, name, rows[name], window.history_end)


def _deliver_again(world: World, drop: base.Drop) -> None:
    """The encounter file of one hospital of the first day comes a second time, byte for byte, a day later."""
    first, second = world.window.data_dates[1:3]
    for path in sorted((drop.root / first.isoformat() / "his").glob("H10*/encounter_*.csv"))[:1]:
        if drop.wants(second, "his"):
            org = path.parent.name
            drop.write(second, "his", org, path.name, path.read_bytes())
            world.note_text(second, "encounter", org, path.name, "duplicate_file", "")


def _write_truth(
    truth: Path, built: _Built, drop: base.Drop, parameters: dict[str, Any], up_to: date | None = None
) -> pa.Table:
    """`fault.parquet`, `registration.parquet` (which record is whose), `resident.parquet`, and the parameters."""
    truth.mkdir(parents=True, exist_ok=True)
    last = max([built.world.window.end, *([up_to] if up_to else [])])
    faults = built.world.truth()
    faults = faults.filter(pc.less_equal(faults["data_date"], pa.scalar(last, pa.date32())))
    faults = faults.sort_by(
        [
            (name, "ascending")
            for name in ("data_date", "table_name", "org_code", "record_key", "fault_kind", "rule_id")
        ]
    )
    pq.write_table(faults, truth / "fault.parquet")
    built.city.write_truth(truth)
    text = json.dumps(parameters, ensure_ascii=False, indent=1, sort_keys=True)
    (truth / PARAMETERS).write_text(text + "\n", encoding="utf-8")
    return faults


def _summary(
    world: World, drop: base.Drop, faults: pa.Table, dates: Iterable[date], started: float
) -> dict[str, Any]:
    delivered = pa.array(sorted(drop.dates), pa.date32())
    rows = {
        name: int(pc.sum(pc.is_in(t["deliver_on"], delivered)).as_py() or 0)
        for name, t in world.tables.items()
    }
    return {
        "data_dates": [d.isoformat() for d in dates],
        "files": drop.files, "rows": rows, "records": sum(rows.values()),
        "faults": faults.num_rows, "seconds": round(time.perf_counter() - started, 2),
    }  # fmt: skip
