"""The catalogue of conditions, drugs and departments (care.yaml) as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

CLASSES = ("AMB", "EMER", "IMP")
CHRONIC = ("htn", "dm", "cvd", "ckd", "copd")


@dataclass(frozen=True)
class Catalogue:
    """Conditions in one list, chronic ones last; `by_band` conditions x 5 age bands, `by_class` x 3 classes."""

    raw: dict[str, Any]
    icd10: list[str]
    name: list[str]
    dept: list[str]
    complaint: list[str]
    panels: list[list[str]]
    imaging: list[list[str]]
    drugs: list[list[str]]
    infected: np.ndarray
    by_band: np.ndarray
    by_class: np.ndarray
    season: np.ndarray
    sex: np.ndarray
    chronic_at: dict[str, int]


@cache
def catalogue() -> Catalogue:
    raw = yaml.safe_load((Path(__file__).parent / "care.yaml").read_text(encoding="utf-8"))
    rows = [{"icd10": code, **row} for code, row in raw["conditions"].items()]
    first_chronic = len(rows)
    rows += [{"weight": [0] * 5, "season": 1.0, **raw["chronic"][key]} for key in CHRONIC]
    return Catalogue(
        raw,
        [row["icd10"] for row in rows],
        [row["name"] for row in rows],
        [row["dept"] for row in rows],
        [row["complaint"] for row in rows],
        [row.get("panels", []) for row in rows],
        [row.get("imaging", []) for row in rows],
        [row.get("drugs", []) for row in rows],
        np.array([row.get("infected", False) for row in rows]),
        np.array([row["weight"] for row in rows], dtype="float64"),
        np.array([row["class"] for row in rows], dtype="float64"),
        np.array([row["season"] for row in rows], dtype="float64"),
        np.array([row.get("sex", 0) for row in rows]),
        {key: first_chronic + i for i, key in enumerate(CHRONIC)},
    )
