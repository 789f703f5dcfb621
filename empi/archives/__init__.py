"""Whose archive is it (无法辨归属): of a resident's several active archives, which one stays and who manages it.

Proposals follow from the lake alone and are written to ``silver/archive_proposal``; institutions are asked through
``lake.work`` and answer there; what they agreed on goes back to the sources as files in their own import layout.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

__all__ = ["ask", "evaluate", "proposals", "propose", "show", "write_back"]


def propose(data_date: date) -> dict[str, Any]:
    """Propose keeper and managing institution of every resident with several active archives.

    Reads what the run of the date pinned, writes ``silver/archive_proposal`` and records it on the run. The same input
    gives the same rows, and a table that would not change keeps its version.

    Returns:
        ``run_id, data_date, persons, archives, keep, move, close, contradicted``, ``by_rule`` and ``by_confidence``
        (persons of each).

    Raises:
        MedlakeError: E106, the date was not linked; E360, it has no archives or no persons.
    """
    from empi.archives.proposing import propose as _propose

    return _propose(data_date)


def ask(data_date: date) -> dict[str, Any]:
    """Ask both institutions of every proposed move (kind ``archive_move``), and withdraw what no longer stands.

    Asking again changes nothing; what was refused is not asked again.

    Returns:
        counts: ``data_date, proposed, asked, held_back, settled``.

    Raises:
        MedlakeError: E361, nothing was proposed yet.
    """
    from empi.archives.requests import ask as _ask

    return _ask(data_date)


def proposals(
    *, org_code: str | None = None, state: str | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """Archives to be moved or closed, surest first, each with what became of it (``empi.archives.listing``)."""
    from empi.archives.listing import proposals as _proposals

    return _proposals(org_code=org_code, state=state, limit=limit)


def show(proposal_id: str) -> dict[str, Any]:
    """One proposal (its number, or the beginning of it) with all archives of the resident and the evidence.

    Raises:
        MedlakeError: E361, nothing was proposed yet; E362, there is none of that number.
    """
    from empi.archives.listing import show as _show

    return _show(proposal_id)


def write_back(data_date: date, *, out: Path | None = None) -> dict[str, Any]:
    """Write what institutions agreed on as files in the import layout of their own system, mode 0600.

    Returns:
        counts: ``data_date, agreed, closed, opened, done, files, unchanged, waiting``, ``by_org`` and the folder ``out``.

    Raises:
        MedlakeError: E106, the date was not linked; E363, an institution's deliveries are not in the lake.
    """
    from empi.archives.writing import write_back as _write_back

    return _write_back(data_date, out=out)


def evaluate() -> dict[str, Any]:
    """How many proposals are right by the simulated city's truth, with 95 % intervals.

    Raises:
        MedlakeError: E305, there is no truth; E361, nothing was proposed yet.
    """
    from empi.archives.evaluation import evaluate as _evaluate

    return _evaluate()
