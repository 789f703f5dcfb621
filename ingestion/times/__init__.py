"""Which zone a source's local times are in: Asia/Shanghai, unless a reviewed row says otherwise.

``zones.csv`` beside this file and the overlay ``time_zone`` (``ingestion.reviewed``): feed, institution, table and
field (each empty: any), the tz database's name of the zone, and the days of delivery for which it holds. A time
that carries its own zone keeps it.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from zoneinfo import available_timezones

from ingestion import reviewed
from ingestion.typing_sql import SHANGHAI
from lake.errors import MedlakeError

_PATH = Path(__file__).parent / "zones.csv"

#: First and last instant of China's summer times (1986 to 1991): local times in between follow the tz database.
SUMMER_TIME = ("1986-05-03 18:00:00+00", "1991-09-14 16:00:00+00")


@lru_cache(maxsize=4)
def _zones(_stamp: tuple[str, int, int]) -> tuple[reviewed.Row, ...]:
    rows = (*reviewed.read(_PATH), *reviewed.overlay("time_zone"))
    for number, row in enumerate(rows, 2):
        if row["zone"] not in available_timezones():
            raise MedlakeError("E229", place=f"time_zone:{number}")
    return rows


def zone_rows(feed: str, table: str, field: str, on: date | None = None) -> list[reviewed.Row]:
    """Rows that hold for a field, the one that counts most first: the institution's own, then the later one.

    Raises:
        MedlakeError: E229, a row names a zone that the tz database does not have.
    """
    day = on or date.max
    found = [
        (bool(r["org_code"]), number, r)
        for number, r in enumerate(_zones(reviewed.stamp("time_zone")))
        if r["feed"] in ("", feed) and r["table"] in ("", table) and r["field"] in ("", field)
        if (r["valid_from"] or "0001-01-01") <= day.isoformat() <= (r["valid_to"] or "9999-12-31")
    ]
    return [r for _, _, r in sorted(found, key=lambda f: (f[0], f[1]), reverse=True)]


def zone_sql(feed: str, table: str, field: str, on: date | None = None) -> str:
    """SQL expression of the zone of a field's local times, over a relation ``s`` that has ``org_code``."""
    rows = zone_rows(feed, table, field, on)
    if not rows:
        return SHANGHAI
    cases = [
        f"WHEN s.org_code = '{r['org_code']}' THEN '{r['zone']}'"
        if r["org_code"]
        else f"WHEN true THEN '{r['zone']}'"
        for r in rows
    ]
    return f"CASE {' '.join(cases)} ELSE {SHANGHAI} END"
