"""The policy: role x level x institution, purposes, masks, and what may not be filtered or sorted by."""

from __future__ import annotations

import itertools
import json

import duckdb
import jsonschema
import pytest
import yaml

from lake import access, access_policy, access_scope, contracts
from lake.access import Caller
from lake.errors import MedlakeError

POLICY = access_policy.policy()
ROOT = access_scope.root()
PLACES = {"group": ROOT, "centre": "C201", "station": "C201S01", "nowhere": "X999", "none": ""}


def test_the_policy_is_what_its_schema_says() -> None:
    node = json.loads(json.dumps(yaml.safe_load(access_policy.FILE.read_text("utf-8"))))
    jsonschema.validate(node, json.loads(access_policy.SCHEMA.read_text("utf-8")))
    for role in POLICY.roles.values():
        assert set(role.purposes) <= set(POLICY.purposes), role.code


def test_level_4_asks_for_a_second_factor_and_the_administrators_too() -> None:
    for role in POLICY.roles.values():
        sees = role.may_break_glass or any(
            role.act(level, purpose) == "clear" for level in (4, 5) for purpose in ("", *role.purposes)
        )
        if sees or role.duties:
            assert role.needs_second_factor, role.code


def test_each_duty_belongs_to_one_administrator_and_no_administrator_sees_data() -> None:
    holders: dict[str, set[str]] = {}
    for role in POLICY.roles.values():
        for duty in role.duties:
            holders.setdefault(duty, set()).add(role.code)
        if role.duties:
            assert role.scope == "none" and all(role.levels[n] == "hide" for n in (2, 3, 4, 5))
            assert not role.purposes and not role.may_break_glass
    shared = {duty for duty, who in holders.items() if len(who) > 1}
    assert shared == {"account.list"}
    for a, b in itertools.permutations(("system_admin", "security_admin", "audit_admin"), 2):
        for duty in POLICY.roles[a].duties - {"account.list"}:
            assert access.may(a, duty) and not access.may(b, duty)


@pytest.mark.parametrize("role", [*POLICY.roles, "nobody"])
@pytest.mark.parametrize("place", PLACES)
def test_rows_by_role_and_institution(role: str, place: str) -> None:
    seen = access.scope(Caller("u", role, PLACES[place]))
    rule = POLICY.roles.get(role)
    if rule is None or rule.scope == "none":
        assert seen == frozenset()
    elif rule.scope == "group" or place == "group":
        assert seen is None
    elif place in ("nowhere", "none"):
        assert seen == frozenset()
    else:
        assert seen is not None and PLACES[place] in seen and ROOT not in seen and "H101" not in seen
        assert ("C201S02" in seen) == (place == "centre")


@pytest.mark.parametrize("role", list(POLICY.roles))
@pytest.mark.parametrize("purpose", ["", *POLICY.purposes])
def test_levels_only_ever_close_upwards(role: str, purpose: str) -> None:
    acts = [access_policy.ORDER.index(POLICY.roles[role].act(level, purpose)) for level in (1, 2, 3, 4, 5)]
    assert acts == sorted(acts, reverse=True)
    bare = [access_policy.ORDER.index(POLICY.roles[role].act(level, "")) for level in (1, 2, 3, 4, 5)]
    assert all(a >= b for a, b in zip(acts, bare, strict=True))
    if purpose not in POLICY.roles[role].purposes:
        assert acts == bare


def test_an_unknown_role_field_or_level_is_closed() -> None:
    assert access.columns(Caller("u", "nobody", ROOT), "ph_archive", ["name", "org_code"]) == {
        "name": "hide", "org_code": "hide"}  # fmt: skip
    assert access.level("ph_archive", "no_such_field") == 5
    assert access.level("gold.something", "no_such_field") == 5
    assert access.level("gold.something", "no_such_field", {"no_such_field": 2}) == 2
    assert access.level("gold.something", "id_no", {"id_no": 1}) == 4
    assert POLICY.roles["doctor"].act(6, "care") == "hide"


def test_contract_levels_are_the_contracts() -> None:
    for feed in contracts.contracts().values():
        for table in feed.tables.values():
            for field in table.fields:
                assert access.level(f"silver/{table.name}", field.name) >= field.level


PERSON = {
    "name": "王小东", "id_no": "42970119500304001X", "phone": "13900000001", "birth_date": "1950-03-04",
    "addr_detail": "医湖市湖东区湖滨街道12号3单元"}  # fmt: skip
