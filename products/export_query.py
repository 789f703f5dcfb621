"""Compiles a template to two queries: how many rows are planned, and the rows themselves.

The plan counts the template's own table alone; the rows join institutions, residents and identifiers to it. So a
join that drops or doubles rows shows as planned <> written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb

from lake import contracts, tables
from lake.errors import MedlakeError
from lake.settings import settings
from products.export_template import Column, Template
from products.masks import masked

#: Place -> the gold table that answers for it.
_GOLD_OF = {"row": "{table}", "org": "dim_org", "centre": "dim_org", "person": "dim_person"}


@dataclass(frozen=True)
class Header:
    """One column as it will stand in the sheet. ``kind``: text, number, date, instant, flag."""

    field: str
    label_zh: str
    kind: str
    level: int
    unit: str
    codes: str


@dataclass(frozen=True)
class Compiled:
    """``count_sql`` gives one number, ``rows_sql`` the rows in the order of ``headers``."""

    headers: list[Header]
    count_sql: str
    rows_sql: str
    values: list[Any]
    reads: list[str]


_KINDS = {"BOOLEAN": "flag", "DATE": "date", "TIMESTAMP WITH TIME ZONE": "instant"}
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")


def _kind(duck_type: str) -> str:
    return _KINDS.get(duck_type) or ("number" if duck_type.startswith(_NUMBERS) else "text")


def _types(con: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    rows = con.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = 'served' "
        "AND schema_name = 'gold' AND table_name = ?",
        [table],
    )
    return {str(name): str(kind) for name, kind in rows.fetchall()}


def _described(con: duckdb.DuckDBPyConnection, table: str) -> dict[str, dict[str, Any]]:
    """Field -> label, code system, level and unit, as the published catalogue says."""
    if not _types(con, "catalog_field"):
        return {}
    rows = con.execute(
        "SELECT field, label_zh, code_system, level, unit FROM served.gold.catalog_field WHERE asset_id = ?",
        [f"gold.{table}"],
    )
    return {r[0]: {"label_zh": r[1], "codes": r[2], "level": r[3], "unit": r[4]} for r in rows.fetchall()}


def _from_contracts(field: str) -> dict[str, Any]:
    for feed in contracts.contracts().values():
        for table in feed.tables.values():
            for found in table.fields:
                if found.name == field:
                    return {
                        "label_zh": found.label_zh,
                        "codes": found.code_system,
                        "level": found.level,
                        "unit": found.unit,
                    }
    return {"label_zh": field, "codes": "", "level": 2, "unit": ""}


def _header(con: duckdb.DuckDBPyConnection, template: Template, column: Column, kind: str) -> Header:
    known = _from_contracts(column.name)
    if column.place != "identity":
        table = _GOLD_OF[column.place].format(table=template.table)
        known |= {k: v for k, v in _described(con, table).get(column.name, {}).items() if v not in (None, "")}
    codes = column.codes if column.codes is not None else known["codes"]
    has_codes = bool(codes) and (settings().seeds_dir / "codes" / f"{codes}.csv").is_file()
    return Header(
        field=column.field,
        label_zh=column.label_zh or known["label_zh"],
        kind="text" if has_codes else kind,
        level=int(known["level"]),
        unit=known["unit"],
        codes=codes if has_codes else "",
    )


def _where(template: Template, org_codes: list[str] | None) -> tuple[str, list[Any]]:
    terms = ["true"]
    values: list[Any] = []
    if org_codes is not None:
        terms.append(f'r."{template.org_field}" IN ?')
        values.append(org_codes)
    if template.period is not None:
        for bound, sign in ((template.period.start, ">="), (template.period.end, "<=")):
            if bound is not None:
                terms.append(f'r."{template.period.field}" {sign} ?')
                values.append(bound)
    for field, allowed in template.status.items():
        terms.append(f'r."{field}"::VARCHAR IN ?')
        values.append([str(v).lower() if isinstance(v, bool) else str(v) for v in allowed])
    return " AND ".join(terms), values


def _kind_of(template: Template, column: Column, types: dict[str, dict[str, str]]) -> str:
    if column.place != "identity":
        return _kind(types[column.place][column.name])
    return "date" if column.name == "birth_date" and template.identifiers == "full" else "text"


def _check(con: duckdb.DuckDBPyConnection, template: Template) -> dict[str, dict[str, str]]:
    """Types by place; every field that the template names must be published.

    Raises:
        MedlakeError: E622 names the fields that are not.
    """
    types = {place: _types(con, name.format(table=template.table)) for place, name in _GOLD_OF.items()}
    named = template.columns + [
        Column(field=f) for f in [*template.sort, *template.status, template.org_field]
    ]
    wanted = [(c.place, c.name) for c in named]
    if template.period is not None:
        wanted.append(("row", template.period.field))
    places = {place for place, _ in wanted}
    if "identity" in places or "person" in places:
        wanted.append(("row", "person_token"))
    missing = sorted({f"{p}.{f}" for p, f in wanted if p != "identity" and f not in types[p]})
    if missing:
        raise MedlakeError("E622", place=f"gold.{template.table}", columns=", ".join(missing))
    return types


def _sql(field: str) -> str:
    """A template's field as SQL; a place's alias is its first letter."""
    column = Column(field=field)
    return f'{column.place[0]}."{column.name}"'


def _expression(header: Header, column: Column, template: Template, code_alias: str) -> str:
    source = _sql(column.field)
    if column.place == "identity":
        return masked(column.name, source, template.identifiers)
    if code_alias:
        return f"coalesce({code_alias}.name_zh, {source}::VARCHAR)"
    if header.kind == "flag":
        return f"CASE WHEN {source} THEN '是' WHEN NOT {source} THEN '否' END"
    if header.kind == "instant":
        return f"timezone('Asia/Shanghai', {source})"
    return source if header.kind in {"number", "date"} else f"{source}::VARCHAR"


def compile_template(
    con: duckdb.DuckDBPyConnection,
    template: Template,
    org_codes: list[str] | None,
    person_version: int | None,
) -> Compiled:
    """The queries of a template over the published file (attached as ``served``) and silver's identifiers.

    Args:
        org_codes: institutions in scope, None for all.
        person_version: version of silver/person that the published run was built from, None for the newest.

    Raises:
        MedlakeError: E622, a field is not published.
    """
    types = _check(con, template)
    columns = [c for c in template.columns if c.place != "identity" or template.identifiers != "none"]
    places = {c.place for c in columns} | {Column(field=f).place for f in template.sort}
    headers: list[Header] = []
    expressions: list[str] = []
    joins = [f'FROM served.gold."{template.table}" AS r']
    if places & {"org", "centre"}:
        joins.append(f'LEFT JOIN served.gold.dim_org AS o ON r."{template.org_field}" = o.org_code')
    if "centre" in places:
        joins.append("LEFT JOIN served.gold.dim_org AS c ON o.managing_org_code = c.org_code")
    if "person" in places:
        joins.append("LEFT JOIN served.gold.dim_person AS p ON r.person_token = p.person_token")
    if "identity" in places:
        silver = tables.scan_sql("silver/person", person_version)
        joins.append(f"LEFT JOIN {silver} AS i ON r.person_token = i.person_token")
    for number, column in enumerate(columns):
        header = _header(con, template, column, _kind_of(template, column, types))
        code_alias = f"code{number}" if header.codes and column.place != "identity" else ""
        if code_alias:
            seed = str(settings().seeds_dir / "codes" / f"{header.codes}.csv").replace("'", "''")
            joins.append(
                f"LEFT JOIN read_csv('{seed}', all_varchar = true, header = true) AS {code_alias} "
                f"ON {code_alias}.code = {_sql(column.field)}::VARCHAR"
            )
        headers.append(header)
        expressions.append(_expression(header, column, template, code_alias))
    where, values = _where(template, org_codes)
    order = [_sql(f) for f in template.sort]
    order += [
        str(n) for n in range(1, len(expressions) + 1)
    ]  # a total order: the same data give the same bytes
    reads = [
        f"gold.{name.format(table=template.table)}" for p, name in _GOLD_OF.items() if p in places | {"row"}
    ]
    reads += ["silver.person"] if "identity" in places else []
    return Compiled(
        headers=headers,
        count_sql=f'SELECT count(*) FROM served.gold."{template.table}" AS r WHERE {where}',
        rows_sql=f"SELECT {', '.join(expressions)} {' '.join(joins)} WHERE {where} ORDER BY {', '.join(order)}",
        values=values,
        reads=sorted(set(reads)),
    )
