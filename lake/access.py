"""One policy for every exit: which rows (institution tree), which columns (GB/T 39725 level), how (mask), and why.

Every page, API answer and file that shows records asks here for its SQL. Deny by default: an unknown role, field,
institution or purpose sees nothing. The rules are data: ``lake/access.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lake import access_scope
from lake.access_masks import mask_sql as mask_sql
from lake.access_policy import ORDER, Act, policy, role
from lake.errors import MedlakeError

_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


@dataclass(frozen=True)
class Caller:
    """Who asks, for what. ``subject``: the one resident (``empi_id``) that an open break-glass is for."""

    user: str
    role: str
    org_code: str
    purpose: str = ""
    is_broken_glass: bool = False
    subject: str = ""


def scope(caller: Caller) -> frozenset[str] | None:
    """Institutions whose rows the caller may see; None: all of them. Break-glass is not wider here (see select_sql)."""
    known = role(caller.role)
    if known is None or known.scope == "none":
        return frozenset()
    if known.scope == "group" or caller.org_code == access_scope.root():
        return None
    return access_scope.below(caller.org_code)


def may(caller_role: str, duty: str) -> bool:
    """Whether a role has an administrator's duty, such as ``audit.search`` (三权分立: each belongs to one role)."""
    known = role(caller_role)
    return known is not None and duty in known.duties


def level(table: str, field: str, levels: Mapping[str, int] | None = None) -> int:
    """The GB/T 39725 level of a field (``table`` with or without ``silver/``, ``gold.``).

    The contract of the table says it; else the highest of: our own tables' list, what any contract gives to the name,
    what the caller knows from the catalogue (``levels``). A field that nobody knows has the policy's unknown level.
    """
    from lake import contracts

    rules = policy()
    # the engine knows no case in names, so the policy knows none either
    field, table = field.lower(), table.lower()
    levels = {name.lower(): number for name, number in (levels or {}).items()}
    bare = re.split(r"[/.]", table)[-1]
    own = rules.own_fields.get(field, 0)
    given = [own, levels.get(field, 0)]
    for feed in contracts.contracts().values():
        found = feed.tables.get(bare)
        if found and not table.startswith("gold"):
            given += [f.level for f in found.fields if f.name == field]
            break
    else:
        given.append(_highest().get(field, 0) if field not in rules.own_fields else 0)
    return max(given) or rules.unknown_level


def _highest() -> dict[str, int]:
    from lake import contracts

    return _by_name(tuple(sorted((name, id(feed)) for name, feed in contracts.contracts().items())))


_kept: dict[tuple[tuple[str, int], ...], dict[str, int]] = {}


def _by_name(key: tuple[tuple[str, int], ...]) -> dict[str, int]:
    """Field name -> the highest level that any contract gives it, made once a set of contracts."""
    from lake import contracts

    if key not in _kept:
        made: dict[str, int] = {}
        for feed in contracts.contracts().values():
            for table in feed.tables.values():
                for found in table.fields:
                    made[found.name] = max(made.get(found.name, 0), found.level)
        _kept.clear()
        _kept[key] = made
    return _kept[key]


def _act(caller: Caller, number: int) -> Act:
    known = role(caller.role)
    if known is None:
        return "hide"
    act = known.act(number, caller.purpose)
    if caller.is_broken_glass and caller.subject and known.may_break_glass:
        act = max(act, policy().glass_levels.get(number, "hide"), key=ORDER.index)
    return act


def columns(
    caller: Caller, table: str, fields: Iterable[str], *, levels: Mapping[str, int] | None = None
) -> dict[str, Act]:
    """Field -> ``clear``, ``mask`` or ``hide``, as role, purpose and the field's level say."""
    return {field: _act(caller, level(table, field, levels)) for field in fields}


def mask_of(field: str) -> str:
    """Which mask a field has (:func:`mask_sql`); those without one of their own become ``***``."""
    return policy().mask_kind.get(field.lower(), "text")


