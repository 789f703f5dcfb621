"""Checking an entry at the node, offline: types, required fields, codes, then the rules the pack brought."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from ingestion.edge import entry_eval
from ingestion.edge.pack_store import PackStore
from lake.errors import MedlakeError
from lake.local_time import SHANGHAI

_TRUE = {"true", "1", "是", "y", "yes"}
_FALSE = {"false", "0", "否", "n", "no"}


def check(pack: PackStore, table: str, record: Mapping[str, Any], as_of: date) -> dict[str, Any]:
    """What is wrong with an entry; nothing is kept.

    Returns:
        ``problems`` (each with code or rule_id, severity, fields, message_zh), ``checked`` rules, ``resident``: whether
        the resident behind the record was found, since rules about age or sex need that.

    Raises:
        MedlakeError: E299, the pack has no rules for this table.
    """
    described = pack.item("table", table)
    if described is None:
        raise MedlakeError("E299", detail=f"table {table}; {', '.join(pack.items('table'))}")
    problems: list[dict[str, Any]] = []
    row: dict[str, Any] = {}
    for field in described["fields"]:
        given = next((record[k] for k in field["keys"] if record.get(k) not in (None, "")), None)
        try:
            row[field["name"]] = typed(given, field["type"])
        except ValueError:
            problems.append(_problem("E211", field, f"{field['label_zh']}的值不是{_TYPES[field['type']]}"))
            continue
        if given is None and field["required"]:
            problems.append(_problem("E210", field, f"{field['label_zh']}必填"))
        codes = pack.item("codes", field["code_system"]) if field["code_system"] else None
        if codes and given is not None and row[field["name"]] not in codes:
            named = next((code for code, name in codes.items() if name == str(given)), None)
            row[field["name"]] = named or row[field["name"]]
            if named is None:
                problems.append(
                    _problem("unmapped", field, f"{field['label_zh']}的编码“{given}”不在值域中", "warn")
                )
    found = _resident(pack, row)
    for name in ("birth_date", "sex_code"):
        if row.get(name) is None and found:
            row[name] = typed(found.get(name), "date" if name == "birth_date" else "string")
    rules = [r for key, r in pack.items("rule").items() if key.endswith(f"|{table}")]
    problems += _rules(pack, rules, row, as_of)
    return {"table": table, "problems": problems, "checked": len(rules), "resident": found is not None}


_TYPES = {
    "integer": "整数",
    "number": "数值",
    "date": "日期",
    "timestamp": "时间",
    "boolean": "是否",
    "string": "文本",
}


def _problem(code: str, field: Mapping[str, Any], message: str, severity: str = "error") -> dict[str, Any]:
    return {
        "rule_id": code,
        "severity": severity,
        "fields": [field["name"]],
        "message_zh": message,
        "remedy_zh": "",
    }


def _rules(
    pack: PackStore, rules: list[dict[str, Any]], row: dict[str, Any], as_of: date
) -> list[dict[str, Any]]:
    done: dict[str, bool] = {}
    found = []
    for rule in entry_eval.ordered(rules):
        failed = entry_eval.flag(rule, row, as_of, done)
        soft = bool(failed) and entry_eval.is_soft(rule, row, as_of)
        done[rule["id"]] = bool(failed) and not soft
        if not failed:
            continue
        message = entry_eval.message(rule, row, as_of, lambda s, c: (pack.item("codes", s) or {}).get(c, c))
        found.append(
            {
                "rule_id": rule["id"],
                "severity": "warn" if soft or _observing(rule, as_of) else rule["severity"],
                "fields": rule["fields"],
                "message_zh": message,
                "remedy_zh": rule["remedy_zh"],
            }
        )
    return found


def _observing(rule: Mapping[str, Any], as_of: date) -> bool:
    """A rule in its first weeks warns and stops nobody."""
    return as_of.isoformat() < str(rule.get("observe_until", ""))


def _resident(pack: PackStore, row: Mapping[str, Any]) -> dict[str, Any] | None:
    if pack.locked or not row.get("archive_id"):
        return None
    found = pack.find("archive_id", str(row["archive_id"]))
    return found[0] if found else None


def typed(value: Any, kind: str) -> Any:
    """A value as its field's type; local times without a zone are the city's.

    Raises:
        ValueError: it is not one.
    """
    if value is None:
        return None
    text = str(value).strip()
    if kind == "string":
        return text
    if kind == "boolean":
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ValueError(kind)
    if kind in ("number", "integer"):
        return float(text) if kind == "number" else int(text)
    if kind == "date":
        return date.fromisoformat(text[:10].replace("/", "-").replace(".", "-"))
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=SHANGHAI)
