"""What ``bench.quality`` judges: a scratch lake with one table of visits, and a book of row-level rules over it.

The rules are of the kind that follow-ups have: a value or a difference of two values must not lie in a band, for one class
of visits or all. Bands lie side by side, so that failures spread over records as they do in life.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

from bench import empi_city

if TYPE_CHECKING:
    from quality.rule import RuleBook

DAY = date(2026, 11, 20)
TABLE = "htn_visit"
#: Share of the visits of one rule's class that its band holds, about.
_SHARE = 0.0068
_INSTITUTIONS = 200
_VISITS_PER_RESIDENT = 4


def _bands(kind: int, count: int) -> list[tuple[float, float]]:
    """Bands side by side in what :func:`_visits` draws of a kind: systolic, diastolic, pulse, and their spread."""
    low, high, share = ((100.0, 160.0, 1.0), (60.0, 100.0, 1.0), (55.0, 95.0, 1.0), (35.0, 65.0, 0.5))[kind]
    step = (high - low) * _SHARE / share
    return [(round(low + n * step, 4), round(low + (n + 1) * step, 4)) for n in range(count)]


def book(rules: int) -> RuleBook:
    """A book of so many rules on :data:`TABLE`, each with two guards of eligibility, a condition and full texts."""
    from quality.rule import RuleBook, rulebook

    given = rulebook().rule("HTN-006")
    target = given.target(TABLE) if any(t.table == TABLE for t in given.targets) else given.targets[0]
    values = ("sbp_mmhg", "dbp_mmhg", "heart_rate_bpm", "sbp_mmhg - dbp_mmhg")
    fields = (("sbp_mmhg",), ("dbp_mmhg",), ("heart_rate_bpm",), ("sbp_mmhg", "dbp_mmhg"))
    labels = ("收缩压", "舒张压", "心率", "脉压")
    made = []
    for number in range(rules):
        kind, place = number % 4, number // 4
        low, high = _bands(kind, rules // 4 + 1)[place]
        value = values[kind]
        made.append(
            replace(
                given,
                id=f"BEN-{number + 1:03d}",
                domain="BEN",
                domain_zh="测量",
                domain_en="Bench",
                title_zh=f"{labels[kind]}不应落在第{place + 1}段",
                title_en=f"band {place + 1} of {value}",
                needs=(),
                params={},
                tolerance_pct=5.0,
                introduced_on=date(2026, 1, 1),
                targets=(
                    replace(
                        target,
                        table=TABLE,
                        query=None,
                        dated_by=None,
                        eligibility=f"visit_way_code <> '9' and {' and '.join(f'{f} is not null' for f in fields[kind])}",
                        condition=f"{value} >= {low} and {value} < {high}",
                        warn_when=None,
                        fields=fields[kind],
                        observed={f: f for f in fields[kind]},
                        expected={"low": str(low), "high": str(high)},
                        message_zh=f"{labels[kind]}为"
                        + "、".join(f"{{{f}}}" for f in fields[kind])
                        + "，在{low}与{high}之间",
                        products={"quality": "show"},
                        due=None,
                    ),
                ),
                examples=(),
            )
        )
    return RuleBook(tuple(made), {})


def _visits(rows: int, where: str, shift: str, batch: str = "B1") -> str:
    """SQL of visits: every column that a station delivers and rules or findings read. ``shift`` moves the values."""

    def drawn(salt: int) -> str:
        return f"((hash(i * 16 + {salt}) % 1000003) / 1000003.0)"

    return f"""
        SELECT 'V' || lpad(i::VARCHAR, 9, '0') AS visit_id,
            'A' || lpad((i // {_VISITS_PER_RESIDENT})::VARCHAR, 9, '0') AS archive_id,
            DATE '2026-01-01' + (i % 300)::INTEGER AS visited_on, ((i % 3) + 1)::VARCHAR AS visit_way_code,
            100 + 60 * {drawn(1)} + {shift} AS sbp_mmhg, 60 + 40 * {drawn(2)} AS dbp_mmhg, 55 + 40 * {drawn(3)} AS heart_rate_bpm,
            ((i % 4) + 1)::VARCHAR AS visit_class_code, 'D' || (i % 2000)::VARCHAR AS doctor_id,
            'S' || lpad((i // {_VISITS_PER_RESIDENT} % {_INSTITUTIONS})::VARCHAR, 3, '0') AS org_code,
            DATE '2026-11-20' AS data_date,
            'htn_visit_' || (i % {_INSTITUTIONS})::VARCHAR || '.csv' AS source_file, NULL::VARCHAR AS source_sheet,
            (i // {_INSTITUTIONS} + 2)::BIGINT AS source_line, md5((i * 2 + ({shift} <> 0)::INTEGER)::VARCHAR) AS raw_hash,
            '{batch}' AS batch_id, TIMESTAMPTZ '2026-11-20 20:00:00+00' AS received_at, false AS is_deleted
        FROM range({rows}) AS t(i) WHERE {where}"""


def _write(home: str, rows: int) -> None:
    empi_city.use_home(home)
    from lake import duck, tables

    connection = duck.connect()
    tables.overwrite(f"silver/{TABLE}", connection.sql(_visits(rows, "true", "0")).to_arrow_table())
    residents = f"""
        SELECT 'A' || lpad(i::VARCHAR, 9, '0') AS archive_id, 'S' || lpad((i % {_INSTITUTIONS})::VARCHAR, 3, '0') AS org_code,
            '0' AS status_code, DATE '1950-01-01' + (i % 12000)::INTEGER AS birth_date, ((i % 2) + 1)::VARCHAR AS sex_code,
            TIMESTAMPTZ '2026-11-20 20:00:00+00' AS source_updated_at, md5(i::VARCHAR) AS raw_hash, false AS is_deleted
        FROM range({-(-rows // _VISITS_PER_RESIDENT)}) AS t(i)"""
    tables.overwrite("silver/ph_archive", connection.sql(residents).to_arrow_table())
    entries = """
        SELECT 'E' || archive_id AS empi_id, 'public_health' AS source_system, org_code, 'MR' AS identifier_type,
            archive_id AS identifier_value, NULL::DATE AS valid_to FROM r"""
    crosswalk = connection.sql(f"WITH r AS ({residents}) {entries}").to_arrow_table()
    tables.overwrite("silver/person_identifier", crosswalk)
    for name in (TABLE, "ph_archive", "person_identifier"):
        empi_city.show(name)


def make(home: str, rows: int) -> None:
    """Write the lake in a process of its own, so that the memory measured later is the check's."""
    maker = multiprocessing.get_context("spawn").Process(target=_write, args=(home, rows))
    maker.start()
    maker.join()
    if maker.exitcode:
        raise SystemExit(maker.exitcode)


def change(rows: int, each: int) -> int:
    """Deliver ``rows // each`` visits anew with other values, spread at random; returns how many."""
    from lake import duck, tables

    chosen = f"hash(i) % {each} = 0"
    changed = duck.connect().sql(_visits(rows, chosen, "3", "B2")).to_arrow_table()
    tables.merge(f"silver/{TABLE}", changed, key=("org_code", "visit_id"), newer="s.raw_hash <> t.raw_hash")
    empi_city.show(TABLE)
    return int(changed.num_rows)


def day(number: int) -> date:
    return DAY + timedelta(days=number)
