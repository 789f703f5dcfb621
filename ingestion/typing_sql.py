"""Text to typed values, as SQL expressions for DuckDB: the layouts that sources really write.

Each type has two expressions. ``fast`` reads what nearly every value looks like; ``slow`` reads the rest (Chinese
dates, a 12 hour clock, thousands' commas, full-width digits) and is evaluated only where ``fast`` gave NULL.
Both are NULL when the text is no value of the type; the caller tells that from an empty text.

Times without a zone of their own are local, Asia/Shanghai unless the caller names another zone (``ingestion.times``);
the tz database knows China's summer time of 1986 to 1991.
"""

from __future__ import annotations

_BLANKS = "' ' || chr(9) || chr(10) || chr(13) || chr(160) || chr(12288) || chr(65279)"
_FULL_WIDTH = "０１２３４５６７８９．－＋，：／"
_HALF_WIDTH = "0123456789.-+,:/"
_WIDE = "".join(chr(c) for c in range(0xFF10, 0xFF5B) if chr(c).isalnum())
_NARROW = "".join(chr(ord(c) - 0xFEE0) for c in _WIDE)

#: Local time where nothing else is said, as an SQL expression.
SHANGHAI = "'Asia/Shanghai'"

#: Days from Excel's day zero; 1900 counts as a leap year there, so the zero lies on 30 December 1899.
_EXCEL_FIRST, _EXCEL_LAST = 10_000, 73_050

#: Milliseconds that are taken for an instant: 2001-09-09 to 2096.
_EPOCH_MS_FIRST, _EPOCH_MS_LAST = 1_000_000_000_000, 4_000_000_000_000

_TRUE = "('1', 'true', 't', 'yes', 'y', '是', '有', '√', '阳性')"
_FALSE = "('0', 'false', 'f', 'no', 'n', '否', '无', '×', '阴性')"

_AM, _PM = "('上午', '凌晨', '早上', '早晨', '清晨', 'AM')", "('下午', '傍晚', '晚上', '中午', 'PM')"
_NIGHT = "('晚上', '夜里')"  # 12 at night is the next day's midnight to some and noon to none: not read
_MARK = "上午|下午|中午|凌晨|早上|早晨|清晨|傍晚|晚上|AM|PM"
_SPELLED = (
    "^([0-9]{4})[-/.年]([0-9]{1,2})[-/.月]([0-9]{1,2})[日号]?[ T,]*"
    f"({_MARK})? *(?:([0-9]{{1,2}})(?:[:时点] *([0-9]{{1,2}}))?(?:[:分] *([0-9]{{1,2}}(?:\\.[0-9]+)?))?[:时点分秒整]?)?"
    f" *({_MARK})?$"
)


_EMPTY = "('', 'NULL', '\\N')"


def trimmed(column: str, plain: bool) -> str:
    """Text without surrounding blanks and without Excel's text mark: an apostrophe before a digit or sign.

    ``plain``: no value of the column has blanks or an apostrophe around it, so they need not be looked for.
    """
    if plain:
        return column
    text = f"trim({column}, {_BLANKS})"
    unmarked = f"regexp_replace({text}, '^''([-+=0-9０-９])', '\\1')"
    return f"CASE WHEN contains({column}, '''') THEN {unmarked} ELSE {text} END"


def filled(text: str) -> str:
    """Trimmed text; empty text and exports' null words are NULL."""
    return f"CASE WHEN {text} IN {_EMPTY} THEN NULL ELSE {text} END"


def cleaned(column: str, plain: bool = False) -> str:
    """Trimmed text, NULL when nothing is left of it."""
    return filled(trimmed(column, plain))


def let(value: str, name: str, body: str) -> str:
    """``body`` with ``name`` standing for the value, which is computed once and written once.

    The expressions of a wide table would otherwise repeat their regular expressions a thousandfold.
    """
    return f"list_transform([{value}], {name} -> {body})[1]"


