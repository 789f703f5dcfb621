"""Quality: every wrong row found, located, and tracked until it is gone; the gates of the data products.

The public face: ``check(data_date)``, ``rules()``, ``page.render(data_date)``, ``evaluation.evaluate()``.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from quality.rule import Rule

__all__ = ["after_check", "check", "evaluate", "rules"]


def check(data_date: date, mode: Literal["auto", "full", "incremental"] = "auto") -> dict[str, Any]:
    """Check a date's pinned tables, settle findings, scores and gates, render the page. See ``quality.daily``."""
    from quality.daily import check as run

    return run(data_date, mode=mode)


def after_check(data_date: date) -> dict[str, Any]:
    """What follows a check and never stops the day: tickets at the institutions, and the list of what is due."""
    from quality import due, tickets

    return {"tickets": tickets.ask_after_check(data_date), "due": due.build_after_check(data_date)}


def rules() -> tuple[Rule, ...]:
    """The rules of this installation, in the order of the rule book."""
    from quality.rule import rulebook

    return rulebook().rules


def evaluate() -> dict[str, Any]:
    """Hold the findings against the simulated city's truth. See ``quality.evaluation``."""
    from quality.evaluation import evaluate as run

    return run()