MASKED = ("王**", "4297**********001X", "139****0001", "1950年", "医湖市湖东区湖滨街道***")


def ask(caller: Caller, fields: list[str]) -> list[tuple[object, ...]]:
    con = duckdb.connect()
    con.execute(
        "CREATE TABLE ph_archive AS SELECT 'e' || i AS empi_id, o AS org_code, '429701195003040' || i AS archive_id,"
        f" {', '.join(f'{v!r} AS {k}' for k, v in PERSON.items())} FROM"
        " (VALUES (1, 'C201'), (2, 'C201S01'), (3, 'H101'), (4, NULL)) v(i, o)"
    )
    shown, where, values = access.select_sql(caller, "ph_archive", fields)
    return con.execute(f"SELECT {', '.join(shown)} FROM ph_archive t WHERE {where}", values).fetchall()


def test_masks_and_rows_in_the_engine() -> None:
    rows = ask(Caller("d", "doctor", "C201", "care"), list(PERSON))
    assert rows == [tuple(PERSON.values())] * 2
    assert ask(Caller("s", "steward", "C201S01", "quality"), list(PERSON)) == [MASKED]
    assert len(ask(Caller("s", "steward", ROOT, "quality"), ["name"])) == 4


def test_break_glass_shows_one_resident_of_any_institution_and_nobody_else() -> None:
    glass = Caller("d", "doctor", "C201", "break_glass", is_broken_glass=True, subject="e3")
    assert ask(glass, ["name", "org_code"]) == [("王小东", "H101")]
    for wrong in (
        Caller("d", "doctor", "C201", "break_glass", is_broken_glass=True),
        Caller("r", "researcher", ROOT, "research", is_broken_glass=True, subject="e3"),
        Caller("s", "security_admin", ROOT, "break_glass", is_broken_glass=True, subject="e3"),
    ):
        with pytest.raises(MedlakeError) as refused:
            ask(wrong, ["org_code"])
        assert refused.value.code in {"E685", "E683"}


@pytest.mark.parametrize(
    ("caller", "fields", "options", "code"),
    [
        (Caller("s", "steward", "C201"), ["name"], {}, "E683"),
        (Caller("s", "steward", "C201", "research"), ["name"], {}, "E683"),
        (Caller("s", "steward", "X999", "quality"), ["name"], {}, "E681"),
        (Caller("a", "audit_admin", ROOT), ["org_code"], {}, "E681"),
        (Caller("s", "steward", "C201", "quality"), ["org_code"], {"sort": ["name"]}, "E682"),
        (Caller("s", "steward", "C201", "quality"), ["org_code"], {"filters": ["id_no"]}, "E682"),
        (Caller("s", "steward", "C201", "quality"), ["org_code"], {"filters": ["no_such"]}, "E682"),
        (Caller("s", "steward", "C201", "quality"), ['name" FROM x --'], {}, "E686"),
        (Caller("s", "steward", "C201", "quality"), ["org_code"], {"known": ["name"]}, "E686"),
        (Caller("s", "steward", "C201", "quality"), ["name"], {"known": ["name"]}, "E684"),
        (Caller("s", "steward", "C201", "quality"), ["org_code"], {"alias": "t; DROP"}, "E686"),
    ],
)
def test_refusals(caller: Caller, fields: list[str], options: dict[str, list[str]], code: str) -> None:
    with pytest.raises(MedlakeError) as refused:
        access.select_sql(caller, "ph_archive", fields, **options)  # type: ignore[arg-type]
    assert refused.value.code == code
    assert "DROP" not in str(refused.value) and "--" not in str(refused.value)


@pytest.mark.parametrize("spelled", ["hiv_result_code", "HIV_RESULT_CODE", "Hiv_Result_Code"])
def test_another_case_of_a_name_is_the_same_field(spelled: str) -> None:
    officer = Caller("o", "officer", ROOT, "public_health")
    assert access.level("silver/prenatal_visit", spelled) == access.level("gold.x", spelled) == 5
    assert access.columns(officer, "silver/prenatal_visit", [spelled]) == {spelled: "mask"}
    assert access.mask_of("ID_NO") == "id_no"
    for use in (spelled, f"t.{spelled}", f'"{spelled}"'):
        for way in ("filters", "sort"):
            with pytest.raises(MedlakeError) as refused:
                access.select_sql(officer, "silver/prenatal_visit", ["org_code"], **{way: [use]})  # type: ignore[arg-type]
            assert refused.value.code in {"E682", "E686"}
