"""From ``source_record`` (values as given) to ``record``: columns that can be compared by plain SQL.

What is no evidence becomes null: placeholders, dates nobody was born on, a phone that half a village gives, an id
that twenty names share. One row in, one row out; nothing is dropped here.
"""

from __future__ import annotations

from datetime import date

import duckdb
import pyarrow as pa

from empi import addresses
from empi.families import borrow_from_mother, mark_multiple_births
from empi.id_numbers import create_macros
from empi.names import name_table
from empi.sources import as_date

#: A number that more records share than a large family has is a desk's, not a person's.
PHONE_MAX_RECORDS = 40
#: An id under more different names than this is a placeholder or a card lent to a whole ward.
ID_MAX_NAMES = 8

#: Whoever has this birthday in the year of the run, or had it, has a telephone of his own. By the year alone, so that
#: it changes with the year's first run, which is a full one (``empi.incremental``).
ADULT_YEARS = 18

#: Eight times the same digit (RE2 has no back references).
_SAME_DIGITS = "|".join(f"{d}{{8}}" for d in range(10))
_PLACEHOLDER_DAYS = (
    "(DATE '1800-01-01', DATE '1900-01-01', DATE '1899-12-30', DATE '1970-01-01', DATE '1949-10-01')"
)

#: Stage 1, row by row: every text that is costly to clean is cleaned once and the columns are named.
_BASE = r"""
CREATE OR REPLACE TABLE cleaned AS
WITH base AS (
    SELECT s.rec_no, s.source_system, s.org_code, s.identifier_value, s.addr_region_code, s.addr_detail,
           s.health_card_no, s.insurance_no, n.nm, n.name_py, n.name_shape, n.sn, n.sn_py, n.mother_nm, n.birth_mark,
           coalesce(n.is_unknown, false) AS is_unknown,
           id_clean(s.id_no) AS id_text,
           CASE WHEN s.birth_date BETWEEN DATE '1880-01-01' AND $today
                     AND s.birth_date NOT IN $days THEN s.birth_date END AS born,
           CASE WHEN s.birth_date > $today THEN s.birth_date END AS later_birth,
           CASE WHEN s.sex_code IN ('1', '2') THEN s.sex_code END AS sex,
           mobile(phone_digits(s.phone)) AS phone_11, mobile(phone_digits(s.contact_phone)) AS contact_11,
           k.nm AS contact_nm
    FROM source_record s LEFT JOIN name_key n USING (name) LEFT JOIN name_key k ON k.name = s.contact_name
),
formed AS (
    -- a nameless newborn's number is its mother's: it identifies nobody here
    SELECT *, CASE WHEN NOT is_unknown AND birth_mark IS NULL THEN id_18(id_text) END AS id_whole FROM base
),
numbered AS (
    SELECT * EXCLUDE (id_whole),
           CASE WHEN id_whole IS NOT NULL THEN id_whole
                WHEN id_text IS NULL OR is_unknown OR birth_mark IS NOT NULL THEN NULL
                WHEN contains(id_text, '*') THEN id_unmask(id_text, born)
                WHEN regexp_full_match(id_text, '$document') OR (regexp_full_match(id_text, '[0-9X]{15,20}')
                     AND NOT id_is_placeholder(id_text)) THEN id_text END AS idno
    FROM formed
)
SELECT *, id_is_valid(idno, $today) AS is_national, id_birth_date(idno) AS id_born,
       coalesce(length(idno) < 15 AND regexp_full_match(idno, '$document'), false) AS is_document
FROM numbered
"""
#: What only the whole set can tell: it is counted here, or frozen (``empi.calibration``).
_SHARED = """
CREATE OR REPLACE TABLE shared_id AS
SELECT idno FROM cleaned SEMI JOIN (SELECT idno FROM cleaned WHERE idno IS NOT NULL
                                    GROUP BY idno HAVING count(*) > $id_max) USING (idno)
GROUP BY idno HAVING count(DISTINCT name_py) > $id_max;
CREATE OR REPLACE TABLE shared_phone AS
SELECT phone_11 FROM cleaned WHERE phone_11 IS NOT NULL GROUP BY phone_11 HAVING count(*) > $phone_max
"""
#: Dates that are no evidence yet: the record must be made anew on the day they are (``empi.incremental``).
_FUTURE = """
CREATE OR REPLACE TABLE future AS
SELECT rec_no, least(later_birth, CASE WHEN id_born > $today THEN id_born END) AS day FROM cleaned
WHERE later_birth IS NOT NULL OR id_born > $today
"""
#: Stage 2: what is shared by too many goes, places get their names.
_RECORD = r"""
CREATE OR REPLACE TABLE record AS
WITH placed AS (
    SELECT c.*, i.idno IS NOT NULL AS is_shared_id, p.phone_11 IS NOT NULL AS is_shared_phone,
           q.phone_11 IS NOT NULL AS is_shared_contact, a.town AS a_town, a.village AS a_village, a.house,
           g.town AS g_town, g.village AS g_village,
           CASE WHEN a.town IS NULL THEN a.village END AS bare_village
    FROM cleaned c
    LEFT JOIN shared_id i ON i.idno = c.idno
    LEFT JOIN shared_phone p ON p.phone_11 = c.phone_11
    LEFT JOIN shared_phone q ON q.phone_11 = c.contact_11
    LEFT JOIN address a ON a.addr_detail = c.addr_detail
    LEFT JOIN region g ON g.region_code = c.addr_region_code
),
known AS (
    SELECT p.*, coalesce(p.a_town, o.town, u.town) AS b_town,
           coalesce(p.born, CASE WHEN p.is_national AND NOT p.is_shared_id THEN p.id_born END) AS day,
           card_plain(p.health_card_no) AS card_text, card_plain(p.insurance_no) AS insurance_text
    FROM placed p
    LEFT JOIN (SELECT org_code, village, town FROM nearby WHERE org_code IS NOT NULL) o
           ON o.org_code = p.org_code AND o.village = p.bare_village
    LEFT JOIN (SELECT village, town FROM nearby WHERE org_code IS NULL) u ON u.village = p.bare_village
)
SELECT c.rec_no, c.source_system, c.org_code, c.identifier_value, c.is_unknown, c.birth_mark, c.mother_nm,
       c.nm, c.name_py, c.name_shape, c.sn, c.sn_py,
       CASE WHEN NOT is_shared_id THEN c.idno END AS idno,
       coalesce((c.is_national OR c.is_document) AND NOT is_shared_id, false) AS id_valid,
       -- trusted: right by checksum and in accord with its own record's birth date, if there is one
       coalesce((c.is_document OR (c.is_national AND (c.born IS NULL OR id_agrees(c.born, c.id_born)))) AND NOT is_shared_id
                AND NOT contains(c.id_text, '*'), false) AS id_own,
       c.day AS birth_day, strftime(c.day, '%Y%m%d') AS dob, date_diff('day', DATE '1900-01-01', c.day) AS dob_day,
       c.born IS NULL AND c.day IS NOT NULL AS dob_from_id,
       coalesce(c.sex, CASE WHEN c.is_national AND NOT c.is_shared_id THEN id_sex(c.idno) END) AS sex,
       CASE WHEN NOT is_shared_phone AND NOT c.is_unknown THEN c.phone_11 END AS phone,
       CASE WHEN NOT is_shared_contact AND NOT c.is_unknown THEN c.contact_11 END AS kin_phone,
       CASE WHEN NOT c.is_unknown THEN coalesce(c.mother_nm, c.contact_nm) END AS kin_nm,
       false AS is_multiple_birth,
       coalesce(c.g_town, c.b_town) AS town, coalesce(c.g_village, c.a_village) AS village, c.house,
       coalesce(c.addr_region_code, t.region_code) AS region_code,
       CASE WHEN NOT c.is_unknown THEN card_clean(c.card_text) END AS card,
       CASE WHEN NOT c.is_unknown THEN card_clean(c.insurance_text) END AS insurance,
       year(c.day) > $year - $adult AS is_minor
FROM known c
LEFT JOIN (SELECT town, village, min(region_code) AS region_code FROM region GROUP BY ALL) t
       ON t.town = c.b_town AND t.village = c.a_village
"""
_MACROS = (
    # a mobile number, or nothing: switchboards and repeated digits identify nobody
    r"""CREATE OR REPLACE MACRO phone_digits(s) AS CASE WHEN regexp_full_match(s, '1[3-9]\d{9}') THEN s
        ELSE right(regexp_replace(translate(s, '０１２３４５６７８９', '0123456789'), '\D', '', 'g'), 11) END""",
    rf"""CREATE OR REPLACE MACRO mobile(digits) AS CASE
        WHEN regexp_full_match(digits, '1[3-9]\d{{9}}') AND NOT regexp_matches(digits, '{_SAME_DIGITS}')
        THEN digits END""",
    "CREATE OR REPLACE MACRO card_plain(s) AS upper(regexp_replace(s, '[^0-9A-Za-z]', '', 'g'))",
    """CREATE OR REPLACE MACRO card_clean(plain) AS CASE
       WHEN length(plain) >= 6 AND replace(plain, left(plain, 1), '') <> '' THEN plain END""",
)


