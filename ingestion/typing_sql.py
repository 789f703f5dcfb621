"""Text to typed values, as SQL expressions for DuckDB: the layouts that sources really write.

Every expression is NULL when the text is no value of the type; the caller tells that from an empty text.
Local times are Asia/Shanghai unless the text carries its own zone.
"""

from __future__ import annotations

_BLANKS = "' ' || chr(9) || chr(10) || chr(13) || chr(160) || chr(12288) || chr(65279)"
_FULL_WIDTH = "０１２３４５６７８９．－＋，：／"
_HALF_WIDTH = "0123456789.-+,:/"

#: Days from Excel's day zero; 1900 counts as a leap year there, so the zero lies on 30 December 1899.
_EXCEL_FIRST, _EXCEL_LAST = 10_000, 73_050

_TRUE = "('1', 'true', 't', 'yes', 'y', '是', '有', '√', '阳性')"
_FALSE = "('0', 'false', 'f', 'no', 'n', '否', '无', '×', '阴性')"


def cleaned(column: str, plain: bool = False) -> str:
    """Text without surrounding blanks; empty text and the exports' words for null are NULL.

    ``plain``: no value of the column has blanks around it, so they need not be looked for.
    """
    text = column if plain else f"trim({column}, {_BLANKS})"
    return f"CASE WHEN {text} IN ('', 'NULL', '\\N') THEN NULL ELSE {text} END"


def _half(x: str) -> str:
    return f"translate({x}, '{_FULL_WIDTH}', '{_HALF_WIDTH}')"


def _digit_first(x: str) -> str:
    return f"({x} >= '0' AND {x} < ':')"


def number(x: str) -> str:
    """Double; thousands' commas and full-width digits are read, infinities and NaN are not numbers here."""
    plain = f"regexp_full_match({x}, '[-+]?[0-9.]+([eE][-+]?[0-9]+)?')"
    odd = f"regexp_full_match({_half(x)}, '[-+]?[0-9.,]+([eE][-+]?[0-9]+)?')"
    slow = f"TRY_CAST(replace({_half(x)}, ',', '') AS DOUBLE)"
    return f"CASE WHEN {plain} THEN TRY_CAST({x} AS DOUBLE) WHEN {odd} THEN {slow} END"


def integer(x: str) -> str:
    """Bigint; ``120.0`` is 120, ``12.7`` is no integer."""
    short = f"regexp_full_match({x}, '-?[0-9]{{1,18}}')"
    as_double = number(x)
    whole = f"({as_double}) = trunc({as_double}) AND abs({as_double}) < 9e15"
    return (
        f"CASE WHEN {short} THEN TRY_CAST({x} AS BIGINT) WHEN {whole} THEN CAST(({as_double}) AS BIGINT) END"
    )


def boolean(x: str) -> str:
    return f"CASE WHEN lower({x}) IN {_TRUE} THEN true WHEN lower({x}) IN {_FALSE} THEN false END"


def _serial(x: str) -> str:
    """Whether the text is an Excel day number."""
    between = f"TRY_CAST({x} AS DOUBLE) BETWEEN {_EXCEL_FIRST} AND {_EXCEL_LAST}"
    return f"(regexp_full_match({x}, '[0-9]{{5}}(\\.[0-9]+)?') AND {between})"


def date(x: str) -> str:
    """Date from ISO, slashes, dots, ``20261120``, ``2026年11月20日``, a date with time, an Excel day number."""
    layouts = "['%Y-%m-%d', '%Y.%m.%d', '%Y年%m月%d日', '%Y年%m月%d']"
    return f"""CASE
        WHEN length({x}) BETWEEN 8 AND 10 AND {x}[5] IN ('-', '/') AND {_digit_first(x)} THEN TRY_CAST({x} AS DATE)
        WHEN regexp_full_match({x}, '[0-9]{{8}}') THEN CAST(try_strptime({x}, '%Y%m%d') AS DATE)
        WHEN {_serial(x)} THEN DATE '1899-12-30' + CAST(floor(TRY_CAST({x} AS DOUBLE)) AS INTEGER)
        WHEN {_digit_first(x)} AND length({x}) > 10 AND {x}[5] IN ('-', '/') THEN TRY_CAST({x}[1:10] AS DATE)
        WHEN regexp_full_match({x}, '[0-9]{{10}}([0-9]{{2}}){{0,2}}(\\.[0-9]+)?([-+][0-9]{{4}})?')
            THEN CAST(try_strptime({x}[1:8], '%Y%m%d') AS DATE)
        WHEN {_digit_first(_half(x))} THEN CAST(try_strptime({_half(x)}, {layouts}) AS DATE) END"""


