"""Source codes to standard codes: what institutions write, one CSV per code system, reviewed like code.

Which text means which code, in this order: the standard code itself; the CSV beside this file
(``source_code,code``); the standard's Chinese and English names. Case does not matter. Where all codes of a
system are two digits, one digit stands for the code with a leading zero (spreadsheets drop it).
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from lake.settings import settings

_HERE = Path(__file__).parent


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@lru_cache(maxsize=128)
def code_map(code_system: str) -> dict[str, str]:
    """Lower-case source text -> standard code; empty when the system has no list here (ICD-10, LOINC, ...)."""
    standard = [r for r in _rows(settings().seeds_dir / "codes" / f"{code_system}.csv") if r["code"]]
    if not standard:
        return {}
    found = {r["code"].lower(): r["code"] for r in standard}
    for row in _rows(_HERE / f"{code_system}.csv"):
        found.setdefault(row["source_code"].lower(), row["code"])
    for name in ("name_zh", "name_en"):
        for row in standard:
            if text := (row.get(name) or "").lower():
                found.setdefault(text, row["code"])
    if all(len(r["code"]) == 2 and r["code"].isdigit() for r in standard):
        for row in standard:
            found.setdefault(str(int(row["code"])), row["code"])
    return found


def mapped_systems(code_systems: set[str]) -> list[str]:
    """Those of the code systems that have a list of codes here."""
    return sorted(s for s in code_systems if s and code_map(s))


def as_table(code_systems: list[str]) -> pa.Table:
    """The maps as one table: code_system, source_key (lower case), code."""
    rows = [(s, key, code) for s in code_systems for key, code in code_map(s).items()]
    columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
    names = ("code_system", "source_key", "code")
    return pa.table({n: pa.array(c, pa.string()) for n, c in zip(names, columns, strict=True)})
