"""The reviewed mapping of HL7 segments against the contracts it fills and the code lists it names."""

from __future__ import annotations

import csv

import pytest

from ingestion.readers.hl7v2.lookup import functions
from ingestion.readers.hl7v2.mapping import Place, Rows, mapping, place
from lake.contracts import contracts, table_contract
from lake.settings import settings

ROWS = [pytest.param(r, id=f"{r.table}-{r.driver}") for r in mapping().rows]

#: Tables of the group's own codes that ``codes`` translates into, by the field that uses them.
TARGETS = {
    "order_control": "order_status",
    "order_status": "order_status",
    "document_completion": "emr_status",
    "allergen": "allergen_type",
    "severity": "allergy_severity",
    "specimen": "specimen_status",
}


#: Tables whose codes are yes (1) or no (0).
FLAGS = {"critical", "urgent"}


def all_places(rows: Rows) -> list[Place]:
    groups = [
        *rows.fields.values(),
        *rows.needs,
        *(p for p, _ in (*rows.only, *rows.never, *rows.delete_when)),
    ]
    groups += [p for fields in rows.events.values() for p in fields.values()]
    found = [p for g in groups for p in g]
    return [q for p in found for q in (p.joined or (p,))]


@pytest.mark.parametrize("rows", ROWS)
def test_every_mapped_field_is_in_the_contract_and_every_required_one_is_mapped(rows: Rows) -> None:
    fields = {f.name for f in table_contract(rows.table).fields}
    named = set(rows.fields) | {n for e in rows.events.values() for n in e}
    assert named <= fields
    wanted = {f.name for f in table_contract(rows.table).fields if f.required or f.is_key}
    assert wanted <= named
    assert rows.unique is None or set(rows.unique) <= named


@pytest.mark.parametrize("rows", ROWS)
def test_every_function_and_code_table_exists(rows: Rows) -> None:
    for p in all_places(rows):
        if ":" in p.function:
            how, table = p.function.split(":")
            assert table in mapping().codes
            assert (how == "flag") == (table in FLAGS)
        else:
            assert p.function in ("", *functions())


def test_codes_become_codes_of_the_groups_lists() -> None:
    for name, target in TARGETS.items():
        with (settings().seeds_dir / "codes" / f"{target}.csv").open(encoding="utf-8") as file:
            known = {row["code"] for row in csv.DictReader(file)}
        assert set(mapping().codes[name].values()) <= known, name
    assert set(mapping().codes) == {*TARGETS, *FLAGS, "radiology"}
    assert {v for f in FLAGS for v in mapping().codes[f].values()} == {"0", "1"}


def test_what_a_feed_takes_gives_rows() -> None:
    given = {t.split("^")[0] for r in mapping().rows for t in r.types}
    for feed, types in mapping().feeds.items():
        assert feed in contracts()
        assert types <= given
        assert types <= set(mapping().requires)


def test_a_path_that_is_none_is_an_error() -> None:
    for text in ("PID", "PID-", "pid-3", "PID-3#", "PID-3.x", ">>>PID-3"):
        with pytest.raises(ValueError, match="no HL7 path"):
            place(text)
    assert place(">>OBX-5#value{OBX-3.1.2!=IMP}").chosen_not
    assert place("PID-3#local + AL1-3#code_or_text").joined[1].segment == "AL1"