def timestamp(x: str) -> str:
    """Instant (UTC) from ISO with or without zone, slashes, HL7 ``20261120081500.0+0800``, an Excel day number."""
    local = "timezone('Asia/Shanghai', {})"
    hl7 = "'([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})?([0-9]{2})?([0-9]{2})?(\\.[0-9]+)?([-+][0-9]{2}:?[0-9]{2})?'"
    iso = f"""({x}[1:4] || '-' || {x}[5:6] || '-' || {x}[7:8] || ' '
        || CASE WHEN regexp_matches({x}, '^[0-9]{{10}}') THEN {x}[9:10] ELSE '00' END || ':'
        || CASE WHEN regexp_matches({x}, '^[0-9]{{12}}') THEN {x}[11:12] ELSE '00' END || ':'
        || CASE WHEN regexp_matches({x}, '^[0-9]{{14}}') THEN regexp_extract({x}, '^[0-9]{{12}}([0-9]{{2}}(\\.[0-9]+)?)', 1)
                ELSE '00' END)"""
    zoned = f"({x}[-1] IN ('Z', 'z') OR {x}[-5] IN ('-', '+') OR {x}[-6] IN ('-', '+'))"
    days = f"TIMESTAMP '1899-12-30' + to_microseconds(CAST(round(TRY_CAST({x} AS DOUBLE) * 86400) AS BIGINT) * 1000000)"
    layouts = "['%Y.%m.%d %H:%M:%S', '%Y.%m.%d %H:%M', '%Y.%m.%d', '%Y年%m月%d日 %H:%M:%S', '%Y年%m月%d日%H时%M分', '%Y年%m月%d日']"
    plain = local.format(f"TRY_CAST({x} AS TIMESTAMP)")
    return f"""CASE
        WHEN {x}[5] IN ('-', '/') AND {_digit_first(x)} THEN
            CASE WHEN length({x}) > 16 AND {zoned} THEN TRY_CAST(upper({x}) AS TIMESTAMPTZ) ELSE {plain} END
        WHEN regexp_full_match({x}, '[0-9]{{14}}') THEN {local.format(f"try_strptime({x}, '%Y%m%d%H%M%S')")}
        WHEN {_serial(x)} THEN {local.format(days)}
        WHEN regexp_full_match({x}, {hl7}) THEN CASE WHEN length({x}) > 12 AND {zoned}
            THEN TRY_CAST({iso} || regexp_extract({x}, '[-+][0-9]{{2}}:?[0-9]{{2}}$') AS TIMESTAMPTZ)
            ELSE {local.format(f"TRY_CAST({iso} AS TIMESTAMP)")} END
        WHEN {_digit_first(_half(x))} THEN {local.format(f"try_strptime({_half(x)}, {layouts})")} END"""


def scientific(x: str) -> str:
    """Whether a text identifier has become a number in scientific notation, as spreadsheets do to 18 digits."""
    return f"regexp_full_match({x}, '[0-9](\\.[0-9]+)?[eE]\\+?[0-9]{{1,3}}')"


def typed(kind: str, x: str) -> str:
    """The expression for a contract's logical type; text stays as it is."""
    makers = {"integer": integer, "number": number, "boolean": boolean, "date": date, "timestamp": timestamp}
    return makers[kind](x) if kind in makers else x
