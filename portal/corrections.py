"""Correction workbooks for the institutions in reach: what can be mended by one, making it, what waits for its source.

Everything here is read and made for the purpose ``correction``; fields that the policy does not show clear are left out
of workbooks and never leave in a file. Handing in is in ``portal.hand_ins``.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lake import access, audit, contracts, duck, registry, runs, tables
from lake.access import Caller
from lake.access_masks import mask_sql
from lake.crypto import sm3_hex
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI
from lake.settings import settings
from portal.accounts import Person
from quality import corrections
from quality.corrections.state import every_sql
from quality.tickets import counting

PURPOSE = "correction"
PAGE_ROWS = 50
#: A workbook under way that did not grow for so long belongs to a process that is gone.
_STALE_SECONDS = 300
STATES = {
    "waiting_for_source": "待源系统更正",
    "confirmed": "源系统已确认",
    "superseded": "以源系统为准",
    "replaced": "已再次更正",
}


def caller(person: Person) -> Caller:
    return Caller(person.user, person.role, person.org_code, PURPOSE)


def reach(person: Person) -> frozenset[str] | None:
    """Institutions whose corrections a person sees; None: all of them."""
    return access.scope(caller(person))


def is_in_reach(person: Person, org_code: str) -> bool:
    seen = reach(person)
    return org_code in registry.org_codes() if seen is None else org_code in seen


def names() -> dict[str, str]:
    """Institution -> its short name."""
    found = registry.orgs().select(["org_code", "org_short_name"]).to_pydict()
    return dict(zip(found["org_code"], found["org_short_name"], strict=True))


def labels(table: str) -> tuple[str, dict[str, str]]:
    """A table's Chinese name and those of its fields."""
    try:
        contract = contracts.table_contract(table)
    except KeyError:
        return table, {}
    return contract.label_zh, {f.name: f.label_zh for f in contract.fields}