def identifier(text: str, plain: bool = False) -> str:
    """A trimmed identifier: full-width letters and digits narrowed, a number that Excel or pandas made of it undone.

    ``13912345678.0`` and ``1.3912345678E+10`` hold every digit (at most 15, what a double keeps), so they are
    repaired; ``4.29701E+17`` does not and stays for ``scientific`` to find.
    """
    parts = "regexp_extract(v, '^([0-9]+)\\.([0-9]+)(?:[eE]\\+?([0-9]{1,2}))?$', ['a', 'b', 'n'])"
    repaired = let(
        parts,
        "p",
        """CASE WHEN p.n = '' AND p.b <> '' AND length(p.a) <= 15 AND replace(p.b, '0', '') = '' THEN p.a
            WHEN p.n <> '' AND length(p.a) = 1 AND length(p.b) <= 14 AND length(p.b) = TRY_CAST(p.n AS INTEGER)
                THEN p.a || p.b ELSE v END""",
    )
    narrowed = text if plain else f"translate({text}, '{_WIDE}．－', '{_NARROW}.-')"
    wide = (
        ""
        if plain
        else f" OR (strlen({text}) <> length({text}) AND regexp_matches({text}, '[０-９Ａ-Ｚａ-ｚ．－]'))"
    )
    return f"""CASE WHEN {text} IN {_EMPTY} THEN NULL WHEN contains({text}, '.'){wide}
        THEN {let(narrowed, "v", repaired)} ELSE {text} END"""


def half(x: str) -> str:
    """Full-width digits and signs as half-width ones."""
    return f"translate({x}, '{_FULL_WIDTH}', '{_HALF_WIDTH}')"


def _dashed(x: str) -> str:
    """Half-width upper-case text; ``20261118 081500`` gets the separators that the other layouts have."""
    day = f"regexp_replace(upper({half(x)}), '^([0-9]{{4}})([0-9]{{2}})([0-9]{{2}})[ T]', '\\1-\\2-\\3 ')"
    return f"regexp_replace({day}, ' ([0-9]{{2}})([0-9]{{2}})([0-9]{{2}})?$', ' \\1:\\2:\\3')"


def _digit_first(x: str) -> str:
    return f"({x} >= '0' AND {x} < ':')"


def _fast_number(x: str) -> str:
    return f"CASE WHEN {_short(x)} AND regexp_full_match({x}, '{_PLAIN_NUMBER}') THEN TRY_CAST({x} AS DOUBLE) END"


#: At most two digits of exponent and so many characters: then no text is an infinity.
_PLAIN_NUMBER = "[-+]?[0-9.]+([eE][-+]?[0-9]{1,2})?"
_ANY_NUMBER = "[-+]?([0-9.]+([eE][-+]?[0-9]{1,2})?|[0-9]{1,3}(,[0-9]{3})+(\\.[0-9]*)?)"


def _short(x: str) -> str:
    return f"strlen({x}) < 100"


#: Beyond it a double does not hold every whole number.
EXACT = 2**53


def number_of(h: str) -> str:
    """Half-width text as a double: also thousands' commas where thousands end. Infinities and NaN are no numbers."""
    read = f"TRY_CAST(replace({h}, ',', '') AS DOUBLE)"
    return f"CASE WHEN {_short(h)} AND regexp_full_match({h}, '{_ANY_NUMBER}') THEN {read} END"


def _slow_number(x: str) -> str:
    return let(half(x), "h", number_of("h"))


def number(x: str) -> str:
    """Double."""
    return _joined("number", x)


def _fast_integer(x: str) -> str:
    return f"CASE WHEN regexp_full_match({x}, '-?[0-9]{{1,18}}') THEN TRY_CAST({x} AS BIGINT) END"


def whole(v: str) -> str:
    """A double without fraction as a bigint, NULL for another."""
    return f"CASE WHEN {v} = trunc({v}) AND abs({v}) < {EXACT} THEN CAST({v} AS BIGINT) END"


def _slow_integer(x: str) -> str:
    return let(_slow_number(x), "n", whole("n"))


def boolean(x: str) -> str:
    return f"CASE WHEN lower({x}) IN {_TRUE} THEN true WHEN lower({x}) IN {_FALSE} THEN false END"


def _serial(x: str) -> str:
    """Whether the text is an Excel day number."""
    between = f"TRY_CAST({x} AS DOUBLE) BETWEEN {_EXCEL_FIRST} AND {_EXCEL_LAST}"
    return f"(regexp_full_match({x}, '[0-9]{{5}}(\\.[0-9]+)?') AND {between})"


def _fast_date(x: str) -> str:
    return f"""CASE
        WHEN length({x}) BETWEEN 8 AND 10 AND {x}[5] IN ('-', '/') AND {_digit_first(x)} THEN TRY_CAST({x} AS DATE)
        WHEN regexp_full_match({x}, '[0-9]{{8}}') THEN CAST(try_strptime({x}, '%Y%m%d') AS DATE) END"""


