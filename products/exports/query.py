"""Compiles a template to SQL under the access policy: how many rows are planned, and the rows.

The plan counts the template's own table alone; the rows join residents, institutions and newest visits to it. So a
join that drops or doubles rows shows as planned <> written. Masks and the row scope are in the SQL: the engine never
hands out a value that the policy hides.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache

from lake import access, contracts
from lake.duck import literal
from lake.errors import MedlakeError
from lake.settings import settings
from products import visible
from products.exports.template import Column, Template

_ORG_LABELS = {
    "org_code": "机构编码",
    "org_name": "机构名称",
    "org_short_name": "机构简称",
    "org_level_code": "机构级别",
}
_PERSON_LABELS = {"name": "姓名", "sex_code": "性别", "birth_date": "出生日期", "id_no": "证件号码", "phone": "联系电话",
                  "addr_detail": "详细地址", "region_code": "居住区划", "empi_id": "主索引号"}  # fmt: skip
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")


@dataclass(frozen=True)
class Header:
    """One column as it stands in the file. ``kind``: text, number, date, instant. ``act``: clear or mask."""

    field: str
    label_zh: str
    kind: str
    level: int
    unit: str
    act: str


@dataclass
class Compiled:
    """``rows_sql`` gives the columns ``c0 … cn`` in order and ``whose``, the resident's index number for the audit;
    ``codes``: name of a table (code, name_zh) that ``rows_sql`` joins -> code system, for systems of many codes;
    ``unknown_sql``: rows that no condition could decide, their field being empty.

    The same rows in steps, for a file of any size in little memory (``products.exports.gather``): ``picked_sql`` the
    template's own rows, ``order_sql`` their row ids in order, ``beside`` what stands beside each (table -> SELECT text
    with the row's number ``n``), ``part_sql`` the columns of the rows from ``{first}`` to before ``{last}``."""

    headers: list[Header]
    hidden: list[str]
    reads: list[str]
    is_there: bool
    count_sql: str = ""
    rows_sql: str = ""
    picked_sql: str = ""
    order_sql: str = ""
    beside: dict[str, str] = field(default_factory=dict)
    part_sql: str = ""
    unknown_sql: str = ""
    codes: dict[str, str] = field(default_factory=dict)


def _known(table: str) -> dict[str, contracts.Field]:
    for feed in contracts.contracts().values():
        if table in feed.tables:
            return {f.name: f for f in feed.tables[table].fields}
    return {}


def _types(table: str, known: dict[str, contracts.Field]) -> dict[str, str]:
    """Columns and types: as they lie in the lake, or as the contract will make them."""
    name = f"silver/{table}"
    if visible.is_there(name):
        return visible.columns(name)
    return contracts_types(known) | contracts.ENVELOPE


def contracts_types(known: dict[str, contracts.Field]) -> dict[str, str]:
    kinds = {
        "string": "VARCHAR",
        "integer": "BIGINT",
        "number": "DOUBLE",
        "boolean": "BOOLEAN",
        "date": "DATE",
    }
    return {name: kinds.get(f.type, "TIMESTAMPTZ") for name, f in known.items()}


def _kind(duck_type: str) -> str:
    if duck_type in ("DATE", "BOOLEAN"):
        return {"DATE": "date", "BOOLEAN": "text"}[duck_type]
    if duck_type.startswith("TIMESTAMP"):
        return "instant"
    return "number" if duck_type.startswith(_NUMBERS) else "text"


#: Up to so many codes stand in the query itself.
_FEW = 64
#: The template's own rows with their number in order, ``o.rowid``: only the numbers are ever sorted.
_ORDERED = "ordered AS o JOIN picked ON picked.rowid = o.m"


def _part(number: str) -> str:
    """Condition on the rows of a part, by their number."""
    return f"{number} >= {{first}} AND {number} < {{last}}"


def _listed(alias: str, names: list[str]) -> str:
    return ", ".join(f'{alias}."{name}"' for name in names)


def _alias(place: str) -> str:
    return {"row": "r", "person": "p", "org": "o"}.get(place, f"j_{place}")