@lru_cache(maxsize=4)
def _mendable(scan: str, delivered: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    """Per institution: open findings on records of delivered tables, those records, findings elsewhere. ``scan`` names
    the files of one version, which never change."""
    with duck.connect() as connection:
        return tuple(
            connection.execute(
                f"""SELECT org_code, count(*) FILTER (list_contains($1, table_name)) AS findings,
                       count(DISTINCT table_name || '|' || record_key) FILTER (list_contains($1, table_name)) AS records,
                       count(*) FILTER (NOT list_contains($1, table_name)) AS elsewhere
                FROM {scan} WHERE state = 'open' AND org_code <> '' GROUP BY ALL ORDER BY findings DESC, org_code""",
                [list(delivered)],
            )
            .to_arrow_table()
            .to_pylist()
        )


def _delivered(run: runs.Run) -> tuple[str, ...]:
    known = {t for feed in contracts.contracts().values() for t in feed.tables}
    return tuple(sorted(n.split("/")[1] for n in run.versions if n.removeprefix("silver/") in known))


def overview(person: Person, org: str = "") -> dict[str, Any] | None:
    """Institutions in reach with what a workbook can mend and what waits. None before the first check.

    Returns:
        data_date; rows: org_code, org_short_name, findings, records, elsewhere, waiting, waiting_since, days (that the
        oldest has waited, at the date of the check), book (``none``, ``making`` or the file's time).
    """
    at = counting.newest()
    if at is None:
        return None
    run = runs.get_run(at.data_date)
    seen, short = reach(person), names()
    found = {
        r["org_code"]: dict(r)
        for r in _mendable(tables.scan_sql("quality/finding", at.finding), _delivered(run))
    }
    for row in corrections.status():
        kept = found.setdefault(
            row["org_code"], {"org_code": row["org_code"], "findings": 0, "records": 0, "elsewhere": 0}
        )
        since = [d for d in (kept.get("waiting_since"), row["waiting_since"]) if d]
        kept["waiting"] = kept.get("waiting", 0) + row["waiting_for_source"]
        kept["waiting_since"] = min(since) if since else None
    rows = [
        r
        | {
            "waiting": r.get("waiting", 0),
            "org_short_name": short.get(r["org_code"], r["org_code"]),
            "days": max(0, (at.data_date - s).days) if (s := r.get("waiting_since")) else None,
            "book": book(person, r["org_code"], at.data_date),
        }
        for r in found.values()
        if (seen is None or r["org_code"] in seen)
        and (not org or org in r["org_code"] or org in short.get(r["org_code"], ""))
    ]
    return {"data_date": at.data_date, "rows": rows}


def delivery_day() -> date:
    """The day a hand-in belongs to: the one after the newest check, which is the first that can see it."""
    at = counting.newest()
    return at.data_date + timedelta(days=1) if at else datetime.now(UTC).astimezone(SHANGHAI).date()


# workbooks


def _folder(person: Person) -> Path:
    """A person's own workbooks: what is in one depends on what that person may see."""
    return settings().folder("corrections_portal") / sm3_hex(f"{person.user}|{person.role}".encode())[:16]


def _path(person: Person, org_code: str, on: date) -> Path:
    return _folder(person) / on.isoformat() / org_code / f"correction_{org_code}_{on:%Y%m%d}.xlsx"


def book(person: Person, org_code: str, on: date) -> dict[str, Any]:
    """State of a person's workbook of an institution: ``none``, ``making`` or ``ready`` with ``at`` (epoch seconds)
    and ``bytes``."""
    path = _path(person, org_code, on)
    try:
        if time.time() - _draft(path).stat().st_mtime < _STALE_SECONDS:
            return {"state": "making"}
    except FileNotFoundError:
        pass
    try:
        found = path.stat()
    except FileNotFoundError:
        return {"state": "none"}
    return {"state": "ready", "at": found.st_mtime, "bytes": found.st_size}


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def ask(person: Person, org_code: str) -> None:
    """Say that a workbook is under way, so that the next page already shows it; :func:`make` follows."""
    at = counting.newest()
    path = _path(person, org_code, at.data_date) if at else None
    if path is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _draft(path).touch(mode=0o600)


def make(person: Person, org_code: str) -> None:
    """Write the workbook of an institution's open findings; somebody pressing twice makes one.

    Raises:
        MedlakeError: E681 the institution is not in reach; E683 the role corrects nothing; E430 no check.
    """
    asked, at = caller(person), counting.newest()
    if not is_in_reach(person, org_code):
        raise MedlakeError("E681", place=org_code, table="correction")
    access.check_purpose(asked, "silver/correction")
    if at is None:
        raise MedlakeError("E430", data_date="—", org_code=org_code)

    def visible(table: str, fields: list[str]) -> list[str]:
        return [f for f, act in access.columns(asked, table, fields).items() if act == "clear"]

    folder = _folder(person)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with FileLock(folder / f"{org_code}.lock", timeout=0):
            try:
                corrections.out(org_code, at.data_date, folder=folder, visible=visible, actor=person.user)
            except BaseException:
                _draft(_path(person, org_code, at.data_date)).unlink(missing_ok=True)
                raise
    except Timeout:
        return


def ready(person: Person, org_code: str) -> Path | None:
    """The workbook to download, told to the audit; None when it is not there or not in reach."""
    at = counting.newest()
    if at is None or not is_in_reach(person, org_code):
        return None
    path = _path(person, org_code, at.data_date)
    if not path.is_file():
        return None
    audit.record(
        "correction.download", actor=person.user, purpose=PURPOSE, tables=["silver/*"], fields=["*"], rows=0,
        result="ok", actor_role=person.role, org_code=org_code, data_date=at.data_date.isoformat(),
    )  # fmt: skip
    return path


# what was corrected


def overlays(person: Person, state: str, org: str, page: int) -> dict[str, Any]:
    """Corrections with their states, the longest waiting first; without a value of any record.

    Returns:
        rows: correction_id, table_name, table_zh, org_code, org_short_name, field, field_zh, state, handed_in_on,
        settled_on, days; total, page, last; counts {state: corrections}.
    """
    seen, short, at = reach(person), names(), counting.newest()
    where = ["($1 IS NULL OR list_contains($1, org_code))", "($2 = '' OR org_code = $2)"]
    values: list[Any] = [None if seen is None else sorted(seen), org]
    with duck.connect() as connection:
        connection.execute(
            f"CREATE TEMP TABLE mine AS SELECT * FROM {every_sql()} WHERE {' AND '.join(where)}", values
        )
        counts = dict(connection.execute("SELECT state, count(*) FROM mine GROUP BY ALL").fetchall())
        total = counts.get(state, 0)
        last = max(1, -(-total // PAGE_ROWS))
        page = min(max(page, 1), last)
        rows = (
            connection.execute(
                f"""SELECT correction_id, table_name, org_code, field, state, handed_in_on, settled_on FROM mine
                WHERE state = ? ORDER BY {"handed_in_on" if state == "waiting_for_source" else "settled_on DESC"},
                    org_code, correction_id LIMIT {PAGE_ROWS} OFFSET {(page - 1) * PAGE_ROWS}""",
                [state],
            )
            .to_arrow_table()
            .to_pylist()
        )
    for row in rows:
        row["table_zh"], fields = labels(row["table_name"])
        row["field_zh"] = fields.get(row["field"], row["field"])
        row["org_short_name"] = short.get(row["org_code"], row["org_code"])
        until = row["settled_on"] or (at.data_date if at else row["handed_in_on"])
        row["days"] = max(0, (until - row["handed_in_on"]).days)
    return {"rows": rows, "total": total, "page": page, "last": last, "counts": counts}


def shown_sql(asked: Caller, table: str, field: str, expression: str) -> str:
    """A value of a field as the policy lets a person see it, as SQL; whole numbers without a point."""
    known = next((t for c in contracts.contracts().values() if (t := c.tables.get(table))), None)
    if known and any(f.name == field and f.duck_type == "DOUBLE" for f in known.fields):
        expression = f"regexp_replace({expression}, '\\.0$', '')"
    act = access.columns(asked, table, [field])[field]
    if act == "clear":
        return expression
    return mask_sql(access.mask_of(field), expression) if act == "mask" else "'***'"


def one(person: Person, correction_id: str) -> dict[str, Any]:
    """One correction with its values as the policy shows them; the look is a line of the audit.

    Raises:
        MedlakeError: E439, there is none in reach.
    """
    seen, asked = reach(person), caller(person)
    with duck.connect() as connection:
        head = connection.execute(
            f"""SELECT table_name, field FROM {every_sql()} WHERE correction_id = ?
            AND (? IS NULL OR list_contains(?, org_code))""",
            [correction_id, *[None if seen is None else sorted(seen)] * 2],
        ).fetchone()
        if head is None:
            raise MedlakeError("E439", correction_id=correction_id[:40])
        access.check_purpose(asked, f"silver/{head[0]}")
        (row,) = (
            connection.execute(
                f"""SELECT correction_id, table_name, org_code, field, state, handed_in_on, settled_on,
                    {shown_sql(asked, head[0], "record_key", "record_key")} AS record_key,
                    {shown_sql(asked, head[0], head[1], "source_value")} AS source_value,
                    {shown_sql(asked, head[0], head[1], "value_after")} AS value_after
                FROM {every_sql()} WHERE correction_id = ?""",
                [correction_id],
            )
            .to_arrow_table()
            .to_pylist()
        )
    audit.record(
        "correction.show", actor=person.user, purpose=PURPOSE, tables=[f"silver/{head[0]}"], fields=[head[1]], rows=1,
        result="shown", actor_role=person.role, org_code=row["org_code"],
    )  # fmt: skip
    row["table_zh"], fields = labels(head[0])
    return dict(row) | {
        "field_zh": fields.get(head[1], head[1]),
        "org_short_name": names().get(row["org_code"], ""),
    }
