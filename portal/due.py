"""What is to be done this week at the institutions in reach, and for whom: the due list of the newest check, by the policy.

Names and telephones are shown as the role's purpose allows, and each page that shows them is in the audit with its
residents. Days are local.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import Any

from lake import access, audit, duck, runs, tables
from lake.settings import settings
from portal import work as my_work
from portal.accounts import Person
from products import visible
from quality.due.daily import TABLE

PAGE_ROWS = 50
#: Days ahead that may be chosen, the first without a choice.
WINDOWS = (7, 30)

#: GB/T 39725 level of the list's columns, and of the two that the resident's own line adds.
_LEVELS = {
    "what_zh": 2, "due_on": 2, "fails_on": 2, "org_code": 1, "doctor_id": 2, "record_key": 4, "empi_id": 4,
    "name": 4, "phone": 4,
}  # fmt: skip
_PERSON = "silver/person"


def newest() -> tuple[int, date] | None:
    """(version of the due list, its date) of the newest check that has one."""
    run = runs.latest_run()
    while run is not None and TABLE not in run.versions:
        run = runs.previous_run(run.data_date)
    return None if run is None else (run.versions[TABLE], run.data_date)


@lru_cache(maxsize=256)
def counts(
    _home: str, version: int, day: date, orgs: tuple[str, ...] | None, within: int = WINDOWS[0]
) -> tuple[dict[str, Any], ...]:
    """What falls due within so many days, by what is to be done: ``what_zh``, ``due``, ``late``, ``fails_on``. A version
    of the list never changes, so this is computed once."""
    of = "" if orgs is None else "AND list_contains($2, org_code)"
    with duck.connect() as connection:
        found = connection.execute(
            f"""SELECT coalesce(what_zh, rule_id) AS what_zh, count(*) AS due,
                count(*) FILTER (due_on < $1) AS late, min(fails_on) AS fails_on
            FROM {tables.scan_sql(TABLE, version)} WHERE due_on <= $1 + {int(within)} {of}
            GROUP BY 1 ORDER BY due DESC, 1""",
            [day, *([list(orgs)] if orgs is not None else [])],
        )
        return tuple(found.to_arrow_table().to_pylist())


def of_person(person: Person, within: int = WINDOWS[0]) -> tuple[tuple[dict[str, Any], ...], date] | None:
    """(counts of the institutions in reach, the list's date); None before the first list."""
    at = newest()
    if at is None:
        return None
    seen = access.scope(my_work.caller(person))
    orgs = None if seen is None else tuple(sorted(seen))
    return counts(str(settings().home), *at, orgs, within), at[1]


def listed(person: Person, what: str, within: int, page: int, source_ip: str) -> dict[str, Any] | None:
    """One page of the list, what fails first on top; None before the first list. Told to the audit.

    Raises:
        MedlakeError: E681, E683, what the policy refuses.
    """
    at = newest()
    if at is None:
        return None
    version, day = at
    within = within if within in WINDOWS else WINDOWS[0]
    caller = my_work.caller(person)
    used = ("due_on", "what_zh", "fails_on")
    shown, where, values = access.select_sql(
        caller, TABLE, tuple(_LEVELS), "t", filters=used, sort=used, levels=_LEVELS
    )
    found = of_person(person, within)
    kinds = found[0] if found else ()
    total = sum(k["due"] for k in kinds if not what or k["what_zh"] == what)
    last = max(1, -(-total // PAGE_ROWS))
    page = min(max(page, 1), last)
    names = "NULL::VARCHAR AS name, NULL::VARCHAR AS phone FROM page"
    if visible.is_there(_PERSON):
        names = (
            f"p.name, p.phone FROM page LEFT JOIN {visible.scan(_PERSON)} AS p ON p.empi_id = page.empi_id"
        )
    order = "t.fails_on, t.due_on, t.record_key"
    chosen = "AND coalesce(t.what_zh, t.rule_id) = ?" if what else ""
    with duck.connect() as connection:
        cursor = connection.execute(
            f"""WITH page AS (SELECT t.* FROM {tables.scan_sql(TABLE, version)} AS t
                WHERE {where} AND t.due_on <= ?::DATE + {within} {chosen}
                ORDER BY {order} LIMIT {PAGE_ROWS} OFFSET {(page - 1) * PAGE_ROWS}),
            t AS (SELECT page.*, {names})
            SELECT {", ".join(shown)}, t.empi_id AS whose FROM t ORDER BY {order}""",
            [*values, day, *([what] if what else [])],
        )
        rows = cursor.to_arrow_table().to_pylist()
    whose = {row.pop("whose") for row in rows} - {None}
    audit.record(
        "due.list",
        actor=person.user,
        purpose=caller.purpose,
        tables=[TABLE, _PERSON],
        fields=sorted(rows[0]) if rows else [],
        rows=len(rows),
        result="ok",
        actor_role=person.role,
        org_code=person.org_code,
        source_ip=source_ip,
        persons=whose,
    )
    return {
        "rows": rows,
        "kinds": kinds,
        "total": total,
        "page": page,
        "last": last,
        "day": day,
        "within": within,
    }
