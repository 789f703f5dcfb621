"""HL7 v2 files: framing, character sets, escapes, repetitions, and what must not be lost when a message is bad."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ingestion.readers import hl7v2
from ingestion.readers.hl7v2.chunks import Chunk
from ingestion.readers.hl7v2.datatypes import quantity
from ingestion.readers.hl7v2.segments import segments
from ingestion.readers.hl7v2.text import Delimiters
from lake.contracts import contract
from tests.ingestion_world import Collected, adt, landed, oru


def read(tmp_path: Path, content: bytes | str, feed: str) -> Collected:
    sink = Collected()
    data = content.encode() if isinstance(content, str) else content
    hl7v2.read(landed(tmp_path / "x.hl7", data), contract(feed), sink)
    return sink


def test_an_adt_message_becomes_a_patient(tmp_path: Path) -> None:
    row = read(tmp_path, adt("M1", "P1"), "his").tables["patient"][0]
    assert {k: v for k, v in row.items() if v} == {
        "patient_local_id": "P1",
        "name": "王小东",
        "sex_code": "M",
        "birth_date": "19580312",
        "id_type_code": "NI",
        "id_no": "42970119580312001X",
        "health_card_no": "HC77",
        "phone": "13912345678",
        "contact_name": "李四",
        "contact_phone": "13800001111",
        "addr_detail": "湖东区解放路3号",
        "ethnicity_code": "01",
        "marital_code": "20",
        "mother_patient_id": "M900",
        "source_updated_at": "20261118081500",
        "source_line": 3,
        "org_code": "H001",
    }


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_segment_ends_batch_envelopes_and_framing(tmp_path: Path, end: str) -> None:
    body = "FHS|^~\\&|A\rBHS|^~\\&|A\r" + adt("M1", "P1") + "\x0b" + adt("M2", "P2") + "\x1c\rBTS|2\rFTS|1\r"
    sink = read(tmp_path, body.replace("\r", end), "his")
    assert [r["patient_local_id"] for r in sink.tables["patient"]] == ["P1", "P2"]
    assert not sink.rejects
    assert not sink.notices


def test_a_trailer_that_counts_more_messages_is_told(tmp_path: Path) -> None:
    sink = read(tmp_path, "BHS|^~\\&|A\r" + adt("M1", "P1") + "BTS|3\r", "his")
    assert sink.notices == [("E223", {"declared": 3, "found": 1, "sheet": None})]
    assert sink.announced == [(None, 3, "BTS")], "one record came of one message, two are missing"


def test_a_batch_without_its_trailer_is_told(tmp_path: Path) -> None:
    sink = read(tmp_path, "BHS|^~\\&|A\r" + adt("M1", "P1"), "his")
    assert sink.notices == [("E223", {"declared": "?", "found": 1, "sheet": None})]
    assert sink.announced == []


def test_gb18030_whose_second_byte_is_a_separator(tmp_path: Path) -> None:
    name = next(chr(c) for c in range(0x4E00, 0x9FA5) if chr(c).encode("gb18030")[1:] == b"|")
    message = adt("M1", "P1", f"王{name}东").replace("UNICODE UTF-8", "GB 18030-2000")
    assert read(tmp_path, message.encode("gb18030"), "his").tables["patient"][0]["name"] == f"王{name}东"


def test_a_wrong_declaration_is_seen_through(tmp_path: Path) -> None:
    claims_gb = adt("M1", "P1").replace("UNICODE UTF-8", "GB18030").encode()
    assert read(tmp_path, claims_gb, "his").tables["patient"][0]["name"] == "王小东"
    claims_utf8 = adt("M1", "P1").encode("gb18030")
    assert read(tmp_path, claims_utf8, "his").tables["patient"][0]["name"] == "王小东"


def test_two_characters_that_look_like_utf8_follow_the_declaration() -> None:
    message = "MSH|^~\\&|A|B|||20260101||ADT^A04|1|P|2.4||||||GB18030\rPID|1||1||联通".encode("gb18030")
    assert segments(Chunk(message, 1)).text[1].as_py().endswith("联通")


def test_an_undecodable_message_is_rejected_and_the_next_is_read(tmp_path: Path) -> None:
    bad = adt("M1", "P1").encode().replace("王小东".encode(), b"\xff\xff\xff")
    sink = read(tmp_path, bad + adt("M2", "P2").encode(), "his")
    assert [(r.code, r.place) for r in sink.rejects] == [("E206", "MSH-18")]
    assert [r["patient_local_id"] for r in sink.tables["patient"]] == ["P2"]


def test_content_before_any_message_is_one_record_with_its_line(tmp_path: Path) -> None:
    sink = read(tmp_path, "PID|1||lost\rPV1|1\r" + adt("M1", "P1"), "his")
    assert [(r.code, r.line, r.raw) for r in sink.rejects] == [("E213", 1, "PID|1||lost\nPV1|1")]
    assert len(sink.tables["patient"]) == 1


def test_a_foreign_message_type_and_a_missing_segment_are_rejected(tmp_path: Path) -> None:
    orphan = "MSH|^~\\&|A|H101|||20260101||ADT^A04|1|P|2.4\rEVN||20260101\r"
    sink = read(tmp_path, oru("M1", "R1", "") + orphan, "his")
    assert [(r.code, r.place, r.org_code) for r in sink.rejects] == [
        ("E215", "MSH-9", "H101"),
        ("E214", "PID", "H101"),
    ]


def test_results_keep_text_number_comparator_and_range(tmp_path: Path) -> None:
    obx = (
        "OBX|1|NM|GLU^葡萄糖^L^2345-7^Glucose^LN||5.60|mmol/L^^UCUM|3.9-6.1|N|||F|||20261118085500\r"
        "OBX|2|ST|TNI^肌钙蛋白^L||<0.01|ng/mL|<0.04|N|||F\r"
        "OBX|3|ST|HIV^抗体^L||阴性(-)||阴性||||F\r"
        "OBX|4|SN|X^x^L||>^100|U/L|≥1.04|H|||F\r"
        "OBX|5|CE|B^b^L||A01^大肠埃希菌^L~A02^变形杆菌^L|||A|||F\r"
        "OBX|6|NM|GLU2||5.6↑|mmol/L|3.9～6.1|↑|||F\r"
    )
    rows = read(tmp_path, oru("M1", "R1", obx), "lis").tables["lab_result"]
    names = ("seq", "loinc_code", "value_text", "value_num", "comparator", "ref_low", "ref_high")
    assert [tuple(r[n] or None for n in names) for r in rows] == [
        ("1", "2345-7", "5.60", "5.60", None, "3.9", "6.1"),
        ("2", None, "<0.01", "0.01", "<", None, "0.04"),
        ("3", None, "阴性(-)", None, None, None, None),
        ("4", None, ">100", "100", ">", "1.04", None),
        ("5", None, "大肠埃希菌; 变形杆菌", None, None, None, None),
        ("6", None, "5.6↑", "5.6", None, "3.9", "6.1"),
    ]
    assert rows[0]["source_line"] == 5
    assert rows[0]["unit"] == "mmol/L"


def test_results_of_one_report_never_share_a_number(tmp_path: Path) -> None:
    obr = "OBR|2|O9^HIS|R1^LIS|BIO^生化^L|||20261118080000|||||||||||||||20261118090000|||F\r"
    obx = "OBX|1|NM|A||1\rOBX|1|NM|B||2\rOBX||NM|C||3\r" + obr + "OBX|1|NM|D||4\r"
    rows = read(tmp_path, oru("M1", "R1", obx), "lis").tables["lab_result"]
    assert sorted(r["seq"] for r in rows) == ["1", "2", "3", "4"]
    assert rows[0]["seq"] == "1"


def test_a_result_before_any_order_is_rejected_and_the_rest_is_read(tmp_path: Path) -> None:
    message = oru("M1", "R1", "OBX|1|NM|A||1\r").replace("OBR|", "OBX|9|NM|Z||0\rOBR|")
    sink = read(tmp_path, message, "lis")
    assert [(r.code, r.line) for r in sink.rejects] == [("E214", 4)]
    assert len(sink.tables["lab_result"]) == 1


def test_a_segment_broken_over_lines_is_put_together(tmp_path: Path) -> None:
    message = oru("M1", "R1", "OBX|1|TX|A||first\nECG: second line\nBP 120/80||||||F\r").replace("\r", "\n")
    rows = read(tmp_path, message, "lis").tables["lab_result"]
    assert rows[0]["value_text"] == "first\nECG: second line\nBP 120/80"
    assert rows[0]["status_code"] == "F"


def test_any_message_is_kept_whole_under_feed_hl7v2(tmp_path: Path) -> None:
    row = read(tmp_path, oru("M1", "R1", "OBX|1|NM|A||1\r"), "hl7v2").tables["hl7v2_message"][0]
    assert (row["message_type"], row["trigger_event"], row["segment_count"]) == ("ORU", "R01", "5")
    assert json.loads(row["segments"])[1][:4] == ["PID", "1", "", "P1^^^C201^MR"]


def test_escapes() -> None:
    marks = Delimiters("MSH|^~\\&|")
    assert marks.unescape(r"a\F\b\S\c\T\d\R\e\E\f\X0D\g\.br\h\H\i\N\j\Zx\k") == "a|b^c&d~e\\f\rg\nhij\\Zx\\k"
    assert Delimiters("MSH#*!?%#").unescape("a?F?b?S?c?E?d") == "a#b*c?d"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5.6", ("5.6", None)),
        ("≤ 5", ("5", "<=")),
        ("-1.2e3", ("-1.2e3", None)),
        ("溶血", (None, None)),
        ("", (None, None)),
    ],
)
def test_quantity(text: str, expected: tuple[str | None, str | None]) -> None:
    assert quantity(text) == expected


_PEAK = """
import resource, sys
from pathlib import Path
from ingestion.readers import hl7v2
from lake.contracts import contract
from ingestion.readers.base import LandedFile
from tests.ingestion_world import Collected

