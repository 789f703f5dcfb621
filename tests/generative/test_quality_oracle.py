"""The engine against a plain reading of the rules in Python, over ugly rows with NULLs in all places."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.contracts import table_contract
from quality.engine import evaluate
from quality.rule import rulebook

AS_OF = date(2026, 11, 20)
Row = dict[str, Any]
Flag = bool | None


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


births = st.dates(date(1930, 1, 1), date(2000, 12, 31)) | st.sampled_from(
    [date(1960, 2, 29), date(1961, 3, 1), date(1961, 3, 2), date(1955, 6, 30)]
)
# Values at the limits of the rules and just beside them: that is where a reading differs.
pressures = st.sampled_from([12.8, 79.0, 89.9, 90.0, 125.0, 139.9, 140.0, 149.9, 150.0, 230.0])
gaps = st.sampled_from([0, 0, 1, 13, 14, 15, 99, 100, 101])
classes = st.sampled_from(["1", "1", "2", "2", "3", "4", "9"])
digits = st.text("0123456789", min_size=17, max_size=17)
dated = st.builds(
    lambda d, rest: f"429701{d:%Y%m%d}{rest}", births, st.text("0123456789", min_size=3, max_size=3)
)


@st.composite
def visits(draw: st.DrawFn) -> list[Row]:
    """Follow-ups of three archives; each archive's last one lies a limit or so before the data date."""
    made: list[Row] = []
    for archive in ("A1", "A2", "A3"):
        day = AS_OF - timedelta(days=draw(st.sampled_from([0, 13, 17, 18, 19, 120])))
        for gap in draw(st.lists(gaps, max_size=6)):
            following = draw(maybe(st.sampled_from([-3, 0, 1, 14, 15, 95, 96])))
            made.append(
                {
                    "archive_id": archive,
                    "visited_on": day,
                    "next_visit_on": None if following is None else day + timedelta(days=following),
                    "visit_class_code": draw(classes | st.none()),
                    "sbp_mmhg": draw(pressures | st.none()),
                    "dbp_mmhg": draw(pressures | st.none()),
                    "is_referred": draw(maybe(st.booleans())),
                }
            )
            day -= timedelta(days=gap)
    return [{**r, "visit_id": f"V{i:02}"} for i, r in enumerate(draw(st.permutations(made)))]


def run(tables: dict[str, list[Row]], *rule_ids: str) -> dict[tuple[str, str], Flag]:
    """Flags of the engine: (rule, record key) -> True violated, False holds, None not evaluated."""
    book = rulebook().only(*rule_ids)
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE SCHEMA silver")
        connection.execute("CREATE SCHEMA flags")
        for table, rows in tables.items():
            schema = table_contract(table).silver_schema()
            full = [{"org_code": "C201", **r} for r in rows]
            connection.register("given", pa.Table.from_pylist(full, schema=schema))
            connection.execute(f"CREATE TABLE silver.{table} AS SELECT * FROM given")
        evaluate(connection, book, AS_OF)
        found: dict[tuple[str, str], Flag] = {}
        for rule_id in rule_ids:
            for target in book.rule(rule_id).targets:
                if target.table in tables:
                    sql = f'SELECT record_key, "{rule_id}" FROM flags.{target.table}'
                    for key, flag in connection.execute(sql).fetchall():
                        found[rule_id, key] = None if flag is None else bool(flag)
    return found


def age(birth: date, on: date) -> int:
    return on.year - birth.year - ((on.month, on.day) < (birth.month, birth.day))


def any_true(*values: Flag) -> Flag:
    return True if True in values else None if None in values else False


def htn_004(row: Row, birth: date | None) -> Flag:
    sbp, dbp, cls = row["sbp_mmhg"], row["dbp_mmhg"], row["visit_class_code"]
    if cls not in ("1", "2") or None in (sbp, dbp, birth) or sbp <= dbp:  # a swapped pressure is EXM-003's
        return None
    assert birth is not None
    on_goal = sbp < (140 if age(birth, row["visited_on"]) < 65 else 150) and dbp < 90
    return (cls == "2") == on_goal


def htn_009(row: Row, _birth: date | None) -> Flag:
    following, cls = row["next_visit_on"], row["visit_class_code"]
    if following is None or cls is None:
        return None
    gap = (following - row["visited_on"]).days
    return gap <= 0 or gap > (95 if cls == "1" else 14)


def exm_003(row: Row, _birth: date | None) -> Flag:
    sbp, dbp = row["sbp_mmhg"], row["dbp_mmhg"]
    return None if None in (sbp, dbp) else not 15 <= sbp - dbp <= 120


ROW_ORACLES: dict[str, Callable[[Row, date | None], Flag]] = {
    "HTN-004": htn_004,
    "HTN-009": htn_009,
    "EXM-003": exm_003,
}


