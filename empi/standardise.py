"""From ``source_record`` (values as given) to ``record``: columns that can be compared by plain SQL.

What is no evidence becomes null: placeholders, dates nobody was born on, a phone that half a village gives, an id
that twenty names share. One row in, one row out; nothing is dropped here.
"""

from __future__ import annotations

from datetime import date

import duckdb
import pyarrow as pa

from empi.addresses import create_address, create_nearby, create_region
from empi.families import borrow_from_mother, mark_multiple_births
from empi.id_numbers import create_macros
from empi.names import name_table
from empi.sources import as_date

#: A number that more records share than a large family has is a desk's, not a person's.
PHONE_MAX_RECORDS = 40
#: An id under more different names than this is a placeholder or a card lent to a whole ward.
ID_MAX_NAMES = 8

#: Eight times the same digit (RE2 has no back references).
_SAME_DIGITS = "|".join(f"{d}{{8}}" for d in range(10))
_PLACEHOLDER_DAYS = "('1800-01-01', '1900-01-01', '1899-12-30', '1970-01-01', '1949-10-01')"

_RECORD = r"""
CREATE OR REPLACE TABLE record AS
WITH base AS (
    SELECT s.*, n.nm, n.name_py, n.name_shape, n.sn, n.sn_py, n.mother_nm, n.birth_mark,
           coalesce(n.is_unknown, false) AS is_unknown,
           id_clean(s.id_no) AS id_text,
           CASE WHEN s.birth_date BETWEEN DATE '1880-01-01' AND $today
                     AND s.birth_date::VARCHAR NOT IN $days THEN s.birth_date END AS born,
           CASE WHEN s.sex_code IN ('1', '2') THEN s.sex_code END AS sex,
           phone_clean(s.phone) AS phone_11, phone_clean(s.contact_phone) AS contact_11, k.nm AS contact_nm
    FROM source_record s LEFT JOIN name_key n USING (name) LEFT JOIN name_key k ON k.name = s.contact_name
),
numbered AS (
    -- a nameless newborn's number is its mother's: it identifies nobody here
    SELECT *, CASE WHEN is_unknown OR birth_mark IS NOT NULL THEN NULL
                   WHEN id_18(id_text) IS NOT NULL THEN id_18(id_text)
                   WHEN contains(id_text, '*') THEN id_unmask(id_text, born)
                   WHEN regexp_full_match(id_text, '$document') OR (regexp_full_match(id_text, '[0-9X]{15,20}')
                        AND NOT id_is_placeholder(id_text)) THEN id_text END AS idno
    FROM base
),
checked AS (
    SELECT *, id_is_valid(idno, $today) AS is_national, regexp_full_match(idno, '$document') AS is_document
    FROM numbered
),
shared_id AS (
    SELECT idno FROM checked WHERE idno IS NOT NULL GROUP BY idno HAVING count(DISTINCT name_py) > $id_max
),
shared_phone AS (
    SELECT phone_11 FROM checked WHERE phone_11 IS NOT NULL GROUP BY phone_11 HAVING count(*) > $phone_max
)
SELECT c.rec_no, c.source_system, c.org_code, c.identifier_value, c.is_unknown, c.birth_mark, c.mother_nm,
       c.nm, c.name_py, c.name_shape, c.sn, c.sn_py,
       CASE WHEN i.idno IS NULL THEN c.idno END AS idno,
       coalesce((c.is_national OR c.is_document) AND i.idno IS NULL, false) AS id_valid,
       -- trusted: right by checksum and in accord with its own record's birth date (a whole part of it may be off)
       coalesce((c.is_document OR (c.is_national AND (c.born IS NULL OR year(c.born) = year(id_birth_date(c.idno))
                 OR strftime(c.born, '%m%d') = substr(c.idno, 11, 4)))) AND i.idno IS NULL AND NOT contains(c.id_text, '*'), false)
       AS id_own,
       b.day AS birth_day, strftime(b.day, '%Y%m%d') AS dob, date_diff('day', DATE '1900-01-01', b.day) AS dob_day,
       c.born IS NULL AND b.day IS NOT NULL AS dob_from_id,
       coalesce(c.sex, CASE WHEN c.is_national THEN id_sex(c.idno) END) AS sex,
       CASE WHEN p.phone_11 IS NULL AND NOT c.is_unknown THEN c.phone_11 END AS phone,
       CASE WHEN q.phone_11 IS NULL AND NOT c.is_unknown THEN c.contact_11 END AS kin_phone,
       CASE WHEN NOT c.is_unknown THEN coalesce(c.mother_nm, c.contact_nm) END AS kin_nm,
       false AS is_multiple_birth,
       coalesce(g.town, a.town, o.town, u.town) AS town, coalesce(g.village, a.village) AS village, a.house,
       coalesce(c.addr_region_code, t.region_code) AS region_code,
       CASE WHEN NOT c.is_unknown THEN card_clean(c.health_card_no) END AS card,
       CASE WHEN NOT c.is_unknown THEN card_clean(c.insurance_no) END AS insurance
FROM checked c
LEFT JOIN shared_id i ON i.idno = c.idno
LEFT JOIN shared_phone p ON p.phone_11 = c.phone_11
LEFT JOIN shared_phone q ON q.phone_11 = c.contact_11
LEFT JOIN address a ON a.addr_detail = c.addr_detail
LEFT JOIN region g ON g.region_code = c.addr_region_code
LEFT JOIN nearby o ON a.town IS NULL AND o.org_code = c.org_code AND o.village = a.village
LEFT JOIN nearby u ON a.town IS NULL AND u.org_code IS NULL AND u.village = a.village
LEFT JOIN (SELECT town, village, min(region_code) AS region_code FROM region GROUP BY ALL) t
       ON t.town = coalesce(a.town, o.town, u.town) AND t.village = a.village
CROSS JOIN LATERAL (SELECT coalesce(c.born, CASE WHEN c.is_national THEN id_birth_date(c.idno) END) AS day) b
"""
_MACROS = (
    # a mobile number, or nothing: switchboards and repeated digits identify nobody
    r"""CREATE OR REPLACE MACRO digits(s) AS right(regexp_replace(
        translate(s, '０１２３４５６７８９', '0123456789'), '\D', '', 'g'), 11)""",
    rf"""CREATE OR REPLACE MACRO phone_clean(s) AS CASE
        WHEN regexp_full_match(digits(s), '1[3-9]\d{{9}}') AND NOT regexp_matches(digits(s), '{_SAME_DIGITS}')
        THEN digits(s) END""",
    "CREATE OR REPLACE MACRO card_plain(s) AS upper(regexp_replace(s, '[^0-9A-Za-z]', '', 'g'))",
    """CREATE OR REPLACE MACRO card_clean(s) AS CASE
       WHEN length(card_plain(s)) >= 6 AND replace(card_plain(s), left(card_plain(s), 1), '') <> ''
       THEN card_plain(s) END""",
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


def standardise(connection: duckdb.DuckDBPyConnection, today: date) -> None:
    """Make ``record`` from ``source_record``. ``today`` is the date being processed: nobody is born after it."""
    from empi.id_numbers import DOCUMENT

    create_macros(connection)
    for macro in _MACROS:
        connection.execute(macro)
    create_region(connection)
    create_nearby(connection)
    register_names(connection)
    create_address(connection)
    values = {
        "$today": as_date(today),
        "$days": _PLACEHOLDER_DAYS,
        "$document": DOCUMENT,
        "$id_max": str(ID_MAX_NAMES),
        "$phone_max": str(PHONE_MAX_RECORDS),
    }
    sql = _RECORD
    for name, value in values.items():
        sql = sql.replace(name, value)
    connection.execute(sql)
    borrow_from_mother(connection)
    mark_multiple_births(connection)
