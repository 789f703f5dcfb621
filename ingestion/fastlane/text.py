"""Texts of results, read the same way in Python and in SQL: one character map, one pattern for numbers."""

from __future__ import annotations

import re
from datetime import date, datetime
from functools import lru_cache

from lake.local_time import SHANGHAI

_HALF = "".join(chr(c) for c in range(0x21, 0x7F))
_FULL = "".join(chr(c + 0xFEE0) for c in range(0x21, 0x7F))
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BLANKS = " \t\r\n\u3000\u00a0"
#: Characters and what they become: full width to half width, capitals to small; what has no partner vanishes.
MAP_FROM = _FULL + _UPPER + "≤≥μ" + _BLANKS
MAP_TO = _HALF.translate(str.maketrans(_UPPER, _UPPER.lower())) + _UPPER.lower() + "<>µ"
_MAP = {ord(a): (MAP_TO[i] if i < len(MAP_TO) else None) for i, a in enumerate(MAP_FROM)}

#: A number with an optional sign of comparison, after ``plain``; ``<=`` means ``<`` for a limit.
NUMBER = r"^([<>]?)=?([-+]?[0-9]{1,15}(?:\.[0-9]{1,15})?(?:e[-+]?[0-9]{1,2})?)[↑↓]*$"
_NUMBER = re.compile(NUMBER)
_STAMP = re.compile(
    r"^(\d{4})-?(\d{2})-?(\d{2})(?:[T ]?(\d{2}):?(\d{2})(?::?(\d{2})(?:\.(\d{1,6})\d*)?)?)?(Z|[+-]\d{2}:?\d{2})?$"
)


@lru_cache(maxsize=65_536)
def plain(text: str | None) -> str:
    """Half width, small letters, no blanks."""
    return (text or "").translate(_MAP)


def quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def sql_macro() -> str:
    """The statement that gives a DuckDB connection the function ``plain``."""
    mapped = (
        f"translate(x, {quoted(MAP_FROM)}, {quoted(MAP_TO)})"  # slow, so only where a character calls for it
    )
    touched = quoted("[" + "".join(f"\\x{{{ord(c):x}}}" for c in MAP_FROM) + "]")
    case = f"CASE WHEN x IS NULL THEN '' WHEN regexp_matches(x, {touched}) THEN {mapped} ELSE x END"
    return f"CREATE OR REPLACE TEMP MACRO plain(x) AS {case}"


def number(text: str) -> tuple[float | None, str]:
    """(number, comparator) of a plain text; (None, '') for words."""
    found = _NUMBER.match(text)
    return (float(found.group(2)), found.group(1)) if found else (None, "")


@lru_cache(maxsize=65_536)
def instant(text: str | None) -> datetime | None:
    """An instant as sources write it: ISO or HL7, without a zone Asia/Shanghai; None when it is none."""
    found = _STAMP.match((text or "").strip())
    if not found:
        return None
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        at = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))
        at = at.replace(microsecond=int((fraction or "0").ljust(6, "0")))
        if zone in (None, ""):
            return at.replace(tzinfo=SHANGHAI)
        offset = "+00:00" if zone == "Z" else zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
        return datetime.fromisoformat(at.isoformat() + offset)
    except ValueError:
        return None


@lru_cache(maxsize=65_536)
def day(text: str | None) -> date | None:
    """A date as sources write it; None when it is none."""
    at = instant(text)
    return at.date() if at else None
