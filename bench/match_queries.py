"""Questions for the matching service with known answers: residents of the indexed city written down once more, and strangers.

A city's plan holds its residents as integers; the simulator's own renderer writes some of them down again, at positions
that draw other errors than their registrations did.
"""

from __future__ import annotations

import json
import multiprocessing
import pickle
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The other city: its seed differs, and it is large enough to draw from.
STRANGER_SEED = 4711
STRANGER_RESIDENTS = 60_000
_GENDERS = {"1": "male", "2": "female"}
_SYSTEMS = {
    "id_no": "urn:oid:2.16.156.10011.1.3",
    "health_card_no": "urn:oid:2.16.156.10011.1.19",
    "insurance_no": "urn:hmg:id:insurance",
}


@dataclass(frozen=True)
class Question:
    """A body for ``$match``, and who it is about (None: nobody in the index)."""

    body: bytes
    resident_id: int | None


def patient(row: dict[str, Any]) -> dict[str, Any]:
    """A registration as FHIR Patient."""
    made: dict[str, Any] = {"resourceType": "Patient"}
    numbers = [{"system": s, "value": row[c]} for c, s in _SYSTEMS.items() if row[c]]
    made |= {"identifier": numbers} if numbers else {}
    made |= {"name": [{"text": row["name"]}]} if row["name"] else {}
    made |= {"gender": _GENDERS[row["sex_code"]]} if row["sex_code"] in _GENDERS else {}
    made |= {"birthDate": row["birth_date"].isoformat()} if row["birth_date"] else {}
    made |= {"telecom": [{"system": "phone", "value": row["phone"]}]} if row["phone"] else {}
    made |= {"address": [{"text": row["addr_detail"]}]} if row["addr_detail"] else {}
    contact: dict[str, Any] = {"name": {"text": row["contact_name"]}} if row["contact_name"] else {}
    contact |= (
        {"telecom": [{"system": "phone", "value": row["contact_phone"]}]} if row["contact_phone"] else {}
    )
    return made | ({"contact": [contact]} if contact else {})


def _body(row: dict[str, Any]) -> bytes:
    given = [{"name": "resource", "resource": patient(row)}, {"name": "count", "valueInteger": 5}]
    return json.dumps({"resourceType": "Parameters", "parameter": given}, ensure_ascii=False).encode()


def _written(residents: int, seed: int, count: int, target: str) -> None:
    """Write down ``count`` registered residents of a city anew: rows as dictionaries, with their true id number."""
    import numpy as np

    from lake.settings import settings
    from simulator.people.city import plan
    from simulator.people.render import Renderer
    from simulator.profile import Profile

    profile = Profile.load()
    made = plan(profile, residents, seed, settings().demo_end_date)
    choice = np.random.default_rng(seed)
    at = np.sort(choice.choice(len(made.registers), min(2 * count, len(made.registers)), replace=False))
    some = made.registers.at(at)
    some.mother_row[:] = -1  # counts in the whole register, of which this is a part
    renderer = Renderer(profile, made.folk, made.attributes, some, made.draw)
    rows = renderer.table(np.arange(len(at)), np.full(len(at), made.folk.as_of)).to_pylist()
    true_ids = [
        bytes(int(c) for c in codes).decode()
        for codes in made.folk.id_numbers(some.resident.astype(np.int64))
    ]
    from simulator.people.families import STRANGER

    named = made.folk.fam.role[some.resident] != STRANGER  # of an unknown patient nobody can say who it is
    kept = [row | {"true_id": true_ids[n]} for n, row in enumerate(rows) if named[n]]
    choice.shuffle(kept)
    Path(target).write_bytes(pickle.dumps(kept))


def _rows(residents: int, seed: int, count: int) -> list[dict[str, Any]]:
    """The same, made in a process of its own: the memory of a city's plan goes with it."""
    with tempfile.TemporaryDirectory(prefix="medlake-bench-match-") as folder:
        target = str(Path(folder) / "rows")
        arguments = (residents, seed, count, target)
        maker = multiprocessing.get_context("spawn").Process(target=_written, args=arguments)
        maker.start()
        maker.join()
        if maker.exitcode:
            raise SystemExit(maker.exitcode)
        rows: list[dict[str, Any]] = pickle.loads(Path(target).read_bytes())
        return rows


def questions(home: str, residents: int, seed: int, count: int) -> tuple[list[Question], list[Question]]:
    """``count`` questions about known residents and as many about strangers; bodies that say nothing at all left out."""
    from lake import duck
    from lake.truth import truth_dir

    def telling(row: dict[str, Any]) -> bool:
        return any(row[c] for c in ("name", *_SYSTEMS, "phone"))

    known = [Question(_body(r), r["resident_id"]) for r in _rows(residents, seed, count) if telling(r)][
        :count
    ]
    others = [r for r in _rows(STRANGER_RESIDENTS, STRANGER_SEED, 2 * count) if telling(r)]
    connection = duck.connect()
    ids = ", ".join(f"'{r['true_id']}'" for r in others)
    here = {
        r[0]
        for r in connection.execute(
            f"SELECT id_no FROM read_parquet('{truth_dir()}/resident.parquet') WHERE id_no IN ({ids})"
        ).fetchall()
    }
    strangers = [Question(_body(r), None) for r in others if r["true_id"] not in here][:count]
    if min(len(known), len(strangers)) < count:
        raise SystemExit(f"only {len(known)} residents and {len(strangers)} strangers to ask for")
    return known, strangers


def wrong_first(asked: list[Question], told: list[list[tuple[str, str]]]) -> tuple[int, int]:
    """How many got a first match none of whose registrations is theirs, and how many got no match."""
    import pyarrow as pa

    from lake import duck, ledger, tables
    from lake.truth import truth_dir

    first = [(n, hits[0][0], asked[n].resident_id) for n, hits in enumerate(told) if hits]
    connection = duck.connect()
    columns = zip(*first, strict=True) if first else ((), (), ())
    connection.register(
        "told", pa.table(dict(zip(("n", "empi_id", "resident_id"), map(list, columns), strict=True)))
    )
    crosswalk = tables.scan_sql(
        "silver/person_identifier", ledger.visible("silver/")["silver/person_identifier"]
    )
    right = connection.execute(
        f"""SELECT count(DISTINCT told.n) FROM told JOIN {crosswalk} c USING (empi_id)
        JOIN read_parquet('{truth_dir()}/registration.parquet') t
          ON t.source_system = c.source_system AND t.org_code = c.org_code AND t.local_id = c.identifier_value
        WHERE c.identifier_type = 'MR' AND c.valid_to IS NULL AND t.resident_id = told.resident_id"""
    ).fetchall()[0][0]
    return len(first) - int(right), len(asked) - len(first)
