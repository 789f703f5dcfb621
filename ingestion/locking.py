"""One writer per table, whatever the door: locks by table, taken in the order of their names.

A batch of one door may write tables of several contracts, and two doors may write one table. Undoing a batch takes
its tables back to where they were, so nobody may have written them in between: whoever takes a table finishes or
undoes first what a killed process left on it. The locks end with the process that holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from filelock import FileLock, Timeout

from lake import ledger
from lake.errors import MedlakeError
from lake.settings import settings

_WAIT_SECONDS = 1800


@contextmanager
def held(names: Iterable[str]) -> Iterator[None]:
    """Hold named locks of this installation.

    Raises:
        MedlakeError: E225, somebody holds one of them for too long.
    """
    folder = settings().folder("locks")
    with ExitStack() as stack:
        for name in sorted(set(names)):
            try:
                stack.enter_context(FileLock(folder / f"{name}.lock", timeout=_WAIT_SECONDS))
            except Timeout as error:
                raise MedlakeError("E225", feed=name, seconds=_WAIT_SECONDS) from error
        yield


def tables_of(written: Iterable[str]) -> set[str]:
    """Lock names of Delta tables: ``silver/patient``, ``bronze/his/patient``, ``quarantine/his/patient`` are one."""
    found = set()
    for name in written:
        parts = name.split("/")
        whole_file = parts[0] == "quarantine" and parts[-1] == "file"
        found.add(f"table-{parts[1]}.file" if whole_file else f"table-{parts[-1]}")
    return found


@contextmanager
def writing(written: Iterable[str]) -> Iterator[list[tuple[str, str]]]:
    """Hold the locks of tables (by the Delta names that will be written), with nothing half done on any of them.

    Yields what had to be settled first: (batch id, ``finished`` or ``undone``).
    """
    wanted = tables_of(written)
    covered = set(wanted)
    while True:
        with held(covered):
            dead = [b for b in ledger.open_batches() if tables_of(b.pinned) & wanted]
            missing = {n for b in dead for n in tables_of(b.pinned)} - covered
            if not missing:
                yield [(b.batch_id, settle(b)) for b in dead]
                return
        covered |= missing


def settle(batch: ledger.Batch) -> str:
    """Finish a dead batch from its plan, or undo it; the caller holds its tables."""
    from ingestion import apply
    from ingestion import plan as plans

    plan = plans.load(plans.root(batch.feed) / batch.batch_id.split(".")[0])
    if plan is not None:
        apply.apply(plan)
        return "finished"
    ledger.undo(batch, reason="killed")
    return "undone"
