"""The SQL of a proposed rule: expressions and queries over named tables, nothing that opens files or other doors.

A dry run executes what a steward typed in, before a second person has seen it. DuckDB's own parser takes the text
apart; a table must have a plain name and a table function must be one of the few that only make rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb

from lake.errors import MedlakeError
from quality.rule import PLACEHOLDER

#: Entries of a rule that are an expression, and those that hold expressions by name.
_EXPRESSIONS = ("eligibility", "condition", "warn_when")
_NAMED = ("observed", "expected", "due")
_ROWS_ONLY = frozenset({"unnest", "range", "generate_series"})
#: Functions that take a query as text, or tell of the process.
_CLOSED = frozenset(
    {"query", "query_table", "getenv", "current_setting", "getvariable", "json_execute_serialized_sql"}
)


def _texts(file: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """(place, SQL, whether it is a whole query)."""
    for name, query in file.get("queries", {}).items():
        yield f"queries/{name}/sql", str(query.get("sql", "")), True
    for rule in file["rules"]:
        for place, node in (("", rule), *((f"also/{n}/", a) for n, a in enumerate(rule.get("also", [])))):
            for key in _EXPRESSIONS:
                if key in node:
                    yield place + key, str(node[key]), False
            for key in _NAMED:
                for name, text in (node.get(key) or {}).items():
                    if not (key == "due" and name == "query"):
                        yield f"{place}{key}/{name}", str(text), False


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _fault(tree: Any, *, is_query: bool) -> str:
    """What the parsed text does that a rule may not; empty when nothing."""
    top = tree["statements"][0]["node"]
    alone = len(top.get("select_list", ())) == 1 and top.get("from_table", {}).get("type") == "EMPTY"
    if not is_query and not alone:
        return "SELECT"
    for node in _nodes(tree):
        kind, function = node.get("type"), str(node.get("function_name", "")).lower()
        if kind == "TABLE_FUNCTION":
            called = str((node.get("function") or {}).get("function_name", "")).lower()
            if called not in _ROWS_ONLY:
                return f"{called}()"
        if kind == "BASE_TABLE":
            table = str(node.get("table_name", ""))
            if not table.isidentifier() or node.get("schema_name") or node.get("catalog_name"):
                return table[:60]
        if kind in ("SHOW_REF", "COLUMN_DATA", "PIVOT") or function in _CLOSED:
            return function or str(kind)
    return ""


def check(file: Mapping[str, Any], place: str) -> None:
    """Refuse a domain file whose rules' SQL does more than judge rows.

    Raises:
        MedlakeError: E665 with the place; E447, a text that DuckDB cannot parse as one expression or query.
    """
    with duckdb.connect() as connection:
        for where, text, is_query in _texts(file):  # a few texts a rule
            plain = PLACEHOLDER.sub(lambda m: "DATE '2026-01-01'" if m[1] == "as_of" else "0", text)
            sql = plain if is_query else f"SELECT ({plain}\n)"
            row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
            tree = json.loads(row[0]) if row else {"error": True}
            if tree.get("error") or len(tree.get("statements", [])) != 1:
                detail = str(tree.get("error_message", "SQL")).split("\n")[0][:200]
                raise MedlakeError("E447", place=f"{place}:{where}", detail=detail)
            if fault := _fault(tree, is_query=is_query):
                raise MedlakeError("E665", place=f"{place}:{where}", detail=fault)
