"""The dated rules by which an archive's keeper is proposed (``rules.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

#: Rules that the order may name.
KNOWN = ("address", "contract", "service")
#: What decides when no rule does: the archive that was written to last. It is told as unclear.
LAST_RESORT = "archive"


@dataclass(frozen=True)
class Service:
    """A table of services: ``on`` is the column of the day, ``way`` that of how the resident was met, if any."""

    table: str
    on: str
    way: str = ""


@dataclass(frozen=True)
class Rules:
    """The rules in force on a date; days are whole days back from the date being processed."""

    valid_from: date
    order: tuple[str, ...]
    address_fresh_days: int
    service_fresh_days: int
    face_to_face_ways: tuple[str, ...]
    open_per_org: int
    new_per_org_and_day: int
    services: tuple[Service, ...]
    clinic_table: str
    clinic_on: str
    clinic_classes: tuple[str, ...]

    @property
    def tables(self) -> list[str]:
        """Silver tables of services, without the schema."""
        return [*(s.table for s in self.services), self.clinic_table]


def parse(node: dict[str, Any]) -> Rules:
    """One entry of the file. An order that names an unknown rule raises ValueError."""
    order = tuple(node["order"]["rules"])
    if unknown := set(order) - set(KNOWN):
        raise ValueError(f"rules.yaml: unknown rules {sorted(unknown)}")
    return Rules(
        valid_from=node["valid_from"],
        order=order,
        address_fresh_days=int(node["address_fresh_days"]["value"]),
        service_fresh_days=int(node["service_fresh_days"]["value"]),
        face_to_face_ways=tuple(node["face_to_face_ways"]["values"]),
        open_per_org=int(node["open_per_org"]["value"]),
        new_per_org_and_day=int(node["new_per_org_and_day"]["value"]),
        services=tuple(Service(s["table"], s["day"], s.get("way", "")) for s in node["services"]),
        clinic_table=node["clinic"]["table"],
        clinic_on=node["clinic"]["day"],
        clinic_classes=tuple(node["clinic"]["classes"]),
    )


@lru_cache(maxsize=1)
def _all() -> list[Rules]:
    entries = yaml.safe_load(Path(__file__).with_name("rules.yaml").read_text("utf-8"))
    return sorted((parse(e) for e in entries), key=lambda r: r.valid_from)


def in_force(data_date: date) -> Rules:
    """The newest rules that have begun on a date; before the first, the first."""
    begun = [r for r in _all() if r.valid_from <= data_date]
    return (begun or _all()[:1])[-1]
