"""Registrations as the source systems hold them: the columns of integers turned into text with its dirt."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.people import field_errors, id_errors, name_errors
from simulator.people.addresses import addresses
from simulator.people.ages import YEAR
from simulator.people.attributes import Attributes
from simulator.people.draw import Draw, Ints
from simulator.people.families import STRANGER
from simulator.people.folk import Folk
from simulator.people.identity import phone_numbers
from simulator.people.places import places
from simulator.people.registers import LIS, PACS, PUBLIC_HEALTH, SYSTEMS, Registers
from simulator.people.text import NO_DAY, Codes, dates, digits, lookup, to_arrow
from simulator.profile import Profile

_SECONDS_PER_DAY = 86_400
_Y2000 = int(np.datetime64("2000-01-01").astype(np.int64))


class Renderer:
    """Renders any rows of a city's registers as of any version day."""

    def __init__(
        self, profile: Profile, folk: Folk, attributes: Attributes, registers: Registers, draw: Draw
    ) -> None:
        self.people, self.folk, self.attributes, self.registers, self.draw = (
            profile.people,
            folk,
            attributes,
            registers,
            draw,
        )

    def _relative(self, who: Ints, rows: Ints) -> Ints:
        """Whose id is given instead: of a child the mother or father, else spouse, head, mother or father; -1 none."""
        fam = self.folk.fam
        first = np.where(self.draw.chance("relative/mother", rows, 0.65), fam.mother[who], fam.father[who])
        head = np.where(fam.head[who] != who, fam.head[who], -1)
        grown = np.where(fam.spouse[who] >= 0, fam.spouse[who], head)
        young = self.folk.age_years(self.folk.as_of, who) < 22
        picked = np.where(young, first, grown)
        for other in (first, grown, fam.mother[who]):  # fallbacks
            picked = np.where(picked >= 0, picked, other)
        return np.asarray(picked)

    def _names(self, part: Registers, rows: Ints, who: Ints, age_days: Ints) -> Codes:
        fam = self.folk.fam
        names = name_errors.clean_names(self.folk.surname[who], self.folk.given[who])
        year = fam.born[who].astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970
        name_errors.spoil_names(self.draw, self.people.name_errors, rows, names, year, fam.female[who], who)
        # A baby has no name for some weeks, and hospitals seldom come back to write it down.
        baby = np.flatnonzero(
            (age_days <= self.people.name_errors.newborn_unnamed_days) & (fam.mother[who] >= 0)
        )
        baby = baby[part.system[baby] != PUBLIC_HEALTH]
        mother = fam.mother[who[baby]]
        clean = name_errors.clean_names(self.folk.surname[mother], self.folk.given[mother])
        unsure = self.draw.chance("name-error/baby", rows[baby], 0.06)
        names[baby] = name_errors.baby_names(clean, fam.female[who[baby]], unsure)
        stranger = np.flatnonzero(fam.role[who] == STRANGER)
        values = id_errors.placeholders("unknown_name")[:, : name_errors.WIDTH]
        names[stranger] = values[self.draw.below("name-error/unknown", rows[stranger], len(values))]
        return names

    def _phones(self, part: Registers, rows: Ints, who: Ints, day: Ints) -> pa.Array:
        rates, folk = self.people.field_errors, self.folk
        u = self.draw.uniform("phone/whose", rows)
        reached = np.where(u < rates.phone_relative, folk.fam.head[who], who)
        number = folk.phone(self.draw, reached, day)
        doctor = np.flatnonzero((part.system == PUBLIC_HEALTH) & (u >= 1 - rates.phone_doctor))
        key = 3 * len(folk) + part.station[doctor].astype(np.int64)
        number[doctor] = phone_numbers(self.draw, key, np.zeros(len(doctor), dtype=bool), len(folk))
        number[folk.fam.role[who] == STRANGER] = 0
        codes = field_errors.type_phones(self.draw, rates, rows, number)
        return to_arrow(codes, (codes == 0).all(axis=1))

    def _contact(self, rows: Ints, who: Ints, day: Ints) -> tuple[pa.Array, pa.Array]:
        """Name and phone of the contact person: spouse, parent or head; a third of the rows have none."""
        fam, folk = self.folk.fam, self.folk
        young = folk.age_years(folk.as_of, who) < 22
        person = np.where(
            young, fam.mother[who], np.where(fam.spouse[who] >= 0, fam.spouse[who], fam.head[who])
        )
        person = np.where(person == who, -1, person)
        none = (person < 0) | self.draw.chance("contact/none", rows, 0.3)
        safe = np.maximum(person, 0).astype(np.int64)
        names = to_arrow(name_errors.clean_names(folk.surname[safe], folk.given[safe]), none)
        number = folk.phone(self.draw, safe, day)
        return names, to_arrow(digits(number, 11), none | (number == 0))

    def _cards(self, part: Registers, rows: Ints, owner: Ints) -> tuple[pa.Array, pa.Array]:
        rates = self.people.field_errors
        archive = part.system == PUBLIC_HEALTH
        nobody = self.folk.fam.role[owner] == STRANGER
        # Archives seldom hold the card number: most were opened before the card existed.
        card_missing = np.where(archive, (1 + 2 * rates.card_missing) / 3, rates.card_missing)
        no_card = nobody | self.draw.chance("card/none", rows, card_missing)
        no_insurance = nobody | self.draw.chance("insurance/none", rows, rates.insurance_missing)
        card, insurance = self.attributes.card_texts(owner)
        return to_arrow(card, no_card), to_arrow(insurance, no_insurance)

    def table(self, rows: Ints, on: Ints) -> pa.Table:
        """Registrations ``rows`` (positions) as last written on the days ``on``: a register holds the phone,
        address and name of the day on which somebody touched it."""
        draw, folk, here = self.draw, self.folk, places()
        part = self.registers.at(rows)
        who = part.resident.astype(np.int64)
        born = folk.fam.born[who]
        at_start = (part.registered_on - born) / YEAR
        age_days = on - born
        stranger = folk.fam.role[who] == STRANGER
        archive = part.system == PUBLIC_HEALTH

        relative = self._relative(who, rows)
        kind = id_errors.id_error_kinds(
            draw, self.people.id_errors, rows, archive, at_start, born < _Y2000, relative >= 0
        )
        kind[stranger] = 0
        others = id_errors.uses_relative(kind)
        ids = id_errors.type_ids(
            draw, self.people.id_errors, rows, folk.id_numbers(np.where(others, relative, who)), kind
        )
        baby = (age_days <= self.people.name_errors.newborn_unnamed_days) & ~archive
        no_id = np.isin(kind, id_errors.TYPED_NOTHING) | baby
        id_type = np.where(no_id, -1, 0)
        unmarked = no_id & draw.chance("id-error/type", rows, 0.4)

        birth, _ = field_errors.birth_dates(
            draw, self.people.field_errors, rows, born, folk.age_years(folk.as_of, who), stranger
        )
        # Nobody is registered before the day of birth that stands in the register.
        birth = np.where(birth > part.registered_on, born, birth)
        sex = field_errors.sex_codes(draw, self.people.field_errors, rows, folk.fam.female[who])
        contact_name, contact_phone = self._contact(rows, who, on)
        card_owner = np.where(id_errors.uses_relatives_card(kind), relative, who)
        health_card, insurance = self._cards(part, rows, card_owner)

        before = (folk.moved_on[who] != NO_DAY) & (on < folk.moved_on[who])
        station = np.where(before, folk.old_station[who], folk.station[who]).astype(np.int64)
        house = np.where(before, folk.old_house[who], folk.house[who]).astype(np.int64)
        text = addresses(draw, "address", rows, part.org * 4 + part.system, station, house)
        address_missing = np.where(archive, 0.25, 1.0) * self.people.field_errors.address_missing
        no_address = stranger | draw.chance("address/none", rows, address_missing)
        village = lookup(
            here.station_regions, np.where(no_address, -1, np.where(archive, part.station, station))
        )
        seconds = 8 * 3600 + draw.below("register/second", rows * 2 + (on != part.registered_on), 9 * 3600)
        blank = pa.nulls(len(rows), pa.string())
        return pa.table(
            {
                "registration_id": pa.array(rows),
                "resident_id": pa.array(who),
                "source_system": lookup(SYSTEMS, part.system),
                "org_code": lookup(here.orgs, part.org),
                "local_id": self._local_ids(part, rows),
                "archive_no": self._archive_numbers(part),
                "name": to_arrow(self._names(part, rows, who, age_days)),
                "sex_code": lookup(("0", "1", "2"), sex),
                "birth_date": dates(birth),
                "id_type_code": lookup(("01", "99"), np.where(unmarked, 1, id_type)),
                "id_no": to_arrow(ids, no_id),
                "phone": self._phones(part, rows, who, on),
                "contact_name": contact_name,
                "contact_phone": contact_phone,
                "addr_region_code": village,
                "addr_detail": pc.if_else(pa.array(~no_address), text, None),
                "hukou_region_code": pc.if_else(pa.array(archive), self.attributes.hukou_texts(who), blank),
                "ethnicity_code": self.attributes.text("ethnicity", who),
                "marital_code": self.attributes.text("marital", who),
                "education_code": pc.if_else(
                    pa.array(archive), self.attributes.text("education", who), blank
                ),
                "occupation_code": self.attributes.text("occupation", who),
                "health_card_no": health_card,
                "insurance_no": insurance,
                "mother_patient_id": self._mother_ids(part),
                "registered_on": dates(part.registered_on),
                "source_updated_at": pa.array(on * _SECONDS_PER_DAY + seconds).cast(pa.timestamp("s")),
                "is_duplicate_archive": pa.array(part.duplicate),
            }
        )

    def _local_ids(self, part: Registers, rows: Ints) -> pa.Array:
        """H001-0000123 in hospitals and centres; archive ids count through the city (DA000000123)."""
        archive = part.system == PUBLIC_HEALTH
        orgs = places().orgs
        prefixes = [*(f"{o}-" for o in orgs), *(f"{o}-L" for o in orgs), *(f"{o}-I" for o in orgs), "DA"]
        block = np.where(part.system == LIS, 1, np.where(part.system == PACS, 2, 0))
        prefix = lookup(prefixes, np.where(archive, len(prefixes) - 1, block * len(orgs) + part.org))
        # 387,654,323 is coprime to 10, so distinct rows keep distinct archive ids.
        archive_id = (rows.astype(np.int64) * 387_654_323 + 271_828_183) % 10**9
        number = to_arrow(digits(np.where(archive, 0, part.number), 7))
        number = pc.if_else(pa.array(archive), to_arrow(digits(archive_id, 9)), number)
        return pc.binary_join_element_wise(prefix, number, "")

    def _archive_numbers(self, part: Registers) -> pa.Array:
        """17 digits: village code (12) and serial (5); null outside public health."""
        serial = to_arrow(digits(np.maximum(part.archive_serial, 0), 5))
        return pc.binary_join_element_wise(lookup(places().station_regions, part.station), serial, "")

    def _mother_ids(self, part: Registers) -> pa.Array:
        """Local id of the mother's registration in the same hospital, for newborns."""
        known = part.mother_row >= 0
        mother_row = np.maximum(part.mother_row, 0).astype(np.int64)
        ids = self._local_ids(self.registers.at(mother_row), mother_row)
        return pc.if_else(pa.array(known), ids, None)
