"""Findings for whoever mends them: down to the cell with its file, sheet and line, in the institutions in reach.

What a finding says of a resident (key, values, message) is masked for quality work and clear for a correction, which is
a purpose of its own and is told to the audit. Reads the newest check.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import duckdb

from lake import access, audit, duck, tables
from lake.access import Caller
from lake.settings import settings
from quality.tickets import counting

PAGE_ROWS = 50

_opening = threading.Lock()

#: GB/T 39725 level of a finding's own columns; the other columns are those of the records they come from.
_LEVELS = {
    "finding_id": 2, "rule_id": 2, "domain": 2, "severity": 2, "table_name": 2, "org_code": 1, "field_list": 2,
    "remedy_zh": 2, "source_file": 2, "source_sheet": 2, "source_line": 2, "first_seen_on": 2, "state": 2,
    "products": 2, "effect": 2, "record_key": 4, "observed": 4, "expected": 4, "message_zh": 4,
}  # fmt: skip
_FIELDS = tuple(_LEVELS)
#: Filter -> its column.
FILTERS = {"rule": "rule_id", "org": "org_code", "state": "state", "domain": "domain", "severity": "severity"}


@lru_cache(maxsize=2)
def _database(home: str) -> duckdb.DuckDBPyConnection:
    """One database for all requests, which take cursors of it: making one costs more than a page of findings."""
    return duck.connect()


def _cursor() -> duckdb.DuckDBPyConnection:
    with _opening:
        return _database(str(settings().home)).cursor()


@lru_cache(maxsize=256)
def _counted(source: str, values: tuple[Any, ...]) -> tuple[int, int]:
    """Findings and institutions of a filter; ``source`` names the files of one version, which never change."""
    given = [list(v) if isinstance(v, tuple) else v for v in values]
    with _cursor() as connection:
        found = connection.execute(f"SELECT count(*), count(DISTINCT f.org_code) {source}", given).fetchall()[
            0
        ]
    return int(found[0]), int(found[1])


@lru_cache(maxsize=4)
def _titles(scan: str) -> dict[str, str]:
    with _cursor() as connection:
        return dict(connection.execute(f"SELECT DISTINCT rule_id, title_zh FROM {scan}").fetchall())


def listed(
    caller: Caller, chosen: dict[str, str], page: int, *, actor_role: str, source_ip: str
) -> dict[str, Any] | None:
    """One page of findings, the newest first, and how many there are. None before the first check.

    Args:
        chosen: filter (:data:`FILTERS`) -> value; anything else is left aside.
        page: from 1 on.

    Raises:
        MedlakeError: E681, E683, what the policy refuses.
    """
    at = counting.newest()
    if at is None:
        return None
    used = {FILTERS[name]: value for name, value in chosen.items() if name in FILTERS and value}
    sort = ("first_seen_on", "finding_id")
    shown, where, values = access.select_sql(
        caller, "quality/finding", _FIELDS, "f", filters=used, sort=sort, levels=_LEVELS
    )
    conditions = [where, *(f'f."{column}" = ?' for column in used)]
    values = [*values, *used.values()]
    source = f"FROM {tables.scan_sql('quality/finding', at.finding)} AS f WHERE {' AND '.join(conditions)}"
    total, institutions = _counted(source, tuple(tuple(v) if isinstance(v, list) else v for v in values))
    titles = _titles(tables.scan_sql("quality/rule", at.rule))
    with _cursor() as connection:
        last = max(1, -(-total // PAGE_ROWS))
        page = min(max(page, 1), last)
        cursor = connection.execute(
            f"SELECT {', '.join(shown)} {source} ORDER BY f.first_seen_on DESC, f.finding_id "
            f"LIMIT {PAGE_ROWS} OFFSET {(page - 1) * PAGE_ROWS}",
            values,
        )
        names = [d[0] for d in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    audit.record(
        "findings.list",
        actor=caller.user,
        purpose=caller.purpose,
        tables=["quality/finding"],
        fields=names,
        rows=len(rows),
        result="ok",
        actor_role=actor_role,
        org_code=caller.org_code,
        source_ip=source_ip,
    )
    return {
        "rows": [row | {"title_zh": titles.get(row["rule_id"], "")} for row in rows],
        "total": total,
        "institutions": institutions,
        "page": page,
        "last": last,
        "data_date": at.data_date,
    }
