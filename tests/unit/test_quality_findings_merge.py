"""What becomes of a finding that is no longer found: closed for good, or corrected until its source carries the value."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import duckdb
import pytest

from quality import findings
from quality.rule import RuleBook, rulebook

DAY = date(2026, 11, 20)
_KEY = ("ph_archive", "C201", "A1")


@pytest.fixture
def book() -> RuleBook:
    """One rule on archives that asks for ``id_no``."""
    rule = next(r for r in rulebook().rules if any(t.table == "ph_archive" for t in r.targets))
    target = replace(rule.target("ph_archive"), fields=("id_no", "name"))
    return RuleBook((replace(rule, targets=(target,), introduced_on=date(2026, 1, 1)),), {})


def _merged(
    book: RuleBook, is_found: bool, before: str | None, waiting: str | None, day: date
) -> tuple[str, list[tuple[str, date | None, int]]]:
    """Findings of a day as SQL text, and their (state, closed_on, reopened)."""
    connection = duckdb.connect()
    rule_id = book.rules[0].id
    connection.execute(
        f"""CREATE TEMP TABLE finding_now AS SELECT '{rule_id}' AS rule_id, 'ph_archive' AS table_name, 'A1' AS record_key,
        'C201' AS org_code, 'D1' AS doctor_id, 'E1' AS empi_id, 'error' AS severity, 'id_no,name' AS field_list, '{{}}' AS observed,
        '{{}}' AS expected, 'm' AS message_zh, 'f.csv' AS source_file, NULL AS source_sheet, 2 AS source_line,
        false AS is_observing, 'show' AS effect WHERE {is_found}"""
    )
    findings.merge(connection, book, day, before, None, waiting)
    rows = connection.execute("SELECT * FROM finding").fetchall()
    shown = connection.execute("SELECT state, closed_on, reopened FROM finding").fetchall()
    columns = list(findings.COLUMNS)

    def literal(value: object, kind: str) -> str:
        return "NULL" if value is None else f"'{value}'::{kind}"

    texts = [
        "SELECT "
        + ", ".join(f"{literal(v, findings.COLUMNS[c])} AS {c}" for c, v in zip(columns, row, strict=True))
        for row in rows
    ]
    return f"({' UNION ALL '.join(texts)})", shown


def _waits(field: str) -> str:
    table, org_code, key = _KEY
    return f"(SELECT '{table}' AS table_name, '{org_code}' AS org_code, '{key}' AS record_key, '{field}' AS field)"


def test_what_is_no_longer_found_is_closed_and_reopens(book: RuleBook) -> None:
    before, shown = _merged(book, True, None, None, DAY)
    assert shown == [("open", None, 0)]
    closed, shown = _merged(book, False, before, None, date(2026, 11, 21))
    assert shown == [("closed", date(2026, 11, 21), 0)]
    _, shown = _merged(book, False, closed, None, date(2026, 11, 22))
    assert shown == [("closed", date(2026, 11, 21), 0)]
    _, shown = _merged(book, True, closed, None, date(2026, 11, 22))
    assert shown == [("open", None, 1)]


def test_a_hand_in_corrects_until_the_source_carries_the_value(book: RuleBook) -> None:
    before, _ = _merged(book, True, None, None, DAY)
    waiting, shown = _merged(book, False, before, _waits("id_no"), date(2026, 11, 21))
    assert shown == [("corrected", None, 0)]
    _, shown = _merged(book, False, waiting, _waits("id_no"), date(2026, 11, 22))
    assert shown == [("corrected", None, 0)]
    _, shown = _merged(book, False, waiting, None, date(2026, 11, 22))  # the source's own extract carries it
    assert shown == [("closed", date(2026, 11, 22), 0)]
    _, shown = _merged(
        book, True, waiting, None, date(2026, 11, 22)
    )  # the source won with a wrong value: never closed
    assert shown == [("open", None, 0)]


def test_a_correction_of_another_field_closes_nothing_for_later(book: RuleBook) -> None:
    before, _ = _merged(book, True, None, None, DAY)
    _, shown = _merged(book, False, before, _waits("phone"), date(2026, 11, 21))
    assert shown == [("closed", date(2026, 11, 21), 0)]


def test_two_corrected_fields_of_a_record_keep_one_finding(book: RuleBook) -> None:
    before, _ = _merged(book, True, None, None, DAY)
    both = f"(SELECT * FROM {_waits('id_no')} UNION ALL SELECT * FROM {_waits('name')})"
    _, shown = _merged(book, False, before, both, date(2026, 11, 21))
    assert shown == [("corrected", None, 0)]
