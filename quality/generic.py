"""Rules that ask the same of every table: codes in their value set, possible dates, clean text, known parents.

Their conditions are made from the contracts, one target per table that has such fields (``each`` in a rule).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from lake.contracts import Field, TableContract, contract
from lake.settings import settings
from quality.rule import Param, Query
from quality.shapes import contract_tables

Made = tuple[dict[str, Any], Query | None]
Node = Mapping[str, Any]

#: Dates that say when something is planned or ends: they may lie ahead.
_AHEAD = frozenset({"next_visit_on", "due_on", "ends_on", "expires_on", "edd_on", "planned_on", "valid_to", "starts_on",
                    "license_valid_until"})  # fmt: skip
#: The date on which a record's service was given, by preference.
_SERVICE_DATES = (
    "visited_on",
    "exam_on",
    "assessed_on",
    "screened_on",
    "signed_on",
    "done_on",
    "stopped_on",
    "carded_on",
)


def quote(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


@lru_cache(maxsize=512)
def code_list(system: str) -> tuple[str, ...]:
    """The codes of a value set that the platform holds; () where it is an outside list."""
    path = settings().seeds_dir / "codes" / f"{system}.csv"
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8") as file:
        return tuple(row["code"] for row in csv.DictReader(file))


def _tables(each: Node) -> Iterator[TableContract]:
    for feed in each["feeds"]:
        yield from contract(feed).tables.values()
    known = contract_tables()
    yield from (known[t] for t in each.get("tables", ()))


def _named(fields: list[Field], is_bad: Callable[[Field], str]) -> str:
    """Which of the fields fail, as ``label=value`` joined."""
    parts = [f"case when {is_bad(f)} then concat_ws('=', {quote(f.label_zh)}, {f.name}) end" for f in fields]
    return f"concat_ws('、', {', '.join(parts)})"


def _checked(
    table: TableContract, fields: list[Field], is_bad: Callable[[Field], str], says: str
) -> dict[str, Any]:
    return {
        "table": table.name,
        "eligibility": " or ".join(f"{f.name} is not null" for f in fields),
        "condition": " or ".join(f"coalesce({is_bad(f)}, false)" for f in fields),
        "fields": [f.name for f in fields],
        "observed": {"bad": _named(fields, is_bad)},
        "message_zh": f"{table.label_zh}：{{bad}}{says}",
    }


def codes(node: Node, params: Mapping[str, Param]) -> Iterator[Made]:
    """Coded fields against their value sets."""

    def is_bad(field: Field) -> str:
        listed = ", ".join(quote(c) for c in code_list(field.code_system))
        return f"{field.name} not in ({listed})"

    left_out = set(node["each"].get("except", ()))
    for table in _tables(node["each"]):
        fields = [f for f in table.fields if code_list(f.code_system) and f.name not in left_out]
        if fields:
            yield _checked(table, fields, is_bad, "不在值域"), None


def dates(node: Node, params: Mapping[str, Param]) -> Iterator[Made]:
    """Dates in the future, before 1900, or placeholders."""

    def is_bad(field: Field) -> str:
        day = field.name if field.type == "date" else f"local_date({field.name})"
        outside = (
            f"{day} < date '1900-01-01' or {day} in (date '1900-01-01', date '2099-12-31', date '9999-12-31')"
        )
        return outside if field.name in _AHEAD else f"{day} > :as_of or {outside}"

    left_out = set(node["each"].get("except", ()))
    for table in _tables(node["each"]):
        fields = [f for f in table.fields if f.type in ("date", "timestamp") and f.name not in left_out]
        if fields:
            yield _checked(table, fields, is_bad, "不可能或是占位日期"), None


#: Replacement characters, GBK read as UTF-8 and back, full-width digits and letters, blanks or line breaks at an end.
_DIRTY = r"\x{FFFD}|锟斤拷|烫烫|[０-９Ａ-Ｚａ-ｚ]|^[\s　]|[\s　]$"


def texts(node: Node, params: Mapping[str, Param]) -> Iterator[Made]:
    """Free text that was damaged on its way."""
    joined = _DIRTY.replace("^", "(?:^|␟)").replace("$", "(?:$|␟)")

    def is_bad(field: Field) -> str:
        return f"regexp_matches({field.name}, {quote(_DIRTY)})"

    left_out = set(node["each"].get("except", ()))
    for table in _tables(node["each"]):
        fields = [
            f for f in table.fields if f.type == "string" and not f.code_system and f.name not in left_out
        ]
        if fields:
            made = _checked(table, fields, is_bad, "含乱码、全角字符或首尾空白")
            # one regular expression per record; which field it was is asked of the failing ones alone
            made["condition"] = (
                f"regexp_matches(concat_ws('␟', {', '.join(f.name for f in fields)}), {quote(joined)})"
            )
            yield made, None


def parents(node: Node, params: Mapping[str, Param]) -> Iterator[Made]:
    """Records whose parent was never delivered. A parent table that is empty or not connected tells nothing."""
    known = contract_tables()
    wanted: Mapping[str, str] = node["each"]["parents"]
    for table in _tables(node["each"]):
        pairs = [
            (f.name, known[parent])
            for column, parent in wanted.items()
            for f in table.fields
            if column in (f.name, f"{table.name}.{f.name}") and parent != table.name
        ]
        if not pairs:
            continue
        looks, joins = [], []
        for i, (column, parent) in enumerate(pairs):
            key = parent.key[0]
            # an archive is known over all institutions, a hospital's numbers within it
            across = "" if parent.feed == "public_health" else f" and p{i}.org_code = t.org_code"
            own = "" if parent.feed == "public_health" else "org_code, "
            joins.append(
                f"left join (select distinct {own}{key} from {parent.name}) as p{i} on p{i}.{key} = t.{column}{across}"
            )
            is_known = f"exists (select 1 from {parent.name})"
            looks.append(
                f"case when t.{column} is not null and {is_known} and p{i}.{key} is null then '{column}' end"
            )
        query = Query(
            f"parents_of_{table.name}",
            table.name,
            (table.name, *dict.fromkeys(p.name for _, p in pairs)),
            "city",
            {},
            f"select t.rid, concat_ws('、', {', '.join(looks)}) as orphaned from {table.name} as t {' '.join(joins)}",
            (pairs[0][1].name,) if len(pairs) == 1 else (),
        )
        labels = {f.name: f.label_zh for f in table.fields}
        told = ", ".join(
            f"case when contains({query.name}.orphaned, '{c}') then concat_ws('=', {quote(labels[c])}, {c}) end"
            for c, _ in pairs
        )
        yield (
            {
                "table": table.name,
                "query": query.name,
                "eligibility": "(" + " or ".join(f"{c} is not null" for c, _ in pairs) + ")"
                f" and ({query.name}.orphaned = '' or :as_of - data_date > :wait_days)",
                "condition": f"{query.name}.orphaned <> ''",
                "fields": [c for c, _ in pairs],
                "observed": {"orphaned": f"concat_ws('、', {told})"},
                "message_zh": f"{table.label_zh}：{{orphaned}}无主记录",
            },
            query,
        )


def versions(node: Node, params: Mapping[str, Param]) -> Iterator[Made]:
    """One business key delivered with different contents and the same update time: bronze keeps them all."""
    for table in _tables(node["each"]):
        newest = next((f.name for f in table.fields if f.name in ("source_updated_at", "recorded_at")), None)
        if newest is None or any(table.field(k).type != "string" for k in table.key):
            continue
        keys = ", ".join(table.key)
        equal = " and ".join(f"c.{k} = t.{k}" for k in table.key)
        bronze = f"bronze_{table.name}"
        query = Query(
            f"versions_of_{table.name}",
            table.name,
            (table.name, bronze),
            "person",
            {},
            f"""with conflict as (
                select org_code, {keys}, count(distinct raw_hash) as contents
                from {bronze} group by org_code, {keys}, newest_by having count(distinct raw_hash) > 1
            )
            select t.rid, max(c.contents) as contents from {table.name} as t
            inner join conflict as c on c.org_code = t.org_code and {equal}
            group by t.rid""",
            (bronze,),
        )
        yield (
            {
                "table": table.name,
                "query": query.name,
                "eligibility": "true",
                "condition": f"coalesce({query.name}.contents > 1, false)",
                "fields": [newest],
                "observed": {"contents": f"{query.name}.contents"},
                "expected": {"contents": "1"},
                "message_zh": f"{table.label_zh}：同一主键、同一更新时间有{{contents}}个不同版本",
            },
            query,
        )


def staff(node: Node, params: Mapping[str, Param]) -> Iterator[Made]:
    """Whether the doctor was employed and licensed on the day of the service. One who is not in the register is not
    judged: registers are seldom whole."""
    for table in _tables(node["each"]):
        names = {f.name for f in table.fields}
        day = next((d for d in _SERVICE_DATES if d in names), None)
        if day is None or "doctor_id" not in names:
            continue
        query = Query(
            f"staff_of_{table.name}",
            table.name,
            (table.name, "staff"),
            "city",
            {},
            f"""select t.rid, bool_or(
                    t.{day} >= coalesce(s.hired_on, t.{day}) and t.{day} <= coalesce(s.left_on, t.{day})
                ) as is_employed,
                bool_or(t.{day} <= coalesce(s.license_valid_until, t.{day})) as is_licensed
            from {table.name} as t inner join staff as s on s.staff_id = t.doctor_id
            group by t.rid""",
            ("staff",),
        )
        yield (
            {
                "table": table.name,
                "query": query.name,
                "eligibility": f"{query.name}.is_employed is not null",
                "condition": f"not {query.name}.is_employed or not {query.name}.is_licensed",
                "fields": ["doctor_id", day],
                "observed": {
                    "doctor_id": "doctor_id",
                    "service_on": day,
                    "problem": f"case when not {query.name}.is_employed then '不在职' else '执业证书已过期' end",
                },
                "message_zh": f"{table.label_zh}：医生{{doctor_id}}于{{service_on}}{{problem}}",
            },
            query,
        )


_KINDS: dict[str, Callable[[Node, Mapping[str, Param]], Iterator[Made]]] = {
    "codes": codes,
    "dates": dates,
    "texts": texts,
    "parents": parents,
    "versions": versions,
    "staff": staff,
}


def expand(node: Node, params: Mapping[str, Param]) -> list[Made]:
    """A rule's targets, one per table, each with the set query that it needs."""
    return list(_KINDS[node["each"]["what"]](node, params))
