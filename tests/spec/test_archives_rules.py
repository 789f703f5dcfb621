"""Whose archive is it: each rule with examples, ties, contradictions, and residents who need no proposal.

C201 湖滨街道, C202 文昌街道 and C203 东渡街道 are centres of one county; H001 is the lead hospital.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from empi import archives
from empi.archives import deciding, evaluation, rules
from lake import ledger, tables
from lake.errors import MedlakeError
from tests.fixtures_silver import link, resident, shanghai, write

DAY = date(2026, 11, 20)
LONG_AGO = date(2018, 3, 1)
AT = {"C201": "湖滨街道新湾社区3号", "C202": "文昌街道北河社区5号", "C203": "东渡街道西坪社区251号"}

Rows = dict[str, list[dict[str, Any]]]


def archive(key: str, org: str, said: str | None, on: date, **more: Any) -> dict[str, Any]:
    """An archive of resident ``key`` at ``org`` that was last touched on a day and gives an address in ``said``."""
    return {
        "archive_id": f"{key}-{org}", "org_code": org, "addr_detail": AT.get(said or "", said), "created_on": LONG_AGO,
        "source_updated_at": shanghai(on),
    } | more  # fmt: skip


def exam(key: str, org: str, on: date, at: str | None = None) -> dict[str, Any]:
    return {
        "exam_id": f"X-{key}-{org}-{on}",
        "archive_id": f"{key}-{org}",
        "org_code": at or org,
        "exam_on": on,
    }


def visit(key: str, org: str, on: date, way: str) -> dict[str, Any]:
    return {
        "visit_id": f"V-{key}-{org}-{on}", "archive_id": f"{key}-{org}", "org_code": org, "visited_on": on,
        "visit_way_code": way,
    }  # fmt: skip


def contract(key: str, org: str, on: date, **more: Any) -> dict[str, Any]:
    return {
        "contract_id": f"F-{key}-{org}", "archive_id": f"{key}-{org}", "org_code": org, "signed_on": on,
        "status_code": "active",
    } | more  # fmt: skip


def proposed(
    home: Path, content: Mapping[str, list[dict[str, Any]]], dead: bool = False
) -> dict[str, dict[str, Any]]:
    """Archive id -> row of the proposal, for one resident R with the given rows."""
    linked = [link("R", "public_health", a["org_code"], a["archive_id"]) for a in content["ph_archive"]]
    linked += [link("R", "his", p["org_code"], p["patient_local_id"]) for p in content.get("patient", [])]
    write(DAY, {"person": [resident("R", is_deceased=dead)], "person_identifier": linked} | dict(content))
    archives.propose(DAY)
    at = ledger.visible("silver/")["silver/archive_proposal"]
    return {r["archive_id"]: r for r in tables.read("silver/archive_proposal", at).to_table().to_pylist()}


def two(said: str | None = None, on: date = LONG_AGO) -> list[dict[str, Any]]:
    """Archives of R at C201 and C202; that at C201 was touched last and gives the address, if any."""
    return [archive("R", "C201", said, on), archive("R", "C202", None, on - timedelta(days=1))]


def decided(rows: dict[str, dict[str, Any]]) -> tuple[str, str, str]:
    """(institution, rule, confidence), the same on each archive of the resident."""
    (found,) = {(r["managing_org_code"], r["decided_by"], r["confidence"]) for r in rows.values()}
    return found


def test_the_newest_address_decides_wherever_it_was_given(lake_home: Path) -> None:
    """A hospital knows the new address; both archives know the old one."""
    rows = proposed(lake_home, {
        "ph_archive": [archive("R", "C201", "C201", date(2025, 1, 1)), archive("R", "C202", "C201", date(2025, 5, 1))],
        "patient": [{"org_code": "H001", "patient_local_id": "L1", "addr_detail": AT["C202"],
                     "source_updated_at": shanghai(date(2026, 6, 1))}],
    })  # fmt: skip
    assert decided(rows) == ("C202", "address", "certain")
    assert {k: r["action"] for k, r in rows.items()} == {"R-C201": "close", "R-C202": "keep"}
    assert rows["R-C201"]["address_basis"] == "his/stated" and rows["R-C201"]["address_on"] == date(
        2026, 6, 1
    )


def test_an_address_in_a_third_place_moves_the_better_archive(lake_home: Path) -> None:
    rows = proposed(
        lake_home,
        {"ph_archive": two("C203", date(2026, 3, 1)), "ph_exam": [exam("R", "C202", date(2021, 5, 1))]},
    )
    assert decided(rows) == ("C203", "address", "certain")
    assert {k: r["action"] for k, r in rows.items()} == {"R-C201": "close", "R-C202": "move"}, (
        "examined there"
    )


def test_an_old_address_decides_with_less_confidence(lake_home: Path) -> None:
    fresh = rules.in_force(DAY).address_fresh_days
    on_the_last_day = DAY - timedelta(days=fresh - 1)
    assert decided(proposed(lake_home, {"ph_archive": two("C201", on_the_last_day)})) == (
        "C201", "address", "certain",
    )  # fmt: skip
    assert decided(proposed(lake_home, {"ph_archive": two("C201", DAY - timedelta(days=fresh))})) == (
        "C201", "address", "likely",
    )  # fmt: skip


def test_a_contract_decides_where_no_address_is_known(lake_home: Path) -> None:
    content: Rows = {
        "ph_archive": two(),
        "fd_contract": [contract("R", "C202", date(2026, 1, 1), ends_on=date(2026, 12, 31))],
        "ph_exam": [exam("R", "C201", date(2026, 10, 1))],
    }
    rows = proposed(lake_home, content)
    assert decided(rows) == ("C202", "contract", "unclear"), "a newer examination elsewhere speaks against it"
    assert rows["R-C202"]["action"] == "keep" and rows["R-C202"]["is_contradicted"]
    assert decided(proposed(lake_home, content | {"ph_exam": []})) == ("C202", "contract", "likely")


@pytest.mark.parametrize(
    "over",
    [
        {"ends_on": DAY - timedelta(days=1)},
        {"status_code": "cancelled"},
        {"status_code": "expired"},
        {"starts_on": DAY + timedelta(days=1)},
        {"cancelled_on": DAY},
    ],
)
def test_a_contract_that_is_not_in_force_says_nothing(lake_home: Path, over: dict[str, Any]) -> None:
    rows = proposed(
        lake_home,
        {"ph_archive": two(), "fd_contract": [contract("R", "C202", date(2026, 1, 1)) | over]},
    )
    assert decided(rows) == ("C201", "archive", "unclear")


def test_a_contract_that_ends_today_is_in_force(lake_home: Path) -> None:
    rows = proposed(
        lake_home,
        {"ph_archive": two(), "fd_contract": [contract("R", "C202", date(2026, 1, 1), ends_on=DAY)]},
    )
    assert decided(rows) == ("C202", "contract", "likely")


def test_the_last_service_counts_if_somebody_was_seen(lake_home: Path) -> None:
    """By telephone in November, at home in May: May decides."""
    rows = proposed(
        lake_home,
        {
            "ph_archive": two(),
            "htn_visit": [
                visit("R", "C201", date(2026, 11, 1), "3"),
                visit("R", "C202", date(2026, 5, 1), "2"),
            ],
        },
    )
    assert decided(rows) == ("C202", "service", "likely")
    assert (rows["R-C201"]["service_on"], rows["R-C201"]["service_basis"]) == (date(2026, 5, 1), "htn_visit")


def test_a_visit_to_a_centre_is_a_service_and_one_to_a_hospital_is_none(lake_home: Path) -> None:
    def encounter(org: str, on: date) -> dict[str, Any]:
        return {"org_code": org, "encounter_id": f"E-{org}", "patient_local_id": "L1", "class_code": "AMB",
                "started_at": shanghai(on)}  # fmt: skip

    rows = proposed(lake_home, {
        "ph_archive": two(),
        "patient": [{"org_code": o, "patient_local_id": "L1", "source_updated_at": shanghai(LONG_AGO)} for o in ("C202", "H001")],
        "encounter": [encounter("C202", date(2026, 4, 1)), encounter("H001", date(2026, 9, 1))],
    })  # fmt: skip
    assert decided(rows) == ("C202", "service", "likely")


def test_a_service_after_the_day_is_not_known_yet(lake_home: Path) -> None:
    rows = proposed(lake_home, {"ph_archive": two(), "ph_exam": [exam("R", "C202", DAY + timedelta(days=1))]})
    assert decided(rows)[1] == "archive"


def test_the_order_is_address_contract_service(lake_home: Path) -> None:
    rows = proposed(
        lake_home,
        {
            "ph_archive": [*two("C201", date(2026, 6, 1)), archive("R", "C203", None, LONG_AGO)],
            "fd_contract": [contract("R", "C202", date(2026, 1, 1))],
            "ph_exam": [exam("R", "C203", date(2026, 2, 1))],
        },
    )
    assert decided(rows) == ("C201", "address", "likely"), "two older facts speak against it"
    assert rows["R-C201"]["is_contradicted"] and rows["R-C201"]["active_archives"] == 3
    assert sorted(r["action"] for r in rows.values()) == ["close", "close", "keep"]


def test_a_newer_service_elsewhere_makes_an_address_unclear(lake_home: Path) -> None:
    rows = proposed(
        lake_home,
        {"ph_archive": two("C201", date(2026, 3, 1)), "ph_exam": [exam("R", "C202", date(2026, 9, 1))]},
    )
    assert decided(rows) == ("C201", "address", "unclear")


def test_a_tie_is_told_and_the_next_rule_decides(lake_home: Path) -> None:
    """Two institutions examined the resident on one day; two contracts were signed on one day."""
    on = date(2026, 6, 1)
    rows = proposed(
        lake_home,
        {"ph_archive": two(), "fd_contract": [contract("R", "C201", on), contract("R", "C202", on)],
         "ph_exam": [exam("R", "C202", date(2026, 7, 1))]},
    )  # fmt: skip
    assert decided(rows) == ("C202", "service", "likely") and rows["R-C201"]["has_tie"]
    rows = proposed(
        lake_home,
        {"ph_archive": two(), "fd_contract": [], "ph_exam": [exam("R", o, on) for o in ("C201", "C202")]},
    )
    assert decided(rows) == ("C201", "archive", "unclear") and rows["R-C201"]["has_tie"]


def test_two_archives_of_one_institution_become_one(lake_home: Path) -> None:
    content: Rows = {"ph_archive": [archive("R", "C201", "C201", DAY), archive("R", "C201", "C201", LONG_AGO, archive_id="R-2")],
                     "ph_exam": [exam("R", "C201", date(2026, 1, 1)) | {"archive_id": "R-2"}]}  # fmt: skip
    rows = proposed(lake_home, content)
    assert {k: r["action"] for k, r in rows.items()} == {"R-2": "keep", "R-C201": "close"}, "used one stays"
    assert archives.ask(DAY)["asked"] == 1, "one institution, one item"


@pytest.mark.parametrize(
    ("said", "org", "basis"),
    [
        ("医湖市湖东区文昌街道北河社区5号", "C202", "public_health/stated"),
        ("文昌街道", "C202", "public_health/stated"),
        ("外省某市某街道9号", None, None),
        ("x", None, None),
    ],
)
def test_what_an_address_tells(lake_home: Path, said: str, org: str | None, basis: str | None) -> None:
    rows = proposed(lake_home, {"ph_archive": two(said, date(2026, 1, 1))})
    assert (rows["R-C201"]["address_org_code"], rows["R-C201"]["address_basis"]) == (org, basis)


def test_a_region_code_counts_only_where_no_words_name_a_place(lake_home: Path) -> None:
    code = {"addr_region_code": "429701002201"}
    rows = proposed(
        lake_home,
        {"ph_archive": [archive("R", "C201", None, DAY, **code), archive("R", "C202", None, LONG_AGO)]},
    )
    assert (
        decided(rows) == ("C202", "address", "likely")
        and rows["R-C201"]["address_basis"] == "public_health/code"
    )
    rows = proposed(
        lake_home,
        {"ph_archive": [archive("R", "C201", "C203", DAY, **code), archive("R", "C202", None, LONG_AGO)]},
    )
    assert decided(rows)[0] == "C203"


def test_an_archive_that_was_closed_no_longer_tells_where_somebody_lives(lake_home: Path) -> None:
    closed = archive("R", "C203", "C203", DAY, status_code="1")
    rows = proposed(lake_home, {"ph_archive": [*two("C201", LONG_AGO), closed]})
    assert decided(rows)[0] == "C201" and set(rows) == {"R-C201", "R-C202"}


@pytest.mark.parametrize(
    ("kept", "dead"),
    [
        ([archive("R", "C201", "C201", DAY)], False),
        (two("C201", DAY), True),
        ([archive("R", "C201", "C201", DAY), archive("R", "C202", "C201", DAY, status_code="1")], False),
        ([archive("R", "C201", "C201", DAY), archive("R", "C202", "C201", DAY, is_dead=True)], False),
    ],
    ids=["one archive", "dead person", "other one closed", "other one of a dead person"],
)
def test_who_needs_no_proposal(lake_home: Path, kept: list[dict[str, Any]], dead: bool) -> None:
    assert proposed(lake_home, {"ph_archive": kept}, dead) == {}
    assert archives.ask(DAY)["asked"] == 0 and archives.proposals() == []


def test_nothing_is_told_before_there_is_anything(lake_home: Path) -> None:
    for call in (archives.proposals, lambda: archives.show("A"), archives.evaluate):
        with pytest.raises(MedlakeError, match="E361"):
            call()
    write(DAY, {"person": [resident("R")]})
    with pytest.raises(MedlakeError, match="E360"):
        archives.propose(DAY)


def test_the_rules_are_dated_and_every_number_says_where_it_is_from() -> None:
    assert rules.in_force(date(2020, 1, 1)) == rules.in_force(date(2026, 1, 1))
    now = rules.in_force(DAY)
    assert now.order == ("address", "contract", "service") and rules.LAST_RESORT not in now.order
    assert len(deciding.CONFIDENCE) == 3 and now.valid_from <= DAY
    with pytest.raises(ValueError, match="shoe_size"):
        rules.parse({"order": {"rules": ["address", "shoe_size"]}})


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (95, 100, 0.8882, 0.9785)],
)
def test_wilsons_interval(right: int, of: int, low: float, high: float) -> None:
    """Values of the published formula (Wilson 1927), as statistics tables print them."""
    assert evaluation.interval(right, of) == pytest.approx([low, high], abs=2e-4)