class Nothing(Collected):
    def rows(self, file, table, data): self.tables.setdefault(table, []).append(data.num_rows)

path = Path(sys.argv[1])
one = Path(sys.argv[2]).read_bytes()
with path.open("wb") as out:
    for _ in range(int(sys.argv[3])): out.write(one)
sink = Nothing()
hl7v2.read(LandedFile(0, path, "x", "x", "", 0, "H101", "x"), contract("lis"), sink)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, sum(sink.tables["lab_result"]))
"""


def test_memory_does_not_follow_the_file(tmp_path: Path) -> None:
    obx = "".join(f"OBX|{n}|NM|GLU^葡萄糖^L||5.6|mmol/L|3.9-6.1|N|||F\r" for n in range(1, 6))
    unit = tmp_path / "unit.hl7"
    unit.write_bytes(oru("M1", "R1", obx).encode() * 14_000)  # about 9 MB

    def peak(times: int) -> tuple[int, int]:
        command = [sys.executable, "-c", _PEAK, str(tmp_path / "x.hl7"), str(unit), str(times)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return int(out[0]), int(out[1])

    small, some = peak(3)
    large, many = peak(8)
    assert (some, many) == (3 * 70_000, 8 * 70_000)
    assert large < small + 80, "megabytes; 45 more of file, and ten times that as rows"
