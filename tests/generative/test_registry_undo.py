"""Merges, undos and runs in any order: persons, ids and redirects are where a simple book says, and undoing all is undone.

The book knows registrations and ids only: a merge gives one id's registrations to another, an undo gives them back.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import empi
from empi import changes, members, redirects
from empi.decisions import RecordKey
from lake import ops
from lake.errors import MedlakeError
from lake.settings import settings as lake_settings
from tests.registry_world import (
    FIRST,
    archive,
    deliver,
    digest,
    his,
    history_rows,
    patient,
    person_of,
    rows,
    who,
)

#: Ten registrations of six residents; the numbers decide who comes first in a person.
_RESIDENTS = (
    ("5", "H101", 0),
    ("1", "H102", 0),
    ("4", "H101", 1),
    ("3", "H101", 2),
    ("2", "H101", 3),
    ("6", "H103", 3),
)


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("undo") / "var"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(home))
        lake_settings.cache_clear()
        deliver("patient", [patient(number, org, **who(resident)) for number, org, resident in _RESIDENTS])
        deliver("ph_archive", [archive(f"A{n}", **who(n), status_code="1") for n in (0, 1, 4, 5)])
        assert empi.link(FIRST, mode="full")["persons"] == 6
        yield home
    lake_settings.cache_clear()


class Book:
    """What should be: registration -> id, and for each merge who was retired into whom with which registrations."""

    def __init__(self, owner: dict[RecordKey, str]) -> None:
        self.ids = sorted(set(owner.values()), key=lambda e: min(k for k in owner if owner[k] == e))
        self.owner = dict(owner)
        self.merges: list[tuple[str, str, str, set[RecordKey]]] = []  # (change, kept, retired, its records)
        self.undone: set[str] = set()

    def of(self, empi_id: str) -> set[RecordKey]:
        return {k for k, e in self.owner.items() if e == empi_id}

    def may_merge(self, kept: str, other: str) -> bool:
        return kept != other and bool(self.of(kept)) and bool(self.of(other))

    def merge(self, change: str, kept: str, other: str) -> None:
        theirs = self.of(other)
        self.merges.append((change, kept, other, theirs))
        self.owner |= dict.fromkeys(theirs, kept)

    def may_undo(self, number: int) -> bool:
        _, kept, other, theirs = self.merges[number]
        return not self.of(other) and theirs < self.of(kept)

    def undo(self, number: int) -> None:
        change, _, other, theirs = self.merges[number]
        self.owner |= dict.fromkeys(theirs, other)
        self.undone.add(change)

    def leads(self, empi_id: str) -> str:
        if self.of(empi_id):
            return empi_id
        kept = next(k for c, k, o, _ in reversed(self.merges) if o == empi_id and c not in self.undone)
        return self.leads(kept)


def online(book: Book) -> dict[RecordKey, str]:
    """What the operational registry says, changes of today included."""
    with ops.engine().begin() as connection:
        found = members.members(connection, *book.ids)
    return {record: empi_id for empi_id, records in found.items() for record in records}


def settled(book: Book) -> None:
    assert person_of() == book.owner
    led = {r["empi_id"]: r["current_empi_id"] for r in rows("silver/person_redirect")}
    assert led == {e: book.leads(e) for e in book.ids if not book.of(e)}
    assert all(redirects.resolve(e) == book.leads(e) for e in book.ids[:2])
    persons = rows("silver/person")
    assert {r["empi_id"]: r["record_count"] for r in persons} == {
        e: len(book.of(e)) for e in book.ids if book.of(e)
    }
    assert all(
        e["actor"] == "王芳" for e in rows("silver/person_event") if e["event_type"] in ("merge", "split")
    )


numbers = st.integers(0, 5)
steps = st.one_of(
    st.tuples(st.just("merge"), numbers, numbers),
    st.tuples(st.just("merge"), numbers, numbers),
    st.tuples(st.just("undo"), numbers, st.just(0)),
    st.tuples(st.just("link"), st.sampled_from([0, 1]), st.just(0)),
)
#: Who came by way of the one that is parted stays; two chains meet and are parted from the middle; a second thought.
_BRIDGED = [("merge", 1, 0), ("merge", 1, 2), ("undo", 0, 0), ("link", 0, 0)]
_CHAINS = [("merge", 0, 1), ("merge", 2, 3), ("link", 1, 0), ("merge", 0, 2), ("undo", 0, 0), ("undo", 1, 0)]
_AGAIN = [("merge", 0, 1), ("link", 0, 0), ("undo", 0, 0), ("merge", 1, 0), ("link", 1, 0)]


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, min_size=2, max_size=7))
@example(_BRIDGED)
@example(_CHAINS)
@example(_AGAIN)
def test_merges_undos_and_runs_in_any_order(
    linked: Path, tmp_path_factory: pytest.TempPathFactory, todo: list[tuple[str, int, int]]
) -> None:
    home = tmp_path_factory.mktemp("example") / "var"
    shutil.copytree(linked, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(home))
        lake_settings.cache_clear()
        try:
            _play(todo)
        finally:
            lake_settings.cache_clear()
    shutil.rmtree(home)


def _play(todo: list[tuple[str, int, int]]) -> None:
    first, history = digest(), history_rows()
    book, start = Book(person_of()), person_of()
    days = count(1)

    def run(mode: str) -> None:
        nonlocal history
        empi.link(FIRST + timedelta(days=next(days)), mode=mode)
        settled(book)
        assert history <= history_rows(), "history only grows"
        history = history_rows()

    for what, one, other in todo:
        if what == "link":
            run(("auto", "full")[one])
        elif what == "merge":
            _merge(book, book.ids[one], book.ids[other])
        elif one < len(book.merges):
            _undo(book, one)
        assert online(book) == book.owner
    run("auto")
    for number in reversed(range(len(book.merges))):
        if book.merges[number][0] not in book.undone:
            assert book.may_undo(number), "the last one standing can be undone"
            _undo(book, number)
    run("full")
    assert person_of() == start and digest() == first
    assert rows("silver/person_redirect") == []


def _merge(book: Book, kept: str, other: str) -> None:
    given: dict[str, Any] = {"actor": "王芳", "reason": "核实"}
    if not book.may_merge(kept, other):
        with pytest.raises(MedlakeError, match="E321"):
            changes.merge(kept, other, **given)
        return
    book.merge(changes.merge(kept, other, **given)["change_id"], kept, other)


def _undo(book: Book, number: int) -> None:
    change = book.merges[number][0]
    given: dict[str, Any] = {"actor": "王芳", "reason": "核实"}
    if change in book.undone:  # said again: nothing happens again
        assert changes.unmerge(change, **given)["state"] == "applied"
    elif book.may_undo(number):
        changes.unmerge(change, **given)
        book.undo(number)
    else:
        with pytest.raises(MedlakeError, match="E323"):
            changes.unmerge(change, **given)


def test_the_example_s_first_records_are_what_it_needs(linked: Path) -> None:
    """In the bridged example the parted resident's record sorts before the kept one's, so the second merge hangs on it."""
    found = Book(person_of())
    assert min(found.of(found.ids[0])) < min(found.of(found.ids[1])) and his("5") in found.owner
