"""The committed error profile of the simulated city.

Every rate of the simulator stands in one YAML file and was fixed before anything was tuned on its
output. Rates are shares (0..1) of the records they speak of unless a comment in the file says otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

PROFILES_DIR = Path(__file__).resolve().parent / "profiles"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Structure(_Section):
    """How residents live and are named."""

    clan_share_rural: float = Field(ge=0, le=1)
    clan_share_urban: float = Field(ge=0, le=1)
    generation_character: float = Field(ge=0, le=1)
    twin_birth: float = Field(ge=0, le=0.2)
    hukou_elsewhere: float = Field(ge=0, le=1)
    moved: float = Field(ge=0, le=1)
    phone_changed: float = Field(ge=0, le=1)


class Registering(_Section):
    """Who is on whose register. Expected numbers per resident before age is considered."""

    archive: float = Field(ge=0, le=1)
    archive_second: float = Field(ge=0, le=1)
    lead_hospital: float = Field(ge=0, le=2)
    county_hospital: float = Field(ge=0, le=2)
    other_hospital: float = Field(ge=0, le=2)
    own_centre: float = Field(ge=0, le=2)
    other_centre: float = Field(ge=0, le=2)
    same_org_second: float = Field(ge=0, le=1)
    lis_stray: float = Field(ge=0, le=1)
    pacs_stray: float = Field(ge=0, le=1)
    unknown_patient: float = Field(ge=0, le=0.1)
    updated_per_year: float = Field(ge=0, le=1)


class NameErrors(_Section):
    homophone: float = Field(ge=0, le=1)
    lookalike: float = Field(ge=0, le=1)
    swapped: float = Field(ge=0, le=1)
    lost: float = Field(ge=0, le=1)
    masked: float = Field(ge=0, le=1)
    suffixed: float = Field(ge=0, le=1)
    former_given: float = Field(ge=0, le=1)
    blanks: float = Field(ge=0, le=1)
    newborn_unnamed_days: int = Field(ge=0)


class IdErrors(_Section):
    missing_his: float = Field(ge=0, le=1)
    missing_archive: float = Field(ge=0, le=1)
    missing_child: float = Field(ge=0, le=1)
    guardian_child: float = Field(ge=0, le=1)
    relative: float = Field(ge=0, le=1)
    placeholder: float = Field(ge=0, le=1)
    fifteen: float = Field(ge=0, le=1)
    swapped: float = Field(ge=0, le=1)
    wrong_digit: float = Field(ge=0, le=1)
    lost: float = Field(ge=0, le=1)
    masked: float = Field(ge=0, le=1)
    lower_x: float = Field(ge=0, le=1)
    blanks: float = Field(ge=0, le=1)
    full_width: float = Field(ge=0, le=1)
    borrowed_card: float = Field(ge=0, le=1)


class FieldErrors(_Section):
    birth_missing: float = Field(ge=0, le=1)
    birth_lunar: float = Field(ge=0, le=1)
    birth_year_only: float = Field(ge=0, le=1)
    birth_slip: float = Field(ge=0, le=1)
    sex_wrong: float = Field(ge=0, le=1)
    sex_unknown: float = Field(ge=0, le=1)
    phone_missing: float = Field(ge=0, le=1)
    phone_relative: float = Field(ge=0, le=1)
    phone_doctor: float = Field(ge=0, le=1)
    phone_placeholder: float = Field(ge=0, le=1)
    phone_slip: float = Field(ge=0, le=1)
    address_missing: float = Field(ge=0, le=1)
    card_missing: float = Field(ge=0, le=1)
    insurance_missing: float = Field(ge=0, le=1)


class People(_Section):
    structure: Structure
    registering: Registering
    name_errors: NameErrors
    id_errors: IdErrors
    field_errors: FieldErrors

    @model_validator(mode="after")
    def _one_kind_each(self) -> People:
        """A record gets at most one kind of name, id and birth-date error, so their shares must fit into 1."""
        ids = self.id_errors
        kinds = (
            ids.missing_his,
            ids.relative,
            ids.placeholder,
            ids.fifteen,
            ids.swapped,
            ids.wrong_digit,
            ids.lost,
        )
        if sum(kinds) + ids.masked + ids.missing_child + ids.guardian_child + ids.borrowed_card > 1:
            raise ValueError("id_errors add up to more than 1 / 证件差错率之和超过 1")
        return self


class History(_Section):
    """How far back each feed's first delivery reaches."""

    history_years: int = Field(ge=1, le=10)
    pacs_history_days: int = Field(ge=0)
    iot_history_days: int = Field(ge=0)


class Profile(_Section):
    """All rates of one simulated city. ``clinical`` and ``faults`` are read by ``simulator.clinical``."""

    name: str
    people: People
    history: History
    clinical: dict[str, Any]
    faults: dict[str, Any]

    @classmethod
    def load(cls, name: str = "default") -> Profile:
        """The profile ``simulator/profiles/<name>.yaml``; an unknown or missing key raises ValidationError."""
        text = (PROFILES_DIR / f"{name}.yaml").read_text(encoding="utf-8")
        return cls.model_validate({"name": name, **yaml.safe_load(text)})