class Compiler:
    def __init__(self, template: Template, caller: access.Caller) -> None:
        self.template, self.caller = template, caller
        self.fields: dict[str, dict[str, contracts.Field]] = {"row": _known(template.table)}
        self.types: dict[str, dict[str, str]] = {"row": _types(template.table, self.fields["row"])}
        for join in template.joins:
            self.fields[join.name] = _known(join.table)
            self.types[join.name] = _types(join.table, self.fields[join.name])
        self.types["person"] = {"birth_date": "DATE"}
        self.types["org"] = {}
        self.table_of = {"row": template.table, "person": "person", "org": "org"}
        self.table_of |= {j.name: j.table for j in template.joins}

    def check(self) -> None:
        """Every field that is named must be there, and what chooses or sorts rows must be open to the caller.

        Raises:
            MedlakeError: E614 unknown fields; E681-E684 of the policy.
        """
        template = self.template
        named = [(c.place, c.name) for c in template.columns if c.place not in ("person", "org")]
        chosen = [c.field for c in template.conditions] + template.sort
        chosen += [f for f in (template.period, template.open_until) if f]
        named += [("row", f) for f in [*chosen, *([template.record] if template.record else [])]]
        for join in template.joins:
            named += [(join.name, f) for f in [*join.keys, join.newest]] + [("row", f) for f in join.keys]
        missing = sorted({f"{p}.{f}" for p, f in named if f not in self.types[p]})
        if missing or not self.fields["row"]:
            raise MedlakeError("E614", place=template.template, fields=", ".join(missing) or template.table)
        # the archive number sorts rows of one institution; it is no choice by a hidden value
        access.check_use(self.caller, f"silver/{template.table}", [*chosen])

    def where(
        self, first: date | None, last: date | None, orgs: list[str] | None, *, undecided: bool = False
    ) -> str:
        """The row condition, its values written out; ``undecided``: of rows where a condition's field is not filled in instead."""
        terms: list[str] = ["NOT coalesce(r.is_deleted, false)"]
        seen = access.scope(self.caller)
        scoped: set[str] | None = set(orgs) if orgs is not None else None
        if seen is not None:
            scoped = set(seen) if scoped is None else set(seen) & scoped
        if scoped is not None:
            terms.append(f"list_contains({literal(sorted(scoped))}, r.org_code)")
        if period := self.template.period:
            # an instant belongs to its Shanghai day
            stamped = self.types["row"][period].startswith("TIMESTAMP")
            day = f"""timezone('Asia/Shanghai', r."{period}")::DATE""" if stamped else f'r."{period}"'
            for bound, sign in ((first, ">="), (last, "<=")):
                if bound is not None:
                    terms.append(f"{day} {sign} {literal(bound)}")
        if self.template.open_until and last is not None:
            ended = f'r."{self.template.open_until}"'
            terms.append(f"({ended} IS NULL OR {ended} > {literal(last)})")
        if undecided:
            fields = [c.field for c in self.template.conditions if c.is_known is None]
            terms.append("(" + (" OR ".join(f'r."{f}" IS NULL' for f in fields) or "false") + ")")
            return " AND ".join(terms)
        for condition in self.template.conditions:
            column = f'r."{condition.field}"'
            if condition.any_of is not None:
                known = [str(v).lower() if isinstance(v, bool) else str(v) for v in condition.any_of]
                terms.append(f"list_contains({literal(known)}, {column}::VARCHAR)")
            elif condition.starts_with is not None:
                begins = [f"starts_with({column}, {literal(text)})" for text in condition.starts_with]
                terms.append(f"({' OR '.join(begins)})")
            else:
                terms.append(f"{column} IS {'NOT ' if condition.is_known else ''}NULL")
        return " AND ".join(terms)

    def header(self, column: Column, act: str) -> tuple[Header, str]:
        """The header of a column and the code system whose names stand in its cells (empty: none)."""
        place, name = column.place, column.name
        known = self.fields.get(place, {}).get(name)
        table = f"silver/{self.table_of[place]}"
        if place == "person":
            label, unit, codes = _PERSON_LABELS[name], "", "sex" if name == "sex_code" else ""
        elif place == "org":
            label, unit, codes = _ORG_LABELS[name], "", ""
        else:
            label = known.label_zh if known else contracts.ENVELOPE_LABELS.get(name, name)
            unit, codes = (known.unit, known.code_system) if known else ("", "")
        if codes and not (settings().seeds_dir / "codes" / f"{codes}.csv").is_file():
            codes = ""
        kind = "text" if codes or act == "mask" else _kind(self.types[place].get(name, "VARCHAR"))
        header = Header(column.field, column.label_zh or label, kind, access.level(table, name), unit, act)
        return header, codes if act == "clear" else ""

    def has_persons(self) -> bool:
        """Whether rows are residents': by a number of theirs, and there is a crosswalk that knows it."""
        return bool(self.template.record and self.template.source) and visible.is_there(
            "silver/person_identifier"
        )

    def crosswalk(self) -> str:
        """SELECT text: whose a record of the template's source is (org_code, identifier_value, empi_id)."""
        return (
            f"SELECT org_code, identifier_value, min(empi_id) AS empi_id "
            f"FROM {visible.scan('silver/person_identifier')} WHERE identifier_type = 'MR' "
            f"AND valid_to IS NULL AND source_system = '{self.template.source}' GROUP BY ALL"
        )

    def joins(self) -> list[str]:
        template, made = self.template, []
        places = {c.place for c in template.columns}
        if "org" in places:
            made.append("LEFT JOIN org_register AS o ON r.org_code = o.org_code")
        if self.has_persons():
            made.append(
                f"LEFT JOIN ({self.crosswalk()}) AS i "
                f'ON i.org_code = r.org_code AND i.identifier_value = r."{template.record}" '
                f"LEFT JOIN {visible.scan('silver/person')} AS p ON p.empi_id = i.empi_id"
            )
        for join in template.joins:
            if join.name not in places or not visible.is_there(f"silver/{join.table}"):
                continue
            keys = ", ".join(f'"{k}"' for k in join.keys)
            wanted = sorted({c.name for c in template.columns if c.place == join.name} | set(join.keys))
            listed = ", ".join(f'"{f}"' for f in wanted)
            on = " AND ".join(f'r."{k}" = j_{join.name}."{k}"' for k in join.keys)
            made.append(
                f"LEFT JOIN (SELECT {listed} FROM {visible.scan(f'silver/{join.table}')} "
                f"WHERE NOT coalesce(is_deleted, false) QUALIFY row_number() OVER "
                f'(PARTITION BY {keys} ORDER BY "{join.newest}" DESC NULLS LAST, raw_hash) = 1) AS j_{join.name} ON {on}'
            )
        return made

    def beside(self) -> dict[str, str]:
        """What :meth:`joins` joins, row by row of the table ``picked``: name -> SELECT text with ``n``, the row's number."""
        template, made = self.template, {}
        places = {c.place for c in template.columns}
        if self.has_persons():
            names = sorted({c.name for c in template.columns if c.place == "person"} - {"empi_id"})
            made["p"] = (
                f"SELECT k.n, {_listed('p', ['empi_id', *names])} FROM (SELECT k.n, min(i.empi_id) AS empi_id "
                f'FROM (SELECT o.rowid AS n, org_code, "{template.record}" AS record FROM {_ORDERED}) k '
                f"JOIN {visible.scan('silver/person_identifier')} AS i "
                f"ON i.org_code = k.org_code AND i.identifier_value = k.record WHERE i.identifier_type = 'MR' "
                f"AND i.valid_to IS NULL AND i.source_system = '{template.source}' GROUP BY k.n) k "
                f"JOIN {visible.scan('silver/person')} AS p ON p.empi_id = k.empi_id"
            )
        for join in template.joins:
            if join.name not in places or not visible.is_there(f"silver/{join.table}"):
                continue
            wanted = sorted({c.name for c in template.columns if c.place == join.name})
            keys = ", ".join(f'"{k}"' for k in join.keys)
            on = " AND ".join(f'k."{k}" = j."{k}"' for k in join.keys)
            made[f"j_{join.name}"] = (
                f"SELECT k.n, {_listed('j', wanted)} FROM (SELECT o.rowid AS n, {keys} FROM {_ORDERED}) k "
                f"JOIN {visible.scan(f'silver/{join.table}')} AS j ON {on} WHERE NOT coalesce(j.is_deleted, false) "
                f'QUALIFY row_number() OVER (PARTITION BY k.n ORDER BY j."{join.newest}" DESC NULLS LAST, j.raw_hash) = 1'
            )
        return made

    def picked(self) -> list[str]:
        """Columns of the template's own table that its rows, joins and order need."""
        template = self.template
        named = {c.name for c in template.columns if c.place == "row"} | {"org_code"}
        named |= {k for j in template.joins for k in j.keys} | (
            {template.record} if template.record else set()
        )
        return sorted(named | set(template.sort) | {"raw_hash"})

    def is_absent(self, place: str) -> bool:
        """A joined table that nobody delivered yet: its cells are empty."""
        if place in ("row", "org"):
            return False
        if place == "person":
            return not visible.is_there("silver/person_identifier")
        return not visible.is_there(f"silver/{self.table_of[place]}")