def register_names(connection: duckdb.DuckDBPyConnection) -> None:
    """Make ``name_key``, the distinct names of ``source_record`` with their keys."""
    distinct = connection.execute(
        "SELECT name FROM source_record WHERE name IS NOT NULL UNION "
        "SELECT contact_name FROM source_record WHERE contact_name IS NOT NULL"
    ).to_arrow_table()
    names: list[str] = distinct["name"].to_pylist()
    keys: pa.Table = name_table(names)
    connection.register("name_key_arrow", keys)
    connection.execute("CREATE OR REPLACE TABLE name_key AS SELECT * FROM name_key_arrow")
    connection.unregister("name_key_arrow")


def standardise(
    connection: duckdb.DuckDBPyConnection, today: date, *, frozen: bool = False, mark: bool = True
) -> None:
    """Make ``record`` and ``future(rec_no, day)`` from ``source_record``.

    ``today`` is the date being processed: nobody is born after it.

    Args:
        frozen: regions and what is shared by too many are there already (``empi.calibration.use``).
        mark: find multiple births too; they show only where whole homes are in ``source_record``.
    """
    from empi.id_numbers import DOCUMENT

    create_macros(connection)
    for macro in _MACROS:
        connection.execute(macro)
    if frozen:
        addresses.create_macros(connection)
    else:
        addresses.create_region(connection)
        addresses.create_nearby(connection)
    register_names(connection)
    addresses.create_address(connection)
    values = {
        "$today": as_date(today),
        "$days": _PLACEHOLDER_DAYS,
        "$year": str(today.year),
        "$adult": str(ADULT_YEARS),
        "$document": DOCUMENT,
        "$id_max": str(ID_MAX_NAMES),
        "$phone_max": str(PHONE_MAX_RECORDS),
    }
    for text in (_BASE, _FUTURE, *([] if frozen else [_SHARED]), _RECORD):
        sql = text
        for name, value in values.items():
            sql = sql.replace(name, value)
        connection.execute(sql)
    for done in ("cleaned", "address"):
        connection.execute(f"DROP TABLE {done}")
    borrow_from_mother(connection)
    if mark:
        mark_multiple_births(connection)
