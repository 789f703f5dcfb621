"""Candidate pairs against the plainest oracle there is: compare every pair by every rule."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from empi import blocking
from empi.model import BLOCKING
from lake import duck

COLUMNS = "idno name_py dob card insurance phone nm town village sn_py name_shape sex house kin_nm kin_phone".split()
#: Few values, so that much agrees; null on purpose, and texts that look alike once put together.
VALUE = st.sampled_from([None, "a", "b", "ab", "19800101", "19800102"])
RECORDS = st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, VALUE)), max_size=12)


def _connection(records: list[dict[str, str | None]]) -> duck.duckdb.DuckDBPyConnection:
    con = duck.connect()
    con.execute(f"CREATE TABLE linkable (rec_no INTEGER, {', '.join(c + ' VARCHAR' for c in COLUMNS)})")
    for n, record in enumerate(records):
        con.execute(
            f"INSERT INTO linkable VALUES ({', '.join('?' * (len(COLUMNS) + 1))})",
            [n, *(record[c] for c in COLUMNS)],
        )
    return con


def _value(record: dict[str, str | None], part: str) -> str | None:
    if not part.startswith("left("):
        return record[part]
    column, length = part[5:-1].split(",")
    text = record[column.strip()]
    return None if text is None else text[: int(length)]


def _oracle(records: list[dict[str, str | None]]) -> dict[tuple[int, int], str]:
    """Pair -> number of the first rule on which both agree in values that are there."""
    keys = [[tuple(_value(r, part) for part in rule) for rule in BLOCKING] for r in records]
    found = {}
    for left, right in combinations(range(len(records)), 2):
        for n in range(len(BLOCKING)):
            if keys[left][n] == keys[right][n] and None not in keys[left][n]:
                found[left, right] = str(n)
                break
    return found


@given(records=RECORDS, chunk=st.integers(1, 12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_candidates_are_those_that_agree_on_a_rule_whatever_the_chunks(
    lake_home: Path, records: list[dict[str, str | None]], chunk: int
) -> None:
    con = _connection(records)
    blocking.find_crowds(con)
    found: list[tuple[int, int, str]] = []
    blocking.propose(con)
    for first in range(0, len(records), chunk):
        blocking.take(con, first, first + chunk)
        found += con.execute("SELECT join_key_l, join_key_r, match_key FROM candidate").fetchall()
    con.close()
    assert sorted(found) == sorted((a, b, rule) for (a, b), rule in _oracle(records).items())


def test_a_key_of_a_crowd_proposes_nothing_and_is_told(
    lake_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "BLOCK_MAX_RECORDS", 3)
    nobody = dict.fromkeys(COLUMNS)
    records = [nobody | {"idno": "1"}] * 4 + [nobody | {"idno": "2"}] * 3
    con = _connection(records)
    blocking.find_crowds(con)
    assert blocking.propose(con) == 3
    assert con.execute("SELECT * FROM crowd").fetchall() == [("idno", 1, 4, 4)]
