"""Acknowledgements: which one a message gets (HL7 v2.5 chapter 2.9), and that the package ``hl7`` reads the same."""

from __future__ import annotations

from datetime import UTC, datetime

import hl7
import pytest

from ingestion.receive import hl7_ack
from ingestion.receive.hl7_ack import Header, Trouble
from ingestion.receive.mllp import limits

AT = datetime(2026, 11, 18, 1, 30, tzinfo=UTC)


def header(
    *, kind: str = "ADT^A04", control: str = "M1", processing: str = "P", version: str = "2.5", rest: str = ""
) -> Header:
    text = f"MSH|^~\\&|HIS|H001|MEDLAKE|GROUP|20261118||{kind}|{control}|{processing}|{version}{rest}\rPID|1"
    found = hl7_ack.header_of(text.encode())
    assert found is not None
    return found


def trouble(**given: str) -> Trouble | None:
    return hl7_ack.trouble_of(header(**given), limits().accepted)


def answer(of: Header | None, found: Trouble | None = None) -> bytes:
    code = hl7_ack.code_of(of, found)
    assert code is not None
    return hl7_ack.build(of, code, found, "7-1", AT)


@pytest.mark.parametrize(
    ("given", "condition", "place", "code"),
    [
        ({}, None, "", "AA"),
        ({"processing": "", "version": ""}, None, "", "AA"),
        ({"version": "2.3.1"}, None, "", "AA"),
        ({"kind": ""}, 101, "MSH^1^9", "AE"),
        ({"control": ""}, 101, "MSH^1^10", "AE"),
        ({"version": "3.0"}, 203, "MSH^1^12", "AR"),
        ({"processing": "T"}, 202, "MSH^1^11", "AR"),
        ({"kind": "QRY^A19"}, 200, "MSH^1^9", "AR"),
        ({"kind": "ACK"}, 200, "MSH^1^9", "AR"),
    ],
)
def test_the_header_decides(given: dict[str, str], condition: int | None, place: str, code: str) -> None:
    found = trouble(**given)
    assert (found.condition if found else None) == condition
    assert (found.place if found else "") == place
    assert hl7_ack.code_of(header(**given), found) == code


@pytest.mark.parametrize(
    ("accept", "application", "good", "bad"),
    [
        ("", "", "AA", "AE"),
        ("AL", "", "CA", "CE"),
        ("AL", "AL", "CA", "CE"),
        ("NE", "AL", "AA", "AE"),
        ("NE", "NE", None, None),
        ("ER", "NE", None, "CE"),
        ("SU", "NE", "CA", None),
        ("NE", "ER", None, "AE"),
        ("ER", "SU", "AA", "CE"),
    ],
)
def test_enhanced_mode_gets_what_it_asks_for(
    accept: str, application: str, good: str | None, bad: str | None
) -> None:
    of = header(rest=f"|||{accept}|{application}")
    assert hl7_ack.code_of(of, None) == good
    assert hl7_ack.code_of(of, Trouble(207)) == bad


def test_what_is_no_header() -> None:
    for content in (b"", b"PID|1", b"MSH", b"MSHA^~\\&|", b"MSH\r^~\\&|", b"\xff\xfeM\x00S\x00H\x00"):
        assert hl7_ack.header_of(content) is None
    text = hl7.parse(answer(None, Trouble(100, "MSH^1")).decode())
    assert str(text.segment("MSA")[1]) == "AE"


def test_the_package_reads_the_same() -> None:
    message = "MSH|^~\\&|HIS|H001|MEDLAKE|GROUP|20261118||ADT^A04^ADT_A01|M1|P|2.5\rPID|1\r"
    ours = hl7.parse(answer(hl7_ack.header_of(message.encode())).decode())
    theirs = hl7.parse(message).create_ack("AA", message_id="7-1")
    for field in (3, 4, 5, 6, 10, 11, 12):
        assert str(ours.segment("MSH")[field]) == str(theirs.segment("MSH")[field]), field
    assert str(ours.segment("MSH")[7]) == "20261118093000+0800"
    assert str(ours.segment("MSH")[9]) == "ACK^A04^ACK"
    assert [str(f) for f in ours.segment("MSA")[1:]] == [str(f) for f in theirs.segment("MSA")[1:]]


def test_an_error_names_segment_field_and_condition() -> None:
    found = trouble(processing="T")
    text = hl7.parse(answer(header(processing="T"), found).decode())
    assert [str(f) for f in text.segment("MSA")[1:]] == ["AR", "M1", "Unsupported processing id"]
    assert str(text.segment("ERR")[2]) == "MSH^1^11"
    assert str(text.segment("ERR")[3]) == "202^Unsupported processing id^HL70357"
    assert str(text.segment("ERR")[4]) == "E"


def test_an_error_of_an_old_version_is_in_the_old_place() -> None:
    old = header(processing="T", version="2.3.1")
    text = answer(old, trouble(processing="T", version="2.3.1")).decode()
    assert "\rERR|MSH^1^11^202&Unsupported processing id&HL70357\r" in text


def test_separators_charset_and_characters_are_the_senders_own() -> None:
    sender = next(chr(c) for c in range(0x4E00, 0x9FA5) if chr(c).encode("gb18030")[1:] == b"|")
    text = f"MSH#*!?%#HIS#{sender}院#L#G#20261118##ADT*A04#M%1#P#2.4######GB18030\rPID#1".encode("gb18030")
    found = hl7_ack.header_of(text)
    assert found is not None
    assert found.codec == "gb18030"
    made = answer(found).decode("gb18030").split("\r")
    assert made[0].startswith(f"MSH#*!?%#L#G#HIS#{sender}院#")
    assert made[0].endswith("#ACK*A04*ACK#7-1#P#2.4######GB18030")
    assert made[1] == "MSA#AA#M%1"
