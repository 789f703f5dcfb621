"""Code systems: which there are, what is in their lists, and how a form's own list becomes a code map of a source.

A list belongs to a form and its version where forms differ: ``ph_archive_v3__education`` is the third edition's list of
educations, where 10 is "not known", and not GB/T 4658's, where 10 is a graduate. ``dbt/seeds/value_set.csv`` is the
register; ``standard_system`` names the list that ``standard_code`` in a form's own list is of.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

from lake.errors import MedlakeError
from lake.local_time import local_today
from lake.settings import settings


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@lru_cache(maxsize=1)
def value_sets() -> dict[str, dict[str, str]]:
    """The register by code system: form and version it belongs to, its standard, who has checked it."""
    return {r["code_system"]: r for r in _rows(settings().seeds_dir / "value_set.csv")}


def _path(code_system: str) -> Path:
    return settings().seeds_dir / "codes" / f"{code_system}.csv"


def has_list(code_system: str) -> bool:
    """Whether the codes are here; the big ones (ICD-10, LOINC) are not."""
    return _path(code_system).is_file()


def codes(code_system: str) -> list[dict[str, str]]:
    """Rows with ``code, name_zh, name_en`` and, for a form's own list, ``standard_code``.

    Raises:
        MedlakeError: E236, there is no such list.
    """
    if code_system not in value_sets() or not has_list(code_system):
        raise MedlakeError("E236", place=code_system, system=code_system)
    return _rows(_path(code_system))


def crosswalk(code_system: str, feed: str, org_code: str, reviewer: str) -> list[dict[str, str]]:
    """A form's own list as rows of the code map of its standard system, for one institution's feed.

    They go into ``ingestion/codemaps/<standard_system>.csv`` when that institution writes this form's codes.

    Raises:
        MedlakeError: E236, there is no such list, or it maps to no other.
    """
    system = value_sets().get(code_system, {}).get("standard_system", "")
    if not system:
        raise MedlakeError("E236", place=code_system, system=code_system)
    note = f"{code_system}"
    return [
        {
            "source_code": r["code"],
            "code": r["standard_code"],
            "feed": feed,
            "org_code": org_code,
            "valid_from": "",
            "valid_to": "",
            "reviewer": reviewer,
            "reviewed_on": local_today().isoformat(),
            "note": note,
        }
        for r in codes(code_system)
        if r["standard_code"]
    ]
