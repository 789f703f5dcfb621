"""Resident id numbers: 15 to 18 digits, checksum, what they say of birth and sex. SQL macros for DuckDB.

GB 11643-1999: six digits region, eight birth date, three serial (odd: male), one check digit by ISO 7064 MOD 11-2.
The 15-digit form of before 1999 has a two-digit year (19xx) and no check digit.
"""

from __future__ import annotations

import duckdb

WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
CHECK_DIGITS = "10X98765432"

#: Numbers that keyboards produce, not authorities.
PLACEHOLDERS = ("123456789012345678", "111111111111111111", "000000000000000000", "999999999999999999")

#: Passport, Hong Kong/Macau and Taiwan permits: letters, then digits. They carry no birth date and no checksum.
DOCUMENT = r"[A-Z]{1,2}\d{7,10}"

_SUM = " + ".join(
    f"{weight} * (ascii(substr(s, {place}, 1)) - 48)" for place, weight in enumerate(WEIGHTS, 1)
)
_PLACEHOLDER_LIST = ", ".join(f"'{p}'" for p in PLACEHOLDERS)

MACROS = (
    # full-width digits and letters become plain ones; whatever is neither digit, letter nor mask goes
    """CREATE OR REPLACE MACRO id_clean(s) AS CASE WHEN regexp_full_match(s, '[0-9A-Z*]+') THEN s
       ELSE nullif(regexp_replace(upper(translate(s, '０１２３４５６７８９ＸｘＡ＊', '0123456789XXA*')),
                                  '[^0-9A-Z*]', '', 'g'), '') END""",
    f"CREATE OR REPLACE MACRO id_check_digit(s) AS substr('{CHECK_DIGITS}', 1 + ({_SUM}) % 11, 1)",
    f"""CREATE OR REPLACE MACRO id_is_placeholder(s) AS
       s IN ({_PLACEHOLDER_LIST}) OR replace(s, left(s, 1), '') = '' OR starts_with('{PLACEHOLDERS[0]}', left(s, 9))""",
    # the 18-digit form, of a 15-digit number too; null when the text has neither form or is a placeholder
    r"""CREATE OR REPLACE MACRO id_18(s) AS CASE
       WHEN regexp_full_match(s, '\d{17}[\dX]') AND NOT id_is_placeholder(s) THEN s
       WHEN regexp_full_match(s, '\d{15}') AND try_strptime('19' || substr(s, 7, 6), '%Y%m%d') IS NOT NULL
       THEN left(s, 6) || '19' || substr(s, 7) || id_check_digit(left(s, 6) || '19' || substr(s, 7)) END""",
    # month and day behind asterisks: those of the record's birth date, if the check digit then fits
    r"""CREATE OR REPLACE MACRO id_unmask(s, born) AS CASE
       WHEN regexp_full_match(s, '\d{10}\*{4}\d{3}[\dX]')
            AND id_check_digit(left(s, 10) || strftime(born, '%m%d') || substr(s, 15, 3)) = right(s, 1)
       THEN left(s, 10) || strftime(born, '%m%d') || right(s, 4) END""",
    r"""CREATE OR REPLACE MACRO id_birth_date(s) AS
       CASE WHEN length(s) = 18 THEN try_strptime(substr(s, 7, 8), '%Y%m%d')::DATE END""",
    "CREATE OR REPLACE MACRO id_sex(s) AS CASE WHEN (ascii(substr(s, 17, 1)) - 48) % 2 = 1 THEN '1' ELSE '2' END",
    # a record's birth date and its id's: the same, the year alone (1 January), or one slip of the keyboard. A relative's
    # number is not in accord, not even a spouse's of the same year
    r"""CREATE OR REPLACE MACRO id_agrees(born, id_born) AS
       born = id_born OR (year(born) = year(id_born) AND strftime(born, '%m%d') = '0101')
       OR damerau_levenshtein(strftime(born, '%Y%m%d'), strftime(id_born, '%Y%m%d')) <= 1""",
    # right by its own rules: region of a province, a day that was, check digit
    r"""CREATE OR REPLACE MACRO id_is_valid(s, today) AS coalesce(
       length(s) = 18 AND left(s, 1) BETWEEN '1' AND '8' AND id_check_digit(s) = right(s, 1)
       AND id_birth_date(s) BETWEEN DATE '1880-01-01' AND today, false)""",
)


def create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Define the macros ``id_clean, id_check_digit, id_18, id_birth_date, id_sex, id_is_valid``."""
    for macro in MACROS:
        connection.execute(macro)
