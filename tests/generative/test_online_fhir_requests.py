"""Whatever JSON comes, reading it gives a question for the registry or a numbered refusal, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import MedlakeError
from portal.fhir import requests
from portal.fhir.outcome import of

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
_WORDS = st.sampled_from(
    "resourceType parameter name resource valueString valueInteger family given text use extension url valueCode identifier "
    "system value type coding code telecom address line city contact birthDate gender reference".split()
)
_CODES = st.sampled_from(
    "Patient Parameters resource official old phone mobile male 1958-03-12 NI 王小东 urn:oid:2.16.156.10011.1.3 "
    "urn:hmg:id:insurance 429701195803120017 Patient/E1 home \ud800".split()
)
_ANY = st.recursive(
    _SCALARS | _CODES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=5),
    max_leaves=25,
)
_PATIENT = st.fixed_dictionaries(
    {"resourceType": st.just("Patient")},
    optional={
        name: _ANY | st.lists(st.dictionaries(_WORDS, _ANY, max_size=4), max_size=2)
        for name in ("identifier", "name", "telecom", "address", "contact", "gender", "birthDate")
    },
)


@settings(deadline=None)  # the first question loads the room
@given(_ANY | _PATIENT)
def test_a_body_is_read_or_refused_with_a_number(node: Any) -> None:
    try:
        found = requests.parameters(json.dumps(node).encode())
        query = requests.query(found.one("resource", "resource"), "H101")
    except MedlakeError as error:
        status, outcome = of(error)
        assert error.code in {"E338", "E339", "E340"} and status in (400, 422)
        assert outcome["issue"][0]["severity"] == "error"
    else:
        told = {k: v for k, v in query.__dict__.items() if v is not None and k != "org_code"}
        assert told and all(isinstance(v, str) and v.encode() for k, v in told.items() if k != "birth_date")


@given(st.binary(max_size=40))
def test_bytes_that_are_no_json_are_refused(body: bytes) -> None:
    with pytest.raises(MedlakeError) as caught:
        requests.query(requests.parameters(body).one("resource", "resource"), "H101")
    assert caught.value.code == "E338"


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ([{"text": "王小东"}], "王小东"),
        ([{"family": "王", "given": ["小东"]}], "王小东"),
        ([{"family": "Smith", "given": ["Mary", "Ann"]}], "Smith Mary Ann"),
        ([{"use": "nickname", "text": "东子"}, {"use": "official", "text": "王小东"}], "王小东"),
        ([{"use": "old", "text": "王东"}], None),
        (
            [
                {
                    "text": "Wang Xiaodong",
                    "extension": [{"url": requests._EN_REPRESENTATION, "valueCode": "SYL"}],
                },
                {"text": "王小东"},
            ],
            "王小东",
        ),
    ],
)
def test_the_name_is_the_one_in_use_as_it_is_written(names: list[dict[str, Any]], wanted: str | None) -> None:
    patient = {"resourceType": "Patient", "name": names, "birthDate": "1958-03-12"}
    assert requests.query(patient, "H101").name == wanted


@pytest.mark.parametrize(
    ("one", "wanted"),
    [
        ({"system": "urn:oid:2.16.156.10011.1.3", "value": "420102580312001"}, ("420102580312001", None)),
        ({"system": "urn:hmg:id:document", "value": "E12345678"}, ("E12345678", None)),
        ({"type": {"coding": [{"code": "HC"}]}, "value": "EHC1"}, (None, "EHC1")),
        ({"value": "429701195803120017"}, ("429701195803120017", None)),
        ({"system": "urn:other", "value": "429701195803120017"}, (None, None)),
        ({"type": {"coding": [{"code": "MR"}]}, "value": "429701195803120017"}, (None, None)),
        ({"use": "old", "value": "429701195803120017"}, (None, None)),
    ],
)
def test_an_identifier_is_told_by_system_type_or_look(
    one: dict[str, Any], wanted: tuple[str | None, str | None]
) -> None:
    patient = {"resourceType": "Patient", "name": [{"text": "王"}], "identifier": [one]}
    query = requests.query(patient, "H101")
    assert (query.id_no, query.health_card_no) == wanted