def check_use(
    caller: Caller, table: str, fields: Iterable[str], *, levels: Mapping[str, int] | None = None
) -> None:
    """Refuse to filter, sort, group or join by what the caller does not see clear: its order would tell it.

    Raises:
        MedlakeError: E682 with the fields.
    """
    closed = [f for f, act in columns(caller, table, fields, levels=levels).items() if act != "clear"]
    if closed:
        raise MedlakeError("E682", place=table, fields=", ".join(sorted(set(closed))))


def check_purpose(caller: Caller, table: str) -> None:
    """Refuse personal data without a purpose that belongs to the role.

    Raises:
        MedlakeError: E683.
    """
    known = role(caller.role)
    if known is None:
        raise MedlakeError("E681", place=table, table=table)
    glass = caller.is_broken_glass and known.may_break_glass and caller.purpose == "break_glass"
    if caller.purpose not in known.purposes and not glass:
        allowed = ", ".join(f"{p} {policy().purposes[p]}" for p in known.purposes) or "—"
        given = caller.purpose if caller.purpose in policy().purposes else "—"
        raise MedlakeError("E683", place=table, table=table, purpose=given, allowed=allowed)


def select_sql(
    caller: Caller,
    table: str,
    fields: Sequence[str],
    alias: str = "t",
    *,
    filters: Iterable[str] = (),
    sort: Iterable[str] = (),
    org_field: str = "org_code",
    person_field: str = "empi_id",
    known: Iterable[str] | None = None,
    levels: Mapping[str, int] | None = None,
) -> tuple[list[str], str, list[Any]]:
    """What to put into a DuckDB query over ``table AS alias``: expressions (in the order of ``fields``, each named as
    its field), the row condition, and the condition's parameters.

    Hidden fields are left out. ``filters``/``sort``: fields that the query filters or sorts by. ``known``: columns that
    the table has, when the caller knows them; a field beside them is refused. Under break-glass the condition keeps the
    one resident that it was opened for, and nobody else, whatever the institution.

    Raises:
        MedlakeError: E681 no rows for this role; E682 filter or sort on a closed field; E683 no purpose; E684 no
            institution column; E685 break-glass without a resident; E686 no such field.
    """
    there = set(known) if known is not None else None
    filters, sort = list(filters), list(sort)
    for name in (alias, org_field, person_field, *fields, *filters, *sort):
        if not _NAME.match(name) or (there is not None and name in fields and name not in there):
            raise MedlakeError("E686", place=table, table=table, field=name if _NAME.match(name) else "?")
    acts = columns(caller, table, fields, levels=levels)
    check_use(caller, table, [*filters, *sort], levels=levels)
    seen = {f: act for f, act in acts.items() if act != "hide"}
    if any(level(table, f, levels) >= policy().purpose_from_level for f in seen):
        check_purpose(caller, table)
    where, values = _rows(caller, table, alias, org_field, person_field, there)
    expressions = []
    for field, act in seen.items():
        column = f'{alias}."{field}"'
        shown = column if act == "clear" else mask_sql(mask_of(field), column)
        expressions.append(f'{shown} AS "{field}"')
    return expressions, where, values


def _rows(
    caller: Caller, table: str, alias: str, org_field: str, person_field: str, there: set[str] | None
) -> tuple[str, list[Any]]:
    if caller.is_broken_glass:
        asked = role(caller.role)
        if asked is None or not asked.may_break_glass or not caller.subject:
            raise MedlakeError("E685", place=table)
        if there is not None and person_field not in there:
            raise MedlakeError("E684", place=table, table=table)
        return f'{alias}."{person_field}" = ?', [caller.subject]
    visible = scope(caller)
    if visible is None:
        return "TRUE", []
    if not visible:
        raise MedlakeError("E681", place=table, table=table)
    if there is not None and org_field not in there:
        raise MedlakeError("E684", place=table, table=table)
    return f'list_contains(?, {alias}."{org_field}")', [sorted(visible)]
