"""Review of pairs that a run was unsure of: whom to ask, what to show, what the answers teach.

``queue.ask`` turns a run's uncertain pairs into requests of the worklist's kind ``empi_review``; ``explain.explain_pair`` shows
a pair side by side with its score taken apart and the evidence; ``learning.learn`` says what people's answers teach.
People's commands go through the worklist, their decisions through ``empi.decisions``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from empi.review.explain import explain_pair
    from empi.review.learning import learn
    from empi.review.queue import ask, ask_after_link

__all__ = ["ask", "ask_after_link", "explain_pair", "learn"]

_HOMES = {"ask": "queue", "ask_after_link": "queue", "explain_pair": "explain", "learn": "learning"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'empi.review' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"empi.review.{_HOMES[name]}"), name)
