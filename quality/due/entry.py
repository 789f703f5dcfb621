"""The ``due`` entry of a rule: an absence is a task before it is a finding."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Due:
    """When an absence that a rule finds is due, and until when it may still be mended; SQL like the rule's own.

    The rule itself says what is not done: it is evaluated as of ``look``, a later date, with what the lake has now.
    With ``query`` that set query says it instead, as of the date being processed, where ``undone`` holds.
    """

    due_on: str
    fails_on: str
    look: str = ""
    query: str | None = None
    undone: str = ""
    what_zh: str = ""

    def problems(
        self, placeholder: re.Pattern[str], params: Collection[str], queries: Collection[str]
    ) -> list[str]:
        """What its schema cannot see: a set query or a parameter that is not there."""
        if self.query is not None and self.query not in queries:
            return [f"no query {self.query}"]
        asked = placeholder.findall(
            " ".join((self.due_on, self.fails_on, self.look, self.undone, self.what_zh))
        )
        return [f"parameter :{name} has no value" for name in sorted({*asked} - {*params, "as_of"})]