@settings(max_examples=60, deadline=None)
@given(visits(), st.lists(maybe(births), min_size=3, max_size=3))
def test_rules_over_one_follow_up(rows: list[Row], born: list[date | None]) -> None:
    archives = [{"archive_id": f"A{i + 1}", "birth_date": b} for i, b in enumerate(born)]
    birth = {a["archive_id"]: a["birth_date"] for a in archives}
    found = run({"htn_visit": rows, "ph_archive": archives}, *ROW_ORACLES)
    for rule_id, oracle in ROW_ORACLES.items():
        for row in rows:
            assert found[rule_id, row["visit_id"]] == oracle(row, birth[row["archive_id"]]), (rule_id, row)


def sequence_oracle(rows: list[Row]) -> dict[tuple[str, str], Flag]:
    """HTN-003, HTN-006 and HTN-007 by walking through each archive's days."""
    found: dict[tuple[str, str], Flag] = {}
    for row in rows:
        mine = [r for r in rows if r["archive_id"] == row["archive_id"]]
        before = sorted({r["visited_on"] for r in mine if r["visited_on"] < row["visited_on"]})
        after = sorted({r["visited_on"] for r in mine if r["visited_on"] > row["visited_on"]})
        previous = None
        if before:
            # several records of a day: the first recorded stands for it (all NULL here: then the smallest key)
            previous = min(
                (r for r in mine if r["visited_on"] == before[-1]), key=lambda r: str(r["visit_id"])
            )
        cls = row["visit_class_code"]
        key = row["visit_id"]
        found["HTN-003", key] = None
        if previous is not None:
            gap = (row["visited_on"] - previous["visited_on"]).days
            close = (
                False
                if gap >= 14
                else None
                if previous["visit_class_code"] is None
                else previous["visit_class_code"] == "1"
            )
            found["HTN-003", key] = any_true(gap > 100, close)
        found["HTN-006", key] = None
        if cls in ("2", "3") and (previous is None or previous["visit_class_code"] == "1"):
            checked = bool(after) and after[0] <= row["visited_on"] + timedelta(days=14)
            due = row["visited_on"] + timedelta(days=14 + 4) < AS_OF
            found["HTN-006", key] = False if checked else True if due else None
        again = cls in ("2", "3") and previous is not None and previous["visit_class_code"] in ("2", "3")
        asked = cls == "4" or again
        found["HTN-007", key] = None if not asked or row["is_referred"] is None else not row["is_referred"]
    return found


@settings(max_examples=60, deadline=None)
@given(visits())
def test_rules_over_a_sequence_of_follow_ups(rows: list[Row]) -> None:
    found = run({"htn_visit": rows}, "HTN-003", "HTN-006", "HTN-007")
    assert found == sequence_oracle(rows)


def check_char(id_no: str) -> str:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[sum(int(c) * w for c, w in zip(id_no, weights, strict=False)) % 11]


def archive_oracle(row: Row) -> dict[str, Flag]:
    id_no = None if row["id_no"] is None else row["id_no"].strip(" ").upper()
    if row["id_type_code"] != "01" or id_no is None:
        return dict.fromkeys(("ARC-001", "ARC-002", "ARC-004", "ARC-005"))
    formed = len(id_no) == 18 and all(c in "0123456789" for c in id_no[:17]) and id_no[17] in "0123456789X"
    good = formed and check_char(id_no) == id_no[17]
    flags: dict[str, Flag] = {"ARC-001": not formed, "ARC-002": not good if formed else None}
    flags |= {"ARC-004": None, "ARC-005": None}
    if good:
        try:
            born = date(int(id_no[6:10]), int(id_no[10:12]), int(id_no[12:14]))
        except ValueError:
            born = None
        if born is not None and row["birth_date"] is not None:
            flags["ARC-004"] = row["birth_date"] != born
        if row["sex_code"] in ("1", "2"):
            flags["ARC-005"] = row["sex_code"] != ("1" if int(id_no[16]) % 2 else "2")
    return flags


id_numbers = st.one_of(
    digits.map(lambda b: b + check_char(b)),
    dated.map(lambda b: b + check_char(b)),
    dated.map(lambda b: f" {b}{check_char(b).lower()} "),
    st.tuples(digits, st.sampled_from("0123456789Xx")).map("".join),
    st.text("0123456789X+.E张 ", max_size=19),
)
archives = st.lists(
    st.fixed_dictionaries(
        {
            "id_type_code": maybe(st.sampled_from(["01", "01", "03"])),
            "id_no": maybe(id_numbers),
            "birth_date": maybe(births),
            "sex_code": maybe(st.sampled_from(["0", "1", "2", "9"])),
        }
    ),
    max_size=8,
)


@settings(max_examples=80, deadline=None)
@given(archives)
def test_rules_over_identity_numbers(rows: list[Row]) -> None:
    rows = [{**r, "archive_id": f"A{i}"} for i, r in enumerate(rows)]
    names = ("ARC-001", "ARC-002", "ARC-004", "ARC-005")
    found = run({"ph_archive": rows}, *names)
    for row in rows:
        expected = archive_oracle(row)
        assert {n: found[n, row["archive_id"]] for n in names} == expected, row
