"""Scorecards by institution, domain and day: an open formula, NA apart from 0, ranks with their uncertainty.

The public face: ``card(org)``, ``ranking(domain)``, ``trend(org, domain, days)``, ``explain(org, domain)`` read the
newest checked date (or an earlier one) as plain dicts; ``scorecards`` computes them within the day's check.
"""

from __future__ import annotations

from quality.scorecards.compute import ALL_DOMAINS, scorecards
from quality.scorecards.parameters import Parameters, parameters
from quality.scorecards.read import card, domains, explain, formula_zh, ranking, trend

__all__ = [
    "ALL_DOMAINS",
    "Parameters",
    "card",
    "domains",
    "explain",
    "formula_zh",
    "parameters",
    "ranking",
    "scorecards",
    "trend",
]