def _spelled_parts(h: str) -> str:
    return f"regexp_extract({h}, '{_SPELLED}', ['y', 'm', 'd', 'p', 'h', 'i', 's', 'q'])"


_DAY = "TRY_CAST(p.y || '-' || p.m || '-' || p.d AS DATE)"


def _slow_date(x: str, zone: str) -> str:
    """``2026年11月20日``, dots, a date with time, an Excel day number, an instant of a known layout (its local day)."""
    digits = "[0-9]{14}([.][0-9]+)?([-+][0-9]{4})?|(18|19|20)[0-9]{8}([0-9]{2})?([-+][0-9]{4})?"
    return f"""CASE
        WHEN {_serial(x)} THEN DATE '1899-12-30' + CAST(floor(TRY_CAST({x} AS DOUBLE)) AS INTEGER)
        WHEN regexp_full_match({x}, '{digits}') THEN CAST(try_strptime({x}[1:8], '%Y%m%d') AS DATE)
        WHEN length({x}) IN (10, 13) AND regexp_full_match({x}, '[0-9]+') THEN CAST(timezone({zone}, {_epoch(x)}) AS DATE)
        WHEN {_digit_first(x)} AND length({x}) > 10 AND {x}[5] IN ('-', '/') AND TRY_CAST({x}[1:10] AS DATE) IS NOT NULL
            THEN TRY_CAST({x}[1:10] AS DATE)
        WHEN length({x}) >= 8 THEN {let(_spelled_parts(_dashed(x)), "p", _DAY)} END"""


def date(x: str) -> str:
    """Date from any of the layouts."""
    return _joined("date", x)


def _epoch(x: str) -> str:
    """Seconds (10 digits) or milliseconds (13 digits) since 1970."""
    ms = f"CASE WHEN length({x}) = 10 THEN TRY_CAST({x} AS BIGINT) * 1000 ELSE TRY_CAST({x} AS BIGINT) END"
    return f"CASE WHEN {ms} BETWEEN {_EPOCH_MS_FIRST} AND {_EPOCH_MS_LAST} THEN make_timestamptz(({ms}) * 1000) END"


def _fast_timestamp(x: str, zone: str) -> str:
    """ISO with or without zone, slashes, HL7's 14 digits."""
    local = f"timezone({zone}, {{}})"
    zoned = f"({x}[-1] IN ('Z', 'z') OR {x}[-5] IN ('-', '+') OR {x}[-6] IN ('-', '+'))"
    plain = f"CASE WHEN {x}[-1] BETWEEN '0' AND '9' THEN {local.format(f'TRY_CAST({x} AS TIMESTAMP)')} END"
    return f"""CASE
        WHEN {x}[5] IN ('-', '/') AND {_digit_first(x)} THEN
            CASE WHEN length({x}) > 16 AND {zoned} THEN TRY_CAST(upper({x}) AS TIMESTAMPTZ) ELSE {plain} END
        WHEN regexp_full_match({x}, '[0-9]{{14}}') THEN {local.format(f"try_strptime({x}, '%Y%m%d%H%M%S')")} END"""


def twelve_hour(x: str) -> str:
    """Whether a time says morning or afternoon (上午/下午, AM/PM)."""
    return f"regexp_matches(upper({x}), '{_MARK}')"


def is_epoch(x: str) -> str:
    """Whether digits are seconds or milliseconds since 1970; ten digits that are a date and hour are that."""
    hours = f"try_strptime({x}, '%Y%m%d%H') BETWEEN TIMESTAMP '1900-01-01' AND TIMESTAMP '2100-01-01'"
    return f"""(length({x}) IN (10, 13) AND regexp_full_match({x}, '[0-9]+')
        AND (length({x}) = 13 OR coalesce({hours}, false) = false))"""


