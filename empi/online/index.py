"""Answers from the index: who is this person, who has this number, what is known of an id.

A request is a handful of reads by key and one statement that compares; levels, guards and weights are the batch
model's own. What people changed online since the index's run lies on top (:mod:`empi.online.overlay`).
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from empi import model, state, weights
from empi.decisions import RecordKey
from empi.online import compare, keys, single
from empi.online.making import GOLDEN, folder, link
from empi.online.overlay import Changes, Overlay
from empi.online.single import Query, Shared
from lake.errors import MedlakeError

#: Bits above which an unguarded pair is called certain: odds of a thousand to one.
CERTAIN_WEIGHT = 10.0
#: Bits above which a pair that is not accepted is still shown to whoever asks for candidates.
POSSIBLE_WEIGHT = 2.0
_RANK = {"certain": 0, "probable": 1, "possible": 2}


@dataclass(frozen=True)
class Hit:
    """A person that may be the one asked for; ``score`` is the chance that the best record is theirs."""

    empi_id: str
    score: float
    match_weight: float
    grade: str  # certain | probable | possible
    guard: str | None
    record_key: RecordKey


@dataclass(frozen=True)
class Person:
    """A golden record. ``replaced_by``: where a retired id leads; its own fields are then empty."""

    empi_id: str
    is_active: bool
    replaced_by: str | None
    replaces: tuple[str, ...]
    golden: dict[str, Any]
    records: tuple[RecordKey, ...]


@dataclass(frozen=True)
class _File:
    """An index file as one thread sees it."""

    name: str
    connection: sqlite3.Connection
    meta: dict[str, Any]
    shared: Shared
    weights: weights.Weights


def _marks(values: Iterable[Any]) -> str:
    return ", ".join("?" for _ in values)


class Index:
    """The registry as it stands. Threads share it; each has connections of its own."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._shared: dict[str, tuple[dict[str, Any], Shared, weights.Weights]] = {}
        self._changes = Changes()
        self._file()

    def _file(self) -> _File:
        try:
            name = str(link().readlink())
        except OSError as error:
            raise MedlakeError("E337", place=link().name) from error
        held: _File | None = getattr(self._local, "file", None)
        if held is not None and held.name == name:
            return held
        if held is not None:
            held.connection.close()
        connection = sqlite3.connect(
            f"file:{folder() / name}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        connection.execute("PRAGMA mmap_size = 2147418112")
        compare.prepare(connection)
        with self._lock:
            if name not in self._shared:
                self._shared = {name: _read(connection)}
            held = _File(name, connection, *self._shared[name])
        self._local.file = held
        return held

    def _now(self) -> tuple[_File, Overlay]:
        file = self._file()
        return file, self._changes.since(int(file.meta["last_change_seq"]))

    def match(self, query: Query, *, count: int = 10, only_certain: bool = False) -> list[Hit]:
        """Persons who may be the one described, the likeliest first; nobody, rather than a stranger.

        Args:
            only_certain: the one certain match, or nothing (also when two are certain).
        """
        file, overlay = self._now()
        asked = single.standardise(query, file.shared, date.fromisoformat(file.meta["data_date"]))
        hashes = [] if asked["is_unknown"] else keys.rule_hashes(asked)
        best: dict[str, tuple[Hit, int]] = {}
        for row in _compare(file, asked, hashes):
            hit = _judge(file, row)
            if hit is None:
                continue
            person_no, weight, grade, guard, rec_no = hit
            empi_id, key, id_no = _owner(file, overlay, person_no, rec_no)
            if guard is None and asked["id_own"] and id_no and id_no != asked["idno"]:
                guard, grade = (
                    "two_ids",
                    "possible",
                )  # the record has no number, but its person has another one
            known = best.get(empi_id)
            if known is None or (_RANK[grade], -weight) < (_RANK[known[0].grade], -known[0].match_weight):
                best[empi_id] = (
                    Hit(empi_id, weights.probability(weight), weight, grade, guard, key),
                    person_no,
                )
        hits = sorted(
            (h for h, _ in best.values()), key=lambda h: (_RANK[h.grade], -h.match_weight, h.empi_id)
        )
        if only_certain:
            certain = [h for h in hits if h.grade == "certain"]
            return certain if len(certain) == 1 else []
        return hits[:count]

    def lookup(self, code: str, *, org_code: str | None = None) -> list[str]:
        """Ids of the residents who have a number: an id of 15 or 18 characters, a card, an insurance or local number.

        ``org_code``: for a local number, the institution that gave it; without it any institution's is meant.
        """
        file, overlay = self._now()
        cleaned = single.clean_id(code)
        given = {code.strip(), cleaned, single.id_18(cleaned), single.clean_card(code)} - {None, ""}
        hashes = [keys.number_hash(str(n)) for n in given]
        rows = file.connection.execute(
            f"""SELECT r.rec_no, r.person_no, r.org_code, r.idno, r.card, r.insurance, r.identifier_value FROM rec r
            WHERE r.rec_no IN (SELECT rec_no FROM key WHERE h IN ({_marks(hashes)}))""",
            hashes,
        ).fetchall()
        found = {
            _owner(file, overlay, row[1], row[0])[0]
            for row in rows
            if given & set(row[3:6]) or (row[6] in given and org_code in (None, row[2]))
        }
        return sorted(found)

    def by_record(self, source_system: str, org_code: str, identifier_value: str) -> str | None:
        """The person of a registration."""
        file, overlay = self._now()
        key = (source_system, org_code, identifier_value)
        row = file.connection.execute(
            """SELECT r.rec_no, r.person_no FROM rec r WHERE r.rec_no IN (SELECT rec_no FROM key WHERE h = ?)
            AND (r.source_system, r.org_code, r.identifier_value) = (?, ?, ?)""",
            [keys.record_hash(*key), *key],
        ).fetchone()
        return _owner(file, overlay, row[1], row[0])[0] if row else None

    def current(self, empi_id: str) -> str | None:
        """The id that an id stands for now (itself, or whom it was merged into); None if it was never issued."""
        file, overlay = self._now()
        row = file.connection.execute(
            "SELECT current_empi_id FROM redirect WHERE empi_id = ?", [empi_id]
        ).fetchone()
        at = overlay.current(str(row[0]) if row and empi_id not in overlay.records else empi_id)
        known = file.connection.execute("SELECT 1 FROM person WHERE empi_id = ?", [at]).fetchone()
        return at if known or at in overlay.records else None

    def person(self, empi_id: str) -> Person | None:
        """What is known of an id, a retired one too; None if it was never issued."""
        at = self.current(empi_id)
        if at is None:
            return None
        if at != empi_id:
            return Person(empi_id, False, at, (), {}, ())
        file, overlay = self._now()
        row = file.connection.execute(
            f"SELECT person_no, {', '.join(GOLDEN)} FROM person WHERE empi_id = ?", [empi_id]
        ).fetchone()
        golden = dict(zip(GOLDEN, row[1:], strict=True)) if row else {}
        if empi_id in overlay.records:
            records = tuple(overlay.records[empi_id])
        else:
            records = tuple(
                file.connection.execute(
                    "SELECT source_system, org_code, identifier_value FROM rec WHERE rec_no IN "
                    "(SELECT rec_no FROM owned WHERE person_no = ?) ORDER BY 1, 2, 3",
                    [row[0]],
                ).fetchall()
            )
        retired = file.connection.execute(
            "SELECT empi_id FROM redirect WHERE current_empi_id = ?", [empi_id]
        ).fetchall()
        replaces = {r[0] for r in retired} | {o for o in overlay.merged if overlay.current(o) == empi_id}
        return Person(empi_id, True, None, tuple(sorted(replaces)), golden, records)

    def numbers(self, empi_id: str) -> list[tuple[str, str]]:
        """(identifier type, number) of a person: ``NI`` trusted ids, ``HC`` health cards, ``SN`` insurance numbers."""
        found = self.person(empi_id)
        return self.numbers_of(found) if found else []

    def numbers_of(self, person: Person) -> list[tuple[str, str]]:
        """The same of a person already at hand."""
        hashes = [keys.record_hash(*key) for key in person.records]
        rows = self._file().connection.execute(
            f"""SELECT source_system, org_code, identifier_value, CASE WHEN id_own THEN idno END, card, insurance
            FROM rec WHERE rec_no IN (SELECT rec_no FROM key WHERE h IN ({_marks(hashes)}))""",
            hashes,
        )
        own = set(person.records)
        return sorted(
            {
                (t, n)
                for row in rows
                if row[:3] in own
                for t, n in zip(("NI", "HC", "SN"), row[3:], strict=True)
                if n
            }
        )


def _read(connection: sqlite3.Connection) -> tuple[dict[str, Any], Shared, weights.Weights]:
    """What an index says of itself and of the whole set."""
    meta: dict[str, Any] = json.loads(connection.execute("SELECT content FROM meta").fetchone()[0])
    if meta["model"] != state.fingerprint():  # made by another model or release: its columns may be others
        raise MedlakeError("E336", place=link().name)
    regions = {c: (t, v) for c, t, v in connection.execute("SELECT region_code, town, village FROM region")}
    nearby = {
        (o, v): t for o, v, t in connection.execute("SELECT org_code, village, town FROM nearby") if v and t
    }
    shared = Shared(
        frozenset(r[0] for r in connection.execute("SELECT value FROM shared_id")),
        frozenset(r[0] for r in connection.execute("SELECT value FROM shared_phone")),
        regions,
        tuple(sorted({t for t, _ in regions.values() if t})),
        nearby,
    )
    return meta, shared, weights.load(int(meta["prior_records"]), lambda _column, _value: None)


def _compare(file: _File, asked: dict[str, Any], hashes: list[int]) -> list[tuple[Any, ...]]:
    if not hashes:
        return []
    values: dict[str, Any] = {c: asked[c] for c in compare.columns()}
    values |= {f"k{n}": None for n in range(len(model.BLOCKING))}
    values |= {f"k{n}": h for n, h in enumerate(hashes)}
    return file.connection.execute(compare.statement(), values).fetchall()


def _judge(file: _File, row: tuple[Any, ...]) -> tuple[int, float, str, str | None, int] | None:
    """(person, weight, grade, guard, record) of a compared record; None if it is nobody's candidate."""
    rec_no, person_no, guard, promoted = row[:4]
    gammas = dict(zip(model.LEVELS, row[4:], strict=False))
    counted = row[4 + len(model.LEVELS) :]
    shares = dict(zip(model.FREQUENCY.values(), counted[1::2], strict=True))
    weight = file.weights.total(gammas, shares)
    if guard is None and (
        promoted
        or weight >= CERTAIN_WEIGHT
        or (
            gammas["idno"] == model.gamma("idno", "trusted")
            and gammas["name"] == model.gamma("name", "exact")
        )
    ):
        return person_no, weight, "certain", None, rec_no
    accept = model.thresholds()["accept"]
    if guard is None and weight >= accept:
        return person_no, weight, "probable", None, rec_no
    if weight >= (accept if guard else POSSIBLE_WEIGHT):
        return person_no, weight, "possible", guard, rec_no
    return None


def _owner(file: _File, overlay: Overlay, person_no: int, rec_no: int) -> tuple[str, RecordKey, str | None]:
    """The person of a record as things stand, the record's key, and the person's trusted id."""
    row = file.connection.execute(
        """SELECT p.empi_id, p.id_no, r.source_system, r.org_code, r.identifier_value FROM rec r, person p
        WHERE r.rec_no = ? AND p.person_no = ?""",
        [rec_no, person_no],
    ).fetchone()
    key = RecordKey(*row[2:5])
    return overlay.owner.get(key, row[0]), key, row[1]
