"""The counts that a report's cells stand for: exact, over what is visible, within the caller's jurisdiction."""

from __future__ import annotations

import calendar
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import duckdb
import yaml

from lake import access
from lake.errors import MedlakeError
from products import visible
from products.exports.query import Compiled, Compiler, compile_template
from products.exports.template import Template, parse

FILE = Path(__file__).with_name("indicators.yaml")
Span = Literal["month", "year", "upto"]
SPANS_ZH = {"month": "本月", "year": "本年累计", "upto": "期末"}


@dataclass(frozen=True)
class Indicator:
    """``count``: fields whose distinct combinations are counted; ``date``: the day that says which month."""

    code: str
    label_zh: str
    table: str
    date: str
    span: Span
    count: list[str]
    source: str | None = None
    record: str | None = None
    open_until: str | None = None
    conditions: list[dict[str, Any]] = field(default_factory=list)

    def template(self, span: Span, columns: list[str]) -> Template:
        """The rows that are counted, as an export's template."""
        node: dict[str, Any] = {
            "template": self.code.lower(), "title_zh": self.label_zh, "table": self.table, "columns": columns,
            "period": self.date, "conditions": self.conditions, "purpose": "statutory_report",
        }  # fmt: skip
        node |= {k: v for k, v in (("source", self.source), ("record", self.record)) if v}
        if self.open_until and span == "upto":
            node["open_until"] = self.open_until
        return parse(node, self.code)


@lru_cache(maxsize=1)
def known() -> dict[str, Indicator]:
    """Every indicator by code."""
    node = yaml.load(FILE.read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {row["code"]: Indicator(**row) for row in node["indicators"]}


def get(code: str) -> Indicator:
    """One indicator.

    Raises:
        MedlakeError: E632, there is none.
    """
    if code not in known():
        raise MedlakeError("E632", place=code, indicator=code)
    return known()[code]


def days(month: str, span: Span) -> tuple[date | None, date]:
    """First and last day (Shanghai) that count for a month ``YYYY-MM``.

    Raises:
        MedlakeError: E634, it is no month.
    """
    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError:
        raise MedlakeError("E634", detail=f"month {month[:10]}") from None
    last = first.replace(day=calendar.monthrange(first.year, first.month)[1])
    return {"month": first, "year": first.replace(month=1), "upto": None}[span], last


def count(
    con: duckdb.DuckDBPyConnection, code: str, month: str, caller: access.Caller, orgs: list[str],
    span: Span | None = None, *, whose: str = "",
) -> int:  # fmt: skip
    """The exact count of an indicator; 0 where its source was never delivered.

    Args:
        whose: a table that takes the index numbers (empi_id) of the residents whose records are counted.

    Raises:
        MedlakeError: E632 no such indicator; E634 no month; E681-E684 of the policy.
    """
    indicator = get(code)
    wanted = cast(Span, span or indicator.span)
    first, last = days(month, wanted)
    template = indicator.template(wanted, indicator.count)
    work = Compiler(template, caller)
    work.check()
    access.check_purpose(caller, f"silver/{indicator.table}")
    if not visible.is_there(f"silver/{indicator.table}"):
        return 0
    where = work.where(first, last, orgs)
    keys = ", ".join(f'r."{k}"' for k in indicator.count)
    sql = f"SELECT count(*) FROM (SELECT DISTINCT {keys} FROM {visible.scan(f'silver/{indicator.table}')} AS r WHERE {where})"
    if whose and work.has_persons():
        con.execute(
            f"INSERT INTO {whose} SELECT DISTINCT i.empi_id FROM {visible.scan(f'silver/{indicator.table}')} AS r "
            f'JOIN ({work.crosswalk()}) AS i ON i.org_code = r.org_code AND i.identifier_value = r."{indicator.record}" '
            f"WHERE {where}"
        )
    found = con.execute(sql).fetchone()
    return int(found[0]) if found else 0


def rows(code: str, month: str, caller: access.Caller, orgs: list[str], span: Span | None = None) -> Compiled:
    """The query of the rows behind a count, resident's fields masked as the policy says."""
    indicator = get(code)
    wanted = cast(Span, span or indicator.span)
    first, last = days(month, wanted)
    person = (
        ["person.name", "person.sex_code", "person.birth_date", "person.id_no"] if indicator.record else []
    )
    columns = ["org.org_short_name", *person, *dict.fromkeys([indicator.date, *indicator.count])]
    return compile_template(indicator.template(wanted, columns), caller, first=first, last=last, orgs=orgs)
