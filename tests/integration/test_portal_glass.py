"""Break-glass: one resident, one doctor, a while; told at once, judged by another; what is tried against it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

import worklist
from lake import audit, audit_search, ops
from lake.access_policy import policy
from lake.access_tables import glass_grant
from lake.errors import MedlakeError
from lake.settings import settings
from portal import glass, glass_review
from portal.accounts import Person
from tests import fixtures_silver as silver
from tests.portal_client import client

DAY = date(2026, 11, 18)
SEEN = datetime(2026, 11, 10, 2, tzinfo=UTC)
TEXT = "急诊昏迷，家属不在场，需了解用药"
DOCTOR = Person("dr_a", "doctor", "C201")
OTHER = Person("dr_b", "doctor", "C201")
JUDGE = Person("sec_a", "security_admin", "")
_CSRF = re.compile(r'name="(csrf|key)" value="([^"]*)"')


def residents() -> None:
    """Two residents of the hospital H101; the first keeps her archive at C202. At H101 the laboratory gives the first
    one's number to the second one too: the hospital's register decides."""
    silver.write(
        DAY,
        {
            "person": [
                silver.resident("E1", name="王小东", id_no="429701196001010018"),
                silver.resident("E2", name="李雷", id_no="429701196001010026"),
                silver.resident("E3", name="王小东", id_no="429701196001010034"),
            ],
            "person_identifier": [
                silver.link("E1", "his", "H101", "P1"),
                silver.link("E2", "his", "H101", "P2"),
                silver.link("E2", "lis", "H101", "P1"),
                silver.link("E1", "public_health", "C202", "A1"),
                silver.link("E2", "public_health", "C201", "A2"),
                silver.link("E1", "his", "H101", "429701E1", identifier_type="SN"),
            ],
            "ph_archive": [
                {"archive_id": "A1", "org_code": "C202", "drug_allergy": "青霉素"},
                {"archive_id": "A2", "org_code": "C201", "drug_allergy": "磺胺"},
            ],
            "encounter": [
                {"encounter_id": "V1", "org_code": "H101", "patient_local_id": "P1", "started_at": SEEN,
                 "chief_complaint": "胸痛一小时"},
                {"encounter_id": "V2", "org_code": "H101", "patient_local_id": "P2", "started_at": SEEN,
                 "chief_complaint": "李雷咳嗽"},
            ],
            "diagnosis": [
                {"encounter_id": "V1", "seq": 1, "org_code": "H101", "icd10_code": "I20.0", "dx_name": "不稳定心绞痛"},
                {"encounter_id": "V2", "seq": 1, "org_code": "H101", "icd10_code": "J06", "dx_name": "上感",
                 "patient_local_id": "P2"},
            ],
            "lab_report": [{"report_id": "R1", "org_code": "H101", "patient_local_id": "P1", "reported_at": SEEN}],
            "lab_result": [{"report_id": "R1", "seq": 1, "org_code": "H101", "item_name": "血钾", "value_num": 6.9}],
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("glass") / "var"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", str(home))
        settings.cache_clear()
        residents()
        worklist.migrate()
        yield home
    settings.cache_clear()


@pytest.fixture(autouse=True)
def fresh(world: Path) -> None:
    """No access is open and nobody has tried before."""
    glass._tries._levels.clear()
    with ops.engine().begin() as connection:
        connection.execute(glass_grant.delete())


def ask(person: Person = DOCTOR, key: str = "k", **given: str) -> str:
    form = {
        "number_kind": "id_no",
        "value": "429701196001010018",
        "name": "王小东",
        "reason": "emergency",
        "text": TEXT,
    }
    at = datetime.fromisoformat(given.pop("at")) if "at" in given else None
    return glass.ask(
        person, **(form | given), key=f"{datetime.now(UTC):%M%S%f}{key}", source_ip="10.0.0.7", at=at
    )  # type: ignore[arg-type]


def refused(code: str, call: object, *args: object, **named: object) -> None:
    with pytest.raises(MedlakeError) as told:
        call(*args, **named)  # type: ignore[operator]
    assert told.value.code == code


def notice(grant_id: str) -> worklist.store.Item:  # type: ignore[name-defined]
    return worklist.find(worklist.making.item_id_of(glass.request_key(grant_id)))[0]  # type: ignore[attr-defined]


def texts(found: dict[str, object]) -> str:
    return json.dumps(found, ensure_ascii=False, default=str)


def test_it_shows_that_resident_of_every_institution_and_nobody_else() -> None:
    found = glass.records(DOCTOR, ask(), "10.0.0.7")
    shown = texts(found)
    assert found["person"]["姓名"] == "王小东" and found["person"]["证件号码"] == "429701196001010018"
    assert all(word in shown for word in ("青霉素", "胸痛一小时", "不稳定心绞痛", "血钾"))
    assert "湖东医院" in shown  # institutions by name
    assert not any(
        word in shown for word in ("磺胺", "李雷", "上感", "429701196001010026", "429701196001010034")
    )


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [("id_no", "429701196001010018", "李雷"), ("id_no", "429701196001010019", "王小东"), ("archive_id", "P1", "王小东"),
     ("nonsense", "A1", "王小东"), ("insurance_no", "' OR 1=1 --", "王小东"), ("id_no", "%", "%")],
)  # fmt: skip
def test_number_and_name_must_be_one_residents_and_each_try_is_in_the_audit(
    kind: str, value: str, name: str
) -> None:
    refused("E677", ask, number_kind=kind, value=value, name=name)
    entry = audit_search.search(action="break_glass", limit=1)[0]
    assert (entry["action"], entry["actor"], entry["result"]) == ("break_glass.refused", "dr_a", "unknown")
    assert value not in texts(entry) and name not in texts(entry)
    assert glass.open_now(DOCTOR) == []


@pytest.mark.parametrize(("kind", "value"), [("archive_id", "A1"), ("insurance_no", "429701e1")])
def test_other_numbers_find_the_same_resident(kind: str, value: str) -> None:
    assert "胸痛一小时" in texts(glass.records(DOCTOR, ask(number_kind=kind, value=value), ""))


@pytest.mark.parametrize(
    "given",
    [{"reason": "curiosity"}, {"reason": ""}, {"text": "急"}, {"text": "急 " * 4}, {"text": "王小东昏迷不醒无法自述"},
     {"text": "号码429701196001010018的患者昏迷"}, {"name": " "}, {"value": ""}],
)  # fmt: skip
def test_a_request_without_a_reason_or_with_a_name_in_it_opens_nothing(given: dict[str, str]) -> None:
    refused("E679", ask, **given)
    assert glass.open_now(DOCTOR) == []


def test_whoever_guesses_waits() -> None:
    for n in range(10):
        refused("E677", ask, value=f"4297011960010{n:05d}")
    refused("E688", ask)


def test_only_the_roles_of_the_policy_may_ask_and_no_administrator_ever() -> None:
    for code, role in policy().roles.items():
        if not role.may_break_glass:
            refused("E692", ask, Person("x", code, "C201"))
    assert [code for code, r in policy().roles.items() if r.may_break_glass] == ["doctor"]


def test_notice_clock_and_audit_stand_with_the_access() -> None:
    grant_id = ask()
    item = notice(grant_id)
    assert (item.kind, item.org_code, item.state, item.owner_role) == (
        "break_glass",
        "C202",
        "opened",
        "org_qc_lead",
    )
    assert item.due_at is not None
    assert "王小东" not in texts(item.payload) and TEXT not in texts(item.payload)
    entry = audit_search.search(action="break_glass.open", limit=1)[0]
    assert entry["grant"] == grant_id and entry["persons_count"] == 1
    glass.records(DOCTOR, grant_id, "10.0.0.7")
    read = audit_search.search(action="break_glass.read", limit=1)[0]
    assert read["purpose"] == "break_glass" and "silver/lab_result" in read["tables"] and read["rows"] == 5
    assert "E1" in {p["empi_id"] for p in audit_search.affected(actor="dr_a")["persons"]}
    audit.verify()


def test_a_resident_without_an_archive_is_told_to_the_doctors_own_institution() -> None:
    assert notice(ask(value="429701196001010034")).org_code == "C201"


def test_anothers_access_a_changed_role_and_a_moved_doctor_open_nothing() -> None:
    grant_id = ask()
    for stranger in (OTHER, Person("dr_a", "doctor", "C202"), Person("dr_a", "officer", "C201"), JUDGE):
        refused("E685", glass.records, stranger, grant_id, "")
        refused("E685", glass.close, stranger, grant_id, "")
    refused("E685", glass.records, DOCTOR, "0" * 32, "")
    assert glass.records(DOCTOR, grant_id, "")["rows"]


def test_it_ends_by_itself_and_a_replayed_form_does_not_open_it_again() -> None:
    form = {
        "number_kind": "id_no",
        "value": "429701196001010018",
        "name": "王小东",
        "reason": "transfer",
        "text": TEXT,
    }
    start = datetime.now(UTC)
    first = glass.ask(DOCTOR, **form, key="form-1", source_ip="", at=start)  # type: ignore[arg-type]
    end = start + timedelta(minutes=glass.minutes(start))
    assert glass.records(DOCTOR, first, "", at=end - timedelta(seconds=1))["rows"]
    refused("E685", glass.records, DOCTOR, first, "", at=end)
    assert glass.open_now(DOCTOR, at=end) == []
    # while it is open the same resident is the same access, not prolonged; the old form after the end opens nothing
    again = glass.ask(DOCTOR, **form, key="form-2", source_ip="", at=start + timedelta(hours=1))  # type: ignore[arg-type]
    replay = glass.ask(DOCTOR, **form, key="form-1", source_ip="", at=end + timedelta(hours=1))  # type: ignore[arg-type]
    assert again == replay == first
    refused("E685", glass.records, DOCTOR, replay, "", at=end + timedelta(hours=1))
    # another doctor with the same form has a grant of his own
    assert glass.ask(OTHER, **form, key="form-1", source_ip="", at=start) != first  # type: ignore[arg-type]


def test_before_the_policys_first_date_nothing_opens() -> None:
    refused("E685", ask, at="2025-06-01T00:00:00+00:00")


def test_given_back_is_over() -> None:
    grant_id = ask()
    glass.close(DOCTOR, grant_id, "")
    refused("E685", glass.records, DOCTOR, grant_id, "")
    refused("E685", glass.close, DOCTOR, grant_id, "")


def test_another_judges_once_and_what_was_not_justified_ends_at_once() -> None:
    grant_id = ask()
    refused("E692", glass_review.review, DOCTOR, grant_id, "justify", "正当", "")
    refused(
        "E678", glass_review.review, Person("dr_a", "security_admin"), grant_id, "justify", "自己判自己", ""
    )
    refused("E678", glass_review.review, JUDGE, "0" * 32, "justify", "x", "")
    refused("E678", glass_review.review, JUDGE, grant_id, "reopen", "x", "")
    refused("E907", glass_review.review, JUDGE, grant_id, "condemn", "  ", "")
    (waits,) = glass_review.to_review(JUDGE)[0]
    assert waits.grant_id == grant_id and waits.item is not None
    # the institution takes note within a working day, the review has three
    assert waits.review_due_at is not None and waits.item.due_at is not None
    assert waits.review_due_at > waits.item.due_at
    glass_review.review(JUDGE, grant_id, "condemn", "与诊疗无关", "")
    refused("E678", glass_review.review, JUDGE, grant_id, "justify", "改判", "")
    refused("E685", glass.records, DOCTOR, grant_id, "")
    waiting, judged = glass_review.to_review(JUDGE)
    assert not waiting and [(g.verdict_zh, g.reviewed_by) for g in judged] == [("不正当", "sec_a")]
    assert notice(grant_id).state == "not_justified"
    refused("E692", glass_review.to_review, DOCTOR)


def test_a_review_that_broke_off_after_the_verdict_can_be_finished() -> None:
    grant_id = ask()
    glass_review.review(JUDGE, grant_id, "justify", "抢救属实", "")
    with ops.engine().begin() as connection:  # as if the process had ended between its two transactions
        connection.execute(update(glass_grant).values(reviewed_by=None, reviewed_at=None))
    glass_review.review(JUDGE, grant_id, "justify", "抢救属实", "")
    with ops.reader().connect() as connection:
        assert connection.execute(select(glass_grant.c.reviewed_by)).scalar() == "sec_a"


def test_from_the_form_to_the_judgement_over_http() -> None:
    doctor, judge = client("doctor"), client("security_admin")
    page = doctor.get("/glass")
    form = dict(_CSRF.findall(page.text)) | {
        "number_kind": "id_no", "value": "429701196001010018", "name": "王小东", "reason": "consultation", "text": TEXT,
    }  # fmt: skip
    wrong = doctor.post("/glass", data=form | {"name": "李雷"})
    assert wrong.status_code == 404 and "E677" in wrong.text and "429701196001010018" not in wrong.text
    assert doctor.post("/glass", data=form | {"csrf": "x"}).status_code == 419
    opened = doctor.post("/glass", data=form)
    where = opened.headers["location"]
    assert opened.status_code == 303 and "胸痛一小时" in doctor.get(where).text
    assert "紧急调阅进行中" in doctor.get("/").text and "紧急调阅进行中" not in judge.get("/").text
    called = judge.get("/api/portal/glass/calls").json()
    assert called["waiting"] == 1
    review = judge.get("/glass").text
    assert TEXT in review and "王小东" not in review
    assert "E1" not in re.sub(r'type="hidden"[^>]*', "", review.split("<main>")[1])
    assert judge.get(where).status_code == 403 and "胸痛" not in judge.get(where).text
    for user in ("officer", "steward", "researcher", "system_admin", "audit_admin", "executive"):
        assert client(user).get(where).status_code == 403
    verdict = dict(_CSRF.findall(review)) | {"verdict": "condemn", "reason": "没有会诊申请"}
    assert doctor.post(f"{where}/review", data=dict(_CSRF.findall(page.text)) | verdict).status_code in (
        403,
        419,
    )
    assert judge.post(f"{where}/review", data=verdict).status_code == 303
    gone = doctor.get(where)
    assert gone.status_code == 403 and "E685" in gone.text and "胸痛" not in gone.text
    assert "紧急调阅进行中" not in gone.text and "不正当" in gone.text
