"""One simulated city in memory: residents, their registrations, and the truth about who is who."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.errors import MedlakeError
from lake.settings import settings
from simulator.people.addresses import addresses
from simulator.people.attributes import Attributes, make_attributes
from simulator.people.draw import Draw, Ints
from simulator.people.families import ROLES
from simulator.people.folk import Folk, make_folk
from simulator.people.name_errors import clean_names
from simulator.people.places import places
from simulator.people.registers import Registers, make_registers
from simulator.people.render import Renderer
from simulator.people.text import NO_DAY, dates, digits, lookup, to_arrow
from simulator.profile import Profile

# Registrations edited within this many days before `as_of` appear twice: as they were, and as an update.
UPDATE_DAYS = 70
TRUTH_COLUMNS = ("source_system", "org_code", "local_id", "resident_id", "is_duplicate_archive")


@dataclass(frozen=True)
class City:
    """Residents (the truth) and registrations (what the systems hold).

    ``registrations`` has one row per registration; ``updates`` later versions of some of them, edited in
    the last :data:`UPDATE_DAYS` days (same columns, same ``registration_id``). Times are Asia/Shanghai
    wall time without zone. ``resident_id`` is never null: an unknown patient is a resident that nobody else knows.
    """

    residents: pa.Table
    registrations: pa.Table
    updates: pa.Table
    as_of: date

    def delivered(self, first: date | None, last: date) -> pa.Table:
        """The newest version of every registration that was made or edited from ``first`` to ``last``."""
        both = pa.concat_tables([self.registrations, self.updates])
        day = both["source_updated_at"].cast(pa.date32())
        wanted = pc.less_equal(day, pa.scalar(last))
        if first is not None:
            wanted = pc.and_(wanted, pc.greater_equal(day, pa.scalar(first)))
        both = both.filter(wanted)
        newest = both.group_by("registration_id").aggregate([("source_updated_at", "max")])
        both = both.join(newest, "registration_id", join_type="inner")
        return (
            both.filter(pc.equal(both["source_updated_at"], both["source_updated_at_max"]))
            .drop_columns(["source_updated_at_max"])
            .sort_by("registration_id")
        )

    def write_truth(self, truth_dir: Path) -> None:
        """``registration.parquet`` (which record is whose) and ``resident.parquet``."""
        truth_dir.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.registrations.select(list(TRUTH_COLUMNS)), truth_dir / "registration.parquet")
        pq.write_table(self.residents, truth_dir / "resident.parquet")


def resident_table(folk: Folk, attributes: Attributes, draw: Draw, who: Ints) -> pa.Table:
    """Residents ``who`` (positions) without any error."""
    here, fam = places(), folk.fam
    centre = here.station_centre[folk.station[who]]
    card, insurance = attributes.card_texts(who)
    phone = folk.phone(draw, who, folk.as_of)

    def person(of: Ints) -> pa.Array:
        return pa.array(of[who], pa.int64(), mask=of[who] < 0)

    station = folk.station[who].astype(np.int64)
    house = folk.house[who].astype(np.int64)
    home_style = np.zeros(len(who), dtype=np.int64)
    return pa.table(
        {
            "resident_id": pa.array(who, pa.int64()),
            "name": to_arrow(clean_names(folk.surname[who], folk.given[who])),
            "sex_code": lookup(("1", "2"), fam.female[who].astype(np.int64)),
            "birth_date": dates(fam.born[who]),
            "id_no": to_arrow(folk.id_numbers(who)),
            "phone": to_arrow(digits(phone, 11), phone == 0),
            "household_id": pa.array(fam.household[who], pa.int64()),
            "family_role": lookup(ROLES, fam.role[who]),
            "spouse_resident_id": person(fam.spouse),
            "mother_resident_id": person(fam.mother),
            "father_resident_id": person(fam.father),
            "twin_id": person(fam.twin),
            "centre_code": lookup(here.centre_codes, centre),
            "station_code": lookup(here.station_codes, station),
            "region_code": lookup(here.station_regions, station),
            "hukou_region_code": attributes.hukou_texts(who),
            "addr_detail": addresses(draw, "address/true", fam.household[who], home_style, station, house),
            "ethnicity_code": attributes.text("ethnicity", who),
            "education_code": attributes.text("education", who),
            "occupation_code": attributes.text("occupation", who),
            "marital_code": attributes.text("marital", who),
            "blood_abo_code": attributes.text("abo", who),
            "blood_rh_code": attributes.text("rh", who),
            "insurance_no": to_arrow(insurance),
            "health_card_no": to_arrow(card),
            "death_date": dates(folk.died_on[who]),
        }
    )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A city as columns of integers, before any text is made."""

    folk: Folk
    attributes: Attributes
    registers: Registers
    draw: Draw
    renderer: Renderer


def plan(profile: Profile, residents: int, seed: int, as_of: date) -> Plan:
    """Everything that is decided about a city; rendering it is only a matter of memory. Raises E805, E806."""
    if residents < 1:
        raise MedlakeError("E806", place="residents", given=residents)
    draw = Draw(seed)
    folk = make_folk(profile, residents, draw, int(np.datetime64(as_of, "D").astype(np.int64)))
    attributes = make_attributes(folk, draw)
    registers = make_registers(profile, folk, draw)
    return Plan(folk, attributes, registers, draw, Renderer(profile, folk, attributes, registers, draw))


def make_city(
    profile: Profile | None = None, residents: int = 20_000, seed: int = 20261122, as_of: date | None = None
) -> City:
    """A city as of a day (default: the last day of the demo). The same arguments give the same city."""
    profile = profile or Profile.load()
    as_of = as_of or settings().demo_end_date
    made = plan(profile, residents, seed, as_of)
    reg, day = made.registers, made.folk.as_of
    rows = np.arange(len(reg))
    registered, updated = reg.registered_on.astype(np.int64), reg.updated_on.astype(np.int64)
    late = updated > day - UPDATE_DAYS
    known = np.where((updated != NO_DAY) & ~late, updated, registered)
    return City(
        residents=resident_table(made.folk, made.attributes, made.draw, np.arange(len(made.folk))),
        registrations=made.renderer.table(rows, known),
        updates=made.renderer.table(rows[late], updated[late]),
        as_of=as_of,
    )
