"""What each comparison adds to a pair's weight: Splink's sum, taken apart. For explaining, and for scoring one by one.

A weight is log2 of the odds that two records are one person: the prior, then log2(m/u) of the level that each comparison
reaches (Fellegi and Sunter 1969), and where a level says so the correction for how common the value is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log2
from typing import Any

from empi import model

#: (column, value) -> share of records that have the value; None if the value was never counted.
Frequencies = Callable[[str, str], float | None]

LABELS = {
    "prior": "先验",
    "idno": "身份证件",
    "name": "姓名",
    "dob": "出生日期",
    "sex": "性别",
    "home": "电话与住址",
    "card": "健康卡与医保号",
    "frequency": "取值常见程度",
}


@dataclass(frozen=True)
class Step:
    """One bar of the waterfall. ``weight`` in bits; ``level`` is the model's name of it, ``null`` for nothing to compare."""

    comparison: str
    label_zh: str
    level: str
    weight: float


@dataclass(frozen=True)
class Level:
    """A level of a comparison as the model knows it; ``column`` is what its frequency correction counts."""

    name: str
    weight: float
    column: str | None
    u: float


class Weights:
    """The model in force for a number of records."""

    def __init__(self, trained: Mapping[str, Any], frequencies: Frequencies) -> None:
        prior = float(trained["probability_two_random_records_match"])
        self.prior = log2(prior / (1 - prior))
        self.frequencies = frequencies
        self.levels: dict[str, dict[int, Level]] = {}
        for comparison in trained["comparisons"]:
            rungs = [r for r in comparison["comparison_levels"] if not r.get("is_null_level")]
            self.levels[comparison["output_column_name"]] = {
                len(rungs) - 1 - place: Level(
                    str(rung["label_for_charts"]) if place < len(rungs) - 1 else "else",
                    log2(float(rung["m_probability"]) / float(rung["u_probability"])),
                    rung.get("tf_adjustment_column"),
                    float(rung["u_probability"]),
                )
                for place, rung in enumerate(rungs)
            }

    def explain(self, gammas: Mapping[str, int], values: Mapping[str, str | None]) -> list[Step]:
        """The bars of a pair, the prior first; their sum is Splink's ``match_weight``.

        Args:
            gammas: comparison -> the level's number (``gamma_<comparison>``), -1 for nothing to compare.
            values: column -> the value that both records share, for the frequency corrections.
        """
        shares = {c: self.frequencies(c, v) for c, v in values.items() if v is not None}
        steps = [Step("prior", LABELS["prior"], "", self.prior)]
        for comparison, levels in self.levels.items():
            label = LABELS.get(comparison, comparison)
            level = levels.get(gammas[comparison])
            if level is None:
                steps.append(Step(comparison, label, "null", 0.0))
                continue
            steps.append(Step(comparison, label, level.name, level.weight))
            share = shares.get(level.column) if level.column else None
            if share:
                steps.append(Step(comparison, LABELS["frequency"], level.name, log2(level.u / share)))
        return steps

    def total(self, gammas: Mapping[str, int], shares: Mapping[str, float | None]) -> float:
        """The pair's weight; ``shares``: column -> how common the value is that both records share."""
        weight = self.prior
        for comparison, levels in self.levels.items():
            level = levels.get(gammas[comparison])
            if level is not None:
                share = shares.get(level.column) if level.column else None
                weight += level.weight + (log2(level.u / share) if share else 0.0)
        return weight


def load(records: int, frequencies: Frequencies) -> Weights:
    """The model in force, its prior for ``records`` records.

    Raises:
        MedlakeError: E302, the model file cannot be used.
    """
    return Weights(model.load(records), frequencies)


def probability(weight: float) -> float:
    """The chance that a pair of this weight is one person."""
    return 1.0 / (1.0 + 2.0 ** -min(max(weight, -1000.0), 1000.0))
