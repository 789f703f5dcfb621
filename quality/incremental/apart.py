"""Whether a set query falls apart by person: what it says of a record then follows from that person's records alone.

Read from DuckDB's own syntax tree. Every join, group, window and subquery must hold a person together: by ``person_key``, by
``archive_id`` (an archive has one person), by ``rid`` of the judged table, or, where rows without one do not meet, by
``empi_id``. Whatever is not understood does not fall apart: such a rule is judged in full, which is always right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import duckdb

from quality.rule import PLACEHOLDER, REFERENCE, Query
from quality.shapes import contract_tables

Node = Mapping[str, Any]


class _Mixed(Exception):
    """Records of several persons meet here, or the text is not understood."""


@dataclass(frozen=True)
class _Key:
    """A column that tells the person. ``is_total``: also rows in which it is NULL are of one person, or of nobody."""

    kind: str
    is_total: bool


@dataclass
class _Rows:
    """A relation: its columns that tell the person. ``is_free``: the same for everybody (a code list)."""

    keys: dict[str, _Key] = field(default_factory=dict)
    is_free: bool = False


_Scope = dict[str, _Rows]


@lru_cache(maxsize=1)
def _aggregates() -> frozenset[str]:
    with duckdb.connect() as connection:
        names = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'"
        ).fetchall()
    return frozenset(n for (n,) in names)


def _walk(node: Any) -> list[Node]:
    """Every expression in an expression, windows and subqueries as they stand, not what is in them."""
    if isinstance(node, list):
        return [found for part in node for found in _walk(part)]
    if not isinstance(node, dict):
        return []
    here: list[Node] = [node] if "class" in node else []
    if node.get("class") == "SUBQUERY":
        return here
    return here + [found for part in node.values() for found in _walk(part)]


def _key(scope: _Scope, node: Node) -> _Key | None:
    """What a column tells, if the expression is one."""
    if node.get("class") != "COLUMN_REF":
        return None
    names = [n.lower() for n in node["column_names"]]
    if len(names) == 2:
        return scope[names[0]].keys.get(names[1]) if names[0] in scope else None
    found = (
        [rows.keys[names[0]] for rows in scope.values() if names[0] in rows.keys] if len(names) == 1 else []
    )
    return found[0] if found else None


def _conjuncts(node: Node | None) -> list[Node]:
    if not node:
        return []
    if node.get("type") == "CONJUNCTION_AND":
        return [c for child in node["children"] for c in _conjuncts(child)]
    return [node]


def _ties(condition: Node | None, left: _Scope, right: _Scope) -> bool:
    """Whether a condition only lets rows of one person meet."""
    for part in _conjuncts(condition):
        if part.get("type") != "COMPARE_EQUAL":
            continue
        for one, other in ((part["left"], part["right"]), (part["right"], part["left"])):
            first, second = _key(left, one), _key(right, other)
            if first and second and first.kind == second.kind and not (_key(right, one) and _key(left, one)):
                return True
    return False


class _Reader:
    def __init__(self, table: str, free: frozenset[str]) -> None:
        self._table, self._free = table, free

    def _base(self, table: str) -> _Rows:
        if table in REFERENCE or table in self._free:
            return _Rows(is_free=True)
        if table not in contract_tables():
            raise _Mixed
        columns = contract_tables()[table].silver_columns
        keys = {}
        if "archive_id" in columns:
            keys["archive_id"] = _Key("archive", "patient_local_id" not in columns)
        if {"archive_id", "patient_local_id"} & set(columns):
            keys |= {"person_key": _Key("person", True), "empi_id": _Key("empi", False)}
        if table == self._table:
            keys["rid"] = _Key("rid", True)
        return _Rows(keys)

    def node(self, node: Node, known: Mapping[str, _Rows]) -> _Rows:
        known = dict(known)
        for entry in node.get("cte_map", {}).get("map", []):
            if entry["value"].get("aliases"):
                raise _Mixed
            known[entry["key"].lower()] = self.node(entry["value"]["query"]["node"], known)
        if node["type"] == "SELECT_NODE":
            return self._select(node, known, {})
        if node["type"] == "SET_OPERATION_NODE" and node["setop_type"] == "UNION":
            return self._union(node, known)
        raise _Mixed

    def _union(self, node: Node, known: Mapping[str, _Rows]) -> _Rows:
        sides = node.get("children") or [node["left"], node["right"]]
        found = [self.node(side, known) for side in sides]
        if any(
            s["type"] != "SELECT_NODE" or any(i["class"] == "STAR" for i in s["select_list"]) for s in sides
        ):
            raise _Mixed
        names = [[_name(i) for i in s["select_list"]] for s in sides]
        keys = {}
        for place, column in enumerate(names[0]):
            told = [rows.keys.get(n[place]) for rows, n in zip(found, names, strict=True)]
            kinds = {k.kind if k else "" for k in told}
            if len(kinds) == 1 and "" not in kinds:
                keys[column] = _Key(kinds.pop(), all(k and k.is_total for k in told))
        return _Rows(keys, all(rows.is_free for rows in found))

    def _from(self, node: Node | None, known: Mapping[str, _Rows]) -> _Scope:
        if node is None or node["type"] == "EMPTY":
            return {"": _Rows(is_free=True)}
        if node.get("sample") or node.get("column_name_alias"):
            raise _Mixed
        if node["type"] == "BASE_TABLE":
            table = node["table_name"].lower()
            return {(node["alias"] or table).lower(): known[table] if table in known else self._base(table)}
        if node["type"] == "SUBQUERY":
            return {node["alias"].lower(): self.node(node["subquery"]["node"], known)}
        if node["type"] == "JOIN":
            return self._join(node, known)
        raise _Mixed

    def _join(self, node: Node, known: Mapping[str, _Rows]) -> _Scope:
        left, right = self._from(node["left"], known), self._from(node["right"], known)
        if node["join_type"] not in ("INNER", "LEFT") or node["ref_type"] not in ("REGULAR", "CROSS"):
            raise _Mixed
        if set(left) & set(right):
            raise _Mixed
        self._expressions(node.get("condition"), left | right, known)
        of_right_free = all(rows.is_free for rows in right.values())
        of_left_free = all(rows.is_free for rows in left.values())
        if not of_right_free:
            using = [c.lower() for c in node.get("using_columns") or []]
            shared = any(
                (a := _key(left, _column(c))) and (b := _key(right, _column(c))) and a.kind == b.kind
                for c in using
            )
            if of_left_free and node["join_type"] == "LEFT":
                raise _Mixed
            if not of_left_free and not shared and not _ties(node.get("condition"), left, right):
                raise _Mixed
        if node["join_type"] == "LEFT":  # where nothing matched, its columns are NULL for everybody
            right = {
                a: _Rows({c: _Key(k.kind, False) for c, k in rows.keys.items()}, rows.is_free)
                for a, rows in right.items()
            }
        return left | right

    def _expressions(self, node: Any, scope: _Scope, known: Mapping[str, _Rows]) -> bool:
        """Check windows and subqueries of expressions. Returns whether there is an aggregate among them."""
        found = False
        for part in _walk(node):
            if part["class"] == "WINDOW":
                if not any((k := _key(scope, p)) and k.is_total for p in part["partitions"]):
                    raise _Mixed
            elif part["class"] == "SUBQUERY":
                self._subquery(part, scope, known)
            elif part["class"] == "FUNCTION" and part["function_name"].lower() in _aggregates():
                found = True
        return found

    def _subquery(self, part: Node, scope: _Scope, known: Mapping[str, _Rows]) -> None:
        inner = part["subquery"]["node"]
        if inner["type"] != "SELECT_NODE" or inner.get("cte_map", {}).get("map") or part.get("child"):
            raise _Mixed
        rows = self._from(inner["from_table"], known)
        if all(r.is_free for r in rows.values()):
            return
        self._select(inner, known, scope)

    def _select(self, node: Node, known: Mapping[str, _Rows], outer: _Scope) -> _Rows:
        scope = self._from(node["from_table"], known)
        if set(scope) & set(outer):
            raise _Mixed
        if outer and not _ties(node.get("where_clause"), scope, outer):
            raise _Mixed
        seen = scope | outer
        is_free = all(rows.is_free for rows in scope.values())
        self._expressions(node.get("where_clause"), seen, known)
        self._expressions([node.get("having"), node.get("qualify")], seen, known)
        has_aggregate = self._expressions(node["select_list"], seen, known)
        groups = [self._group(g, node["select_list"]) for g in node["group_expressions"]]
        if node["aggregate_handling"] == "FORCE_AGGREGATES":
            groups = list(node["select_list"])
        is_grouped = bool(groups) and (has_aggregate or node["aggregate_handling"] == "STANDARD_HANDLING")
        if len(node.get("group_sets") or []) > 1:
            raise _Mixed
        if not outer and not is_free:
            if is_grouped and not any(_key(scope, g) for g in groups):
                raise _Mixed
            if has_aggregate and not groups:
                raise _Mixed
        for modifier in node["modifiers"]:
            if modifier["type"] not in ("ORDER_MODIFIER", "DISTINCT_MODIFIER"):
                raise _Mixed
            targets = modifier.get("distinct_on_targets")
            if targets and not any((k := _key(scope, t)) and k.is_total for t in targets):
                raise _Mixed
        return _Rows(self._output(node["select_list"], scope), is_free)

    def _group(self, node: Node, select_list: list[Node]) -> Node:
        if node["class"] == "CONSTANT":
            place = node["value"]["value"]
            return select_list[int(place) - 1]
        return node

    def _output(self, select_list: list[Node], scope: _Scope) -> dict[str, _Key]:
        keys: dict[str, _Key] = {}
        for item in select_list:
            if item["class"] == "STAR":
                if item.get("replace_list") or item.get("rename_list") or item.get("expr"):
                    raise _Mixed
                of = item["relation_name"].lower()
                left_out = {str(c).lower() for c in item.get("exclude_list") or []}
                for alias, rows in scope.items():
                    if not of or alias == of:
                        keys |= {c: k for c, k in rows.keys.items() if c not in left_out and c not in keys}
            elif (key := _key(scope, item)) is not None:
                keys[_name(item)] = key
        return keys


def _column(name: str) -> Node:
    return {"class": "COLUMN_REF", "column_names": [name]}


def _name(item: Node) -> str:
    """The name of a column of a SELECT."""
    alias = str(item.get("alias") or "")
    return (alias or (item["column_names"][-1] if item["class"] == "COLUMN_REF" else "")).lower()


@lru_cache(maxsize=1024)
def _by_person(table: str, sql: str, free: frozenset[str]) -> bool:
    with duckdb.connect() as connection:
        row = connection.execute("SELECT json_serialize_sql(?)", [PLACEHOLDER.sub("1", sql)]).fetchone()
    tree = json.loads(row[0]) if row else {"error": True}
    if tree["error"] or len(tree["statements"]) != 1:
        return False
    try:
        rows = _Reader(table, free).node(tree["statements"][0]["node"], {})
    except (_Mixed, KeyError, IndexError, TypeError, ValueError):
        return False
    rid = rows.keys.get("rid")
    return rid is not None and rid.kind == "rid" and rid.is_total


def by_person(query: Query, free: frozenset[str] = frozenset()) -> bool:
    """Whether what a query says of a record of its table follows from the records of that record's person alone.

    Args:
        free: further tables to take as the same for everybody: those that did not change, and are not cut down.
    """
    return _by_person(query.table, query.sql, free & set(query.reads))