def _shown(header: Header, source: str, code: str) -> str:
    if header.act == "mask":
        return access.mask_sql(access.mask_of(header.field.rpartition(".")[2]), source)
    if code:
        return f"coalesce({code}.name_zh, {source}::VARCHAR)"
    if header.kind == "instant":
        return f"timezone('Asia/Shanghai', {source})"
    return source if header.kind in ("number", "date") else f"{source}::VARCHAR"


def compile_template(
    template: Template,
    caller: access.Caller,
    *,
    first: date | None = None,
    last: date | None = None,
    orgs: list[str] | None = None,
) -> Compiled:
    """The queries of a template for a caller.

    Args:
        first, last: days of the template's period field, both included; None leaves that end open.
        orgs: institutions that are asked for, everything under them listed; None for all that the caller may see.

    Raises:
        MedlakeError: E614 unknown fields; E681-E684 of the policy.
    """
    work = Compiler(template, caller)
    work.check()
    acts: dict[str, str] = {}
    for place in {c.place for c in template.columns}:
        names = [c.name for c in template.columns if c.place == place]
        found = access.columns(caller, f"silver/{work.table_of[place]}", names)
        acts |= {(f"{place}.{n}" if place != "row" else n): act for n, act in found.items()}
    if any(access.level(f"silver/{work.table_of[c.place]}", c.name) >= 3 for c in template.columns):
        access.check_purpose(caller, f"silver/{template.table}")
    reads = [f"silver.{template.table}", *[f"silver.{j.table}" for j in template.joins]]
    reads += ["silver.person"] if any(c.place == "person" for c in template.columns) else []
    shown = [c for c in template.columns if acts[c.field] != "hide"]
    if not shown:
        raise MedlakeError("E681", place=template.template, table=template.table)
    compiled = Compiled(
        headers=[], hidden=[c.field for c in template.columns if acts[c.field] == "hide"], reads=sorted(set(reads)),
        is_there=visible.is_there(f"silver/{template.table}"),
    )  # fmt: skip
    joins, expressions, looked_up = work.joins(), [], []
    for number, column in enumerate(shown):
        header, codes = work.header(column, acts[column.field])
        compiled.headers.append(header)
        if work.is_absent(column.place):
            empty = {"number": "DOUBLE", "date": "DATE", "instant": "TIMESTAMP"}.get(header.kind, "VARCHAR")
            expressions.append(f"NULL::{empty} AS c{number}")
            continue
        source, code = f'{_alias(column.place)}."{column.name}"', ""
        if work.types[column.place].get(column.name) == "BOOLEAN" and header.act == "clear":
            expressions.append(f"CASE WHEN {source} THEN '是' WHEN NOT {source} THEN '否' END AS c{number}")
            continue
        if codes and (few := _few(codes)) is not None and header.act == "clear":
            whens = "".join(f" WHEN {literal(c)} THEN {literal(name)}" for c, name in few.items())
            expressions.append(f"CASE {source}::VARCHAR{whens} ELSE {source}::VARCHAR END AS c{number}")
            continue
        if codes:
            code = f"code{number}"
            compiled.codes[code] = codes
            looked_up.append(f"LEFT JOIN {code} ON {code}.code = {source}::VARCHAR")
        expressions.append(f"{_shown(header, source, code)} AS c{number}")
    if compiled.is_there:
        scan = visible.scan(f"silver/{template.table}")
        where = work.where(first, last, orgs)
        order = [f'r."{f}"' for f in template.sort] + ["r.raw_hash"]
        undecided = work.where(first, last, orgs, undecided=True)
        compiled.unknown_sql = f"SELECT count(*) FROM {scan} AS r WHERE {undecided}"
        compiled.count_sql = f"SELECT count(*) FROM {scan} AS r WHERE {where}"
        whose = f"{'i.empi_id' if work.has_persons() else 'NULL::VARCHAR'} AS whose"
        compiled.rows_sql = (
            f"SELECT {', '.join([*expressions, whose])} FROM {scan} AS r {' '.join([*joins, *looked_up])} "
            f"WHERE {where} ORDER BY {', '.join(order)}"
        )
        compiled.picked_sql = f"SELECT {_listed('r', work.picked())} FROM {scan} AS r WHERE {where}"
        compiled.order_sql = f"SELECT r.rowid AS m FROM picked AS r ORDER BY {', '.join(order)}"
        compiled.beside = work.beside()
        own = [j for j in joins if j.startswith("LEFT JOIN org_register")]
        own += [
            f"LEFT JOIN (SELECT * FROM {t} WHERE {_part('n')}) AS {t} ON {t}.n = r.n" for t in compiled.beside
        ]
        compiled.part_sql = (
            f"SELECT {', '.join(expressions)} "
            f"FROM (SELECT o.rowid AS n, picked.* FROM {_ORDERED} WHERE {_part('o.rowid')}) AS r "
            f"{' '.join([*own, *looked_up])} ORDER BY r.n"
        )
    return compiled


@lru_cache(maxsize=256)
def _few(system: str) -> dict[str, str] | None:
    """Code -> name of a small code system; None for one of many codes, or of none. A join takes memory, a CASE none."""
    known: dict[str, str] = {}
    with (settings().seeds_dir / "codes" / f"{system}.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            if row["name_zh"]:
                known[row["code"]] = min(row["name_zh"], known.get(row["code"], row["name_zh"]))
            if len(known) > _FEW:
                return None
    return known or None


def code_sql(system: str) -> str:
    """SELECT text of a code system as (code, name_zh), each code once."""
    path = str(settings().seeds_dir / "codes" / f"{system}.csv").replace("'", "''")
    return f"SELECT code, min(name_zh) AS name_zh FROM read_csv('{path}', header = true, all_varchar = true) GROUP BY code"