def _spelled_timestamp(x: str, zone: str) -> str:
    """A date, and a time with hours from 0 to 24 or of a 12 hour clock; 下午 15:05 says the same twice and is read."""
    hour = f"""CASE
        WHEN t.mark = '' THEN t.h
        WHEN p.h = '' OR t.h > 23 THEN NULL
        WHEN t.mark IN {_NIGHT} AND t.h = 12 THEN NULL
        WHEN t.mark IN {_AM} THEN CASE WHEN t.h <= 12 THEN t.h % 12 END
        WHEN t.mark = '中午' AND t.h IN (11, 12) THEN t.h
        WHEN t.h <= 12 THEN t.h % 12 + 12 ELSE t.h END"""
    read = "{'h': coalesce(TRY_CAST(p.h AS INTEGER), 0), 'mark': CASE WHEN p.p <> '' THEN p.p ELSE p.q END}"
    rest = "(coalesce(TRY_CAST(p.i AS INTEGER), 0) * 60 + coalesce(TRY_CAST(p.s AS DOUBLE), 0))"
    fine = "coalesce(TRY_CAST(p.i AS INTEGER), 0) < 60 AND coalesce(TRY_CAST(p.s AS DOUBLE), 0) < 60"
    seconds = let(read, "t", f"CASE WHEN {fine} THEN ({hour}) * 3600 + {rest} END")
    local = f"{_DAY}::TIMESTAMP + to_milliseconds(CAST(round(s * 1000) AS BIGINT))"
    instant = f"CASE WHEN s <= 86400 THEN timezone({zone}, {local}) END"
    return let(_spelled_parts(_dashed(x)), "p", let(seconds, "s", instant))


def _slow_timestamp(x: str, zone: str) -> str:
    hl7 = "^((?:18|19|20)[0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})?([0-9]{2})?([0-9]{2}(?:\\.[0-9]+)?)?([-+][0-9]{2}:?[0-9]{2})?$"
    names = "['y', 'm', 'd', 'h', 'i', 's', 'z']"
    iso = """(p.y || '-' || p.m || '-' || p.d || ' ' || CASE WHEN p.h = '' THEN '00' ELSE p.h END || ':'
        || CASE WHEN p.i = '' THEN '00' ELSE p.i END || ':' || CASE WHEN p.s = '' THEN '00' ELSE p.s END)"""
    packed = f"""CASE WHEN p.y = '' THEN NULL WHEN p.z <> '' THEN TRY_CAST({iso} || p.z AS TIMESTAMPTZ)
        ELSE timezone({zone}, TRY_CAST({iso} AS TIMESTAMP)) END"""
    days = f"TIMESTAMP '1899-12-30' + to_microseconds(CAST(round(TRY_CAST({x} AS DOUBLE) * 86400) AS BIGINT) * 1000000)"
    named = (
        f"regexp_full_match({x}, '[0-9]{{4}}-[0-9-]{{3,5}}[ T][0-9:.]+ ?(UTC|GMT|[A-Z][a-z]+/[A-Za-z_/]+)')"
    )
    return f"""CASE
        WHEN {_serial(x)} THEN timezone({zone}, {days})
        WHEN {is_epoch(x)} THEN {_epoch(x)}
        WHEN {x}[1:8] BETWEEN '18000101' AND '20991231' AND {x}[5] BETWEEN '0' AND '1' AND NOT contains({x}, ' ')
            THEN {let(f"regexp_extract({x}, '{hl7}', {names})", "p", packed)}
        WHEN {named} THEN TRY_CAST({x} AS TIMESTAMPTZ)
        WHEN length({x}) >= 8 THEN {_spelled_timestamp(x, zone)} END"""


def timestamp(x: str) -> str:
    """Instant (UTC) from any of the layouts."""
    return _joined("timestamp", x)


def scientific(x: str) -> str:
    """Whether a text identifier has become a number in scientific notation, as spreadsheets do to 18 digits."""
    return f"(contains(lower({x}), 'e') AND regexp_full_match({x}, '[0-9](\\.[0-9]+)?[eE]\\+?[0-9]{{1,3}}'))"


def fast(kind: str, x: str, zone: str = SHANGHAI) -> str:
    """The expression that reads nearly every value of a contract's logical type; text stays as it is.

    Args:
        zone: SQL expression of the tz database's name of the zone that local times are in.
    """
    if kind == "timestamp":
        return _fast_timestamp(x, zone)
    makers = {"integer": _fast_integer, "number": _fast_number, "boolean": boolean, "date": _fast_date}
    return makers[kind](x) if kind in makers else x


def slow(kind: str, x: str, zone: str = SHANGHAI) -> str | None:
    """The expression for the other layouts of a type; None where ``fast`` knows them all."""
    if kind in ("date", "timestamp"):
        return (_slow_date if kind == "date" else _slow_timestamp)(x, zone)
    makers = {"integer": _slow_integer, "number": _slow_number}
    return makers[kind](x) if kind in makers else None


def _joined(kind: str, x: str) -> str:
    return f"coalesce({fast(kind, x)}, {slow(kind, x)})"


def typed(kind: str, x: str) -> str:
    """The whole expression for a contract's logical type."""
    return fast(kind, x) if slow(kind, x) is None else _joined(kind, x)
