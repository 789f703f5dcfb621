"""Laboratory values of a body: a person's own level, disease on top, and the noise of the day."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from simulator.clinical.cohort import Cohort
from simulator.clinical.draw import stream

WITHIN = 0.45  # share of the spread that changes from one day to the next


@cache
def laboratory() -> dict[str, Any]:
    """Items and panels (laboratory.yaml)."""
    loaded: dict[str, Any] = yaml.safe_load(
        (Path(__file__).parent / "laboratory.yaml").read_text(encoding="utf-8")
    )
    return loaded


def numeric_items() -> list[str]:
    return [code for code, item in laboratory()["items"].items() if "mean" in item]


@dataclass(frozen=True)
class Physiology:
    """`trait`: residents x items, the person's own standing (standard normal)."""

    cohort: Cohort
    trait: np.ndarray

    @classmethod
    def of(cls, cohort: Cohort, seed: int) -> Physiology:
        rng = stream(seed, "physiology")
        return cls(cohort, rng.standard_normal((len(cohort), len(numeric_items())), dtype="float32"))

    def values(
        self,
        code: str,
        who: np.ndarray,
        day: np.ndarray,
        rng: np.random.Generator,
        infected: np.ndarray | None = None,
    ) -> np.ndarray:
        """Values of item `code` in residents `who` on `day`, rounded as the item is reported."""
        item = laboratory()["items"][code]
        cohort = self.cohort
        mean = np.asarray(item["mean"])[(cohort.sex[who] == 2).astype("int64")]
        own = self.trait[who, numeric_items().index(code)]
        spread = np.sqrt(1 - WITHIN**2) * own + WITHIN * rng.standard_normal(len(who))
        value = mean * np.exp(item["sd"] * spread) if item.get("shape") == "l" else mean + item["sd"] * spread
        value = self._disease(code, value, who, day, infected)
        low, high = item.get("critical", [None, None])
        # Outside an emergency nobody walks around with a critical value; shocks are added by the laboratory.
        value = np.clip(
            value, (low or 0.0) + (0.05 * abs(mean) if low else 0.0), high * 0.9 if high else None
        )
        rounded: np.ndarray = np.round(np.maximum(value, 10.0 ** -item["decimals"]), item["decimals"])
        return rounded

    def _disease(
        self, code: str, value: np.ndarray, who: np.ndarray, day: np.ndarray, infected: np.ndarray | None
    ) -> np.ndarray:
        """What known diseases do to the item."""
        cohort = self.cohort
        dm, ckd, cvd = cohort.has_dm[who], cohort.has_ckd[who], cohort.has_cvd[who]
        treated = dm & (cohort.dm_on[who] <= day)
        sugar = np.where(treated, 6.35 + 0.95 * cohort.sugar[who], 8.1 + 1.0 * cohort.sugar[who])
        sugar = np.clip(sugar, 4.6, 15.0)
        own = self.trait[who, numeric_items().index(code)]
        if code == "FPG":
            value = np.where(dm, sugar + 0.5 * (value - 5.15), value)
        elif code == "GLU":
            value = np.where(dm, sugar + 2.6 + 0.8 * (value - 5.85), value)
        elif code == "HBA1C":
            value = np.where(dm, 0.62 * sugar + 2.45 + (value - 5.3), value)
        elif code == "CREA":
            value = np.where(ckd, value + 62 + 25 * np.abs(own), value)
        elif code == "UREA":
            value = np.where(ckd, value + 4.5 + 1.5 * np.abs(own), value)
        elif code == "UA":
            value = np.where(ckd, value + 80, value)
        elif code == "HGB":
            value = np.where(ckd, value - 16, value)
        elif code == "TG":
            value = np.where(dm, value * 1.35, value)
        elif code in ("LDL", "TC"):
            value = np.where(cvd, value - 0.5, value)
        elif code == "BNP":
            value = np.where(cvd, value * 5, value)
        if infected is not None:
            factor = {"WBC": 1.75, "CRP": 18.0, "PCT": 4.0, "NEUT": 1.3, "LYMPH": 0.55}.get(code, 1.0)
            value = np.where(infected, value * factor, value)
        if code in ("NEUT", "LYMPH"):
            value = np.clip(value, 5, 95)
        return value
