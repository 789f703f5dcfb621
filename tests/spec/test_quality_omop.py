"""OHDSI's check types on small OMOP tables with one fault of each kind, and on the sample that nobody here wrote."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lake.errors import MedlakeError
from lake.settings import PROJECT_ROOT
from quality.omop import check_omop
from quality.omop.checks import fields, thresholds

_TABLES = {
    "person": """SELECT * FROM (VALUES (1::INTEGER, 8507::INTEGER, 1980::INTEGER, 1::INTEGER, 1::INTEGER),
        (2, 8532, 1700, 13, 1), (3, NULL, 1990, 5, 5))
        AS t(person_id, gender_concept_id, year_of_birth, month_of_birth, day_of_birth)""",
    "death": "SELECT 1::INTEGER AS person_id, DATE '2020-01-31' AS death_date",
    "concept": """SELECT * FROM (VALUES (8507::INTEGER, 'Gender', 'S', NULL), (8532, 'Gender', 'S', NULL),
        (320128, 'Condition', 'S', NULL), (4163261, 'Condition', 'S', NULL), (99, 'Drug', NULL, 'D'))
        AS t(concept_id, domain_id, standard_concept, invalid_reason)""",
    "visit_occurrence": """SELECT 7::INTEGER AS visit_occurrence_id, 1::INTEGER AS person_id,
        DATE '2019-01-01' AS visit_start_date, DATE '2019-01-02' AS visit_end_date""",
    "condition_occurrence": """SELECT * FROM (VALUES
        (1::INTEGER, 1::INTEGER, 320128::INTEGER, DATE '2019-01-01', DATE '2019-01-02', 7::INTEGER, 'I10'),
        (1, 1, 320128, DATE '2019-02-01', NULL, 7, 'I10'),
        (2, 1, 99, DATE '2021-05-01', DATE '2021-04-01', NULL, 'X'),
        (3, 1, 0, DATE '1979-12-31', NULL, NULL, 'Y'),
        (4, 2, 4163261, DATE '2030-01-01', NULL, 8, 'C61'),
        (5, 9, 320128, DATE '2020-02-15', NULL, NULL, 'I10'))
        AS t(condition_occurrence_id, person_id, condition_concept_id, condition_start_date, condition_end_date,
             visit_occurrence_id, condition_source_value)""",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], tuple[int, int]]:
    """(check, table, field) -> (rows, violated) of the small tables."""
    folder = tmp_path_factory.mktemp("omop")
    for table, sql in _TABLES.items():
        duckdb.execute(f"COPY ({sql}) TO '{folder}/{table}.parquet' (FORMAT parquet)")
    results = check_omop(folder, as_of=date(2026, 11, 20))["results"]
    counts: dict[tuple[str, str, str], tuple[int, int]] = {}
    for r in results:  # of several concepts of a field, the sum
        key = (r["check"], r["table"], r["field"])
        rows, violated = counts.get(key, (0, 0))
        counts[key] = (rows + r["rows"], violated + r["violated"])
    return counts


_CONDITION = "condition_occurrence"
#: Real tables that nobody here wrote; they lie beside the checkout, where there are any.
_SAMPLE = PROJECT_ROOT.parent / "shared" / "samples" / "omop"


@pytest.mark.parametrize(
    ("check", "table", "field", "rows", "violated"),
    [
        ("cdmTable", "measurement", "", 1, 1),
        ("cdmTable", "person", "", 1, 0),
        ("cdmField", _CONDITION, "condition_type_concept_id", 1, 1),
        ("cdmDatatype", _CONDITION, "condition_source_value", 1, 0),
        ("isRequired", "person", "gender_concept_id", 3, 1),
        ("isPrimaryKey", _CONDITION, "condition_occurrence_id", 6, 2),
        ("isForeignKey", _CONDITION, "person_id", 6, 1),
        ("isForeignKey", _CONDITION, "visit_occurrence_id", 3, 1),
        ("fkDomain", _CONDITION, "condition_concept_id", 5, 1),
        ("isStandardValidConcept", _CONDITION, "condition_concept_id", 5, 1),
        ("standardConceptRecordCompleteness", _CONDITION, "condition_concept_id", 6, 1),
        ("sourceValueCompleteness", _CONDITION, "condition_source_value", 4, 1),
        ("measureValueCompleteness", _CONDITION, "condition_end_date", 6, 4),
        ("measurePersonCompleteness", _CONDITION, "", 3, 1),
        ("plausibleValueLow", "person", "year_of_birth", 3, 1),
        ("plausibleValueHigh", "person", "month_of_birth", 3, 1),
        ("plausibleValueHigh", _CONDITION, "condition_start_date", 6, 1),
        ("plausibleStartBeforeEnd", _CONDITION, "condition_start_date", 2, 1),
        ("plausibleBeforeDeath", _CONDITION, "condition_start_date", 4, 1),
        ("plausibleDuringLife", _CONDITION, "condition_start_date", 4, 1),
        ("withinVisitDates", _CONDITION, "condition_start_date", 2, 1),
        ("plausibleGender", _CONDITION, "condition_concept_id", 1, 1),
    ],
)
def test_each_check_counts_its_rows(
    found: dict[tuple[str, str, str], tuple[int, int]],
    check: str,
    table: str,
    field: str,
    rows: int,
    violated: int,
) -> None:
    assert found[check, table, field] == (rows, violated)


def test_a_birth_date_that_is_none_does_not_stop_the_check(found: dict[Any, tuple[int, int]]) -> None:
    assert found["plausibleAfterBirth", _CONDITION, "condition_start_date"] == (4, 1)


def test_every_check_type_is_named_and_has_a_threshold() -> None:
    assert {f.table for f in fields()} >= {"person", "measurement", "visit_occurrence"}
    for row in thresholds().values():
        assert row["context"] in ("verification", "validation")
        assert row["category"] in ("conformance", "completeness", "plausibility")
        assert 0 <= float(row["threshold_pct"]) <= 100


def test_a_folder_without_tables_is_a_numbered_error(tmp_path: Path) -> None:
    with pytest.raises(MedlakeError, match="E458"):
        check_omop(tmp_path)


@pytest.mark.skipif(not _SAMPLE.is_dir(), reason="the shared samples are not beside this checkout")
def test_the_sample_is_checked_and_every_failing_row_is_written(tmp_path: Path) -> None:
    out = tmp_path / "failing.parquet"
    result = check_omop(_SAMPLE, out=out)
    assert result["failed"] > 0
    assert result["checks"] == result["passed"] + result["failed"] + result["not_applicable"]
    told = sum(
        r["violated"] for r in result["results"] if r["check"] not in ("cdmTable", "cdmField", "cdmDatatype")
    )
    written = duckdb.execute(f"SELECT count(*) FROM '{out}'").fetchone()
    assert written == (told,)
