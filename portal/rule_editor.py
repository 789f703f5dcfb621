"""A steward's form made into a change of a rule: settings or a file, its dry run with masked samples, the proposal.

Only stewards of the whole group change rules, since a rule holds everywhere. Nothing here writes but
``quality.authoring``; a dry run's sample records are shown as the policy masks them for quality work, and told to the
audit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

from lake import access, audit, contracts, duck, runs, tables
from lake.access import Caller
from lake.errors import MedlakeError
from lake.local_time import local_today
from portal import work as my_work
from portal.accounts import Person
from quality import authoring
from quality.authoring import overlay
from quality.authoring.changes import Draft
from quality.authoring.flow import Proposal
from quality.rule import Param, Rule, RuleBook, read, rulebook

FILE_KB = 256
#: Sample records of each kind on the page.
SAMPLES = 5
#: Texts and settings of the form, in its order; a value is only sent on if it differs from the rule's.
SETTINGS = ("severity", "title_zh", "message_zh", "remedy_zh", "tolerance_pct", "condition")
_LONG_AGO = date(1900, 1, 1)


def may_edit(person: Person) -> bool:
    return person.role == "steward" and access.scope(my_work.caller(person)) is None


def has_condition(rule: Rule) -> bool:
    """Whether the form offers the condition: one table, single records; the rest is changed by a file."""
    return rule.kind == "row" and len(rule.targets) == 1 and rule.targets[0].query is None


def own_params(rule: Rule) -> dict[str, Param]:
    """The rule's own parameters (those of its set queries are changed by a file)."""
    book = rulebook()
    shared = {n for t in rule.targets if t.query for n in book.queries[t.query].params}
    return {n: p for n, p in rule.params.items() if n not in shared}


def present(rule: Rule) -> dict[str, str]:
    """The form as the rule is now."""
    target = rule.targets[0]
    values = {
        "severity": rule.severity,
        "title_zh": rule.title_zh,
        "message_zh": target.message_zh,
        "remedy_zh": rule.remedy_zh,
        "tolerance_pct": f"{rule.tolerance_pct:g}",
    }
    if has_condition(rule):
        values["condition"] = target.condition
    today = local_today()
    for name, param in own_params(rule).items():
        value = param.at(today)
        values[f"param.{name}"] = "" if value is None else f"{value:g}"
    return values | {"on": today.isoformat(), "note": ""}


def changed(rule: Rule, form: Mapping[str, str]) -> list[str]:
    """What of a form differs from the rule, as settings (``key=value``); thresholds hold from the form's day on."""
    now, made = present(rule), []
    for name in SETTINGS:
        given = form.get(name, "").replace("\r\n", "\n").strip()
        if name in now and given and given != now[name].strip():
            made.append(f"{name}={given}")
    on = form.get("on", "").strip() or local_today().isoformat()
    for name in own_params(rule):
        given = form.get(f"param.{name}", "").strip()
        if given and given != now[f"param.{name}"]:
            made.append(f"params.{name}={given}@{on}")
    return made


def draft(rule_id: str, form: Mapping[str, str]) -> Draft:
    """The change that a form asks for: ``action`` is ``change``, ``file`` (the rule as a whole), ``new`` or ``retire``.

    Raises:
        MedlakeError: E447, E401, E402, E449, E665: it does not hold together; E666 too large a file.
    """
    action, today = form.get("action", "change"), local_today()
    if action == "retire":
        return authoring.draft("retire", rule_id, on=today)
    if action in ("file", "new"):
        text = form.get("yaml", "")
        if not text.strip() or len(text.encode()) > FILE_KB * 1024:
            raise MedlakeError("E666", limit=FILE_KB)
        node = overlay.read_yaml(text, "rule.yaml")
        return authoring.draft("new" if action == "new" else "change", rule_id, on=today, file=node)
    rule = next((r for r in rulebook().rules if r.id == rule_id), None)
    if rule is None:
        raise MedlakeError("E449", what=rule_id[:20])
    return authoring.draft("change", rule_id, on=today, settings=changed(rule, form))


def as_if_always(made: Draft) -> Draft:
    """The draft with its changed thresholds in force for all records, however old: what they mean is seen at once."""
    before = next((r for r in made.before.rules if r.id == made.rule_id), None)
    after = next((r for r in made.book.rules if r.id == made.rule_id), None)
    if before is None or after is None:
        return made
    params = {
        n: replace(p, steps=((_LONG_AGO, p.steps[-1][1]),))
        if n in before.params and p.steps != before.params[n].steps
        else p
        for n, p in after.params.items()
    }
    rule = replace(after, params=params)
    rules = tuple(rule if r.id == rule.id else r for r in made.book.rules)
    return replace(made, book=RuleBook(rules, made.book.queries))


def _masked(caller: Caller, table: str, keys: list[str], fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """The fields of some records as the policy shows them; empty for a table that is made for the check alone."""
    try:
        contract = contracts.table_contract(table)
    except (KeyError, LookupError, MedlakeError):
        return []
    full, run = f"silver/{table}", authoring_run()
    if full not in run.versions:
        return []
    there = tables.columns(full, run.versions[full])
    asked = [f for f in dict.fromkeys(("org_code", *fields)) if f in there]
    shown, where, values = access.select_sql(caller, full, asked, "t", known=there)
    key = "concat_ws('|', " + ", ".join(f't."{k}"' for k in contract.key) + ")"
    with duck.connect() as connection:
        cursor = connection.execute(
            f"SELECT {', '.join(shown)} FROM {tables.scan_sql(full, run.versions[full])} AS t "
            f"WHERE {where} AND list_contains(?, {key}) LIMIT {SAMPLES}",
            [*values, keys],
        )
        names = [d[0] for d in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def authoring_run() -> runs.Run:
    """The run that dry runs look at.

    Raises:
        MedlakeError: E423, nothing was checked yet.
    """
    from quality.authoring.dryrun import newest_checked

    return newest_checked()


def tried(person: Person, made: Draft, source_ip: str) -> dict[str, Any]:
    """The dry run for the page: counts, institutions, masked samples by table.

    Raises:
        MedlakeError: E423 nothing was checked yet; E403 the rule does not run.
    """
    found = authoring.dry_run(as_if_always(made), samples=SAMPLES)
    caller = my_work.caller(person)
    book = made.book if any(r.id == made.rule_id for r in made.book.rules) else made.before
    rule = book.rule(made.rule_id)
    samples: dict[str, list[dict[str, Any]]] = {}
    for which, records in found["samples"].items():
        for table in dict.fromkeys(r["table"] for r in records):
            keys = [r["record_key"] for r in records if r["table"] == table]
            fields = rule.target(table).fields
            rows = [{"table": table} | row for row in _masked(caller, table, keys, fields)]
            samples.setdefault(which, []).extend(rows)
    shown = sorted({f for rows in samples.values() for row in rows for f in row if f != "table"})
    if shown:
        audit.record(
            "rules.samples",
            actor=person.user,
            purpose=caller.purpose,
            tables=sorted({str(row["table"]) for rows in samples.values() for row in rows}),
            fields=shown,
            rows=sum(len(rows) for rows in samples.values()),
            result="ok",
            actor_role=person.role,
            org_code=person.org_code,
            source_ip=source_ip,
        )
    return found | {"samples": samples}


#: Entries of a rule in words; the rest is shown under its own name.
_ENTRIES = {
    "severity": "严重程度", "title_zh": "名称", "title_en": "英文名称", "message_zh": "提示文字", "remedy_zh": "怎么改",
    "tolerance_pct": "容忍的不合规比例（%）", "condition": "不合规条件", "eligibility": "适用于", "warn_when": "仅警告",
    "params": "参数", "org_params": "机构参数", "products": "数据产品", "examples": "示例", "fields": "字段",
    "category": "类别", "owner": "负责", "table": "表", "query": "集合查询", "needs": "前置规则",
}  # fmt: skip
_OWN = ("version", "introduced_on")


def _words(value: Any) -> str:
    """An entry as a person reads it; thresholds as ``95（自 2009-10-10）``."""
    if value is None:
        return "—"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(
        isinstance(v, Mapping) and {"valid_from", "value"} == set(v) for v in value
    ):
        return "，".join(f"{v['value']:g}（自 {v['valid_from']}）" for v in value)
    if isinstance(value, Mapping):
        return "；".join(f"{k}：{_words(v)}" for k, v in value.items())
    return "；".join(_words(v) for v in value)


def differences(waiting: Proposal) -> list[tuple[str, str, str]]:
    """What a proposal changes: (entry, as it is, as it would be)."""
    nodes = overlay.applied(read()).values()
    now: dict[str, Any] = next((r for node in nodes for r in node["rules"] if r["id"] == waiting.rule_id), {})
    after = waiting.file["rules"][0] if waiting.file else {}
    if not after:
        return [("状态", "在用", "停用")]
    names = [n for n in dict.fromkeys((*now, *after)) if n not in _OWN and now.get(n) != after.get(n)]
    found = [(_ENTRIES.get(n, n), _words(now.get(n)), _words(after.get(n))) for n in names]
    queries = (waiting.file or {}).get("queries", {})
    return found + [(f"查询 {n}", "", str(q.get("sql", ""))) for n, q in queries.items()]


def again(waiting: Proposal) -> Draft:
    """The proposal on the rules as they are now.

    Raises:
        MedlakeError: E447, E449, E665: it does not hold together any more.
    """
    return authoring.draft(waiting.action, waiting.rule_id, on=local_today(), file=waiting.file)


def propose(person: Person, made: Draft, note: str) -> str:
    """Keep the change for a second person; returns the proposal's number.

    Raises:
        MedlakeError: E423, E448.
    """
    return authoring.propose(made, by=person.user, note=note, samples=0).proposal_id


def decide(person: Person, proposal_id: str, *, agree: bool, note: str) -> str:
    """Publish or reject a proposal; returns the rule.

    Raises:
        MedlakeError: E448 by who proposed it, without a reason, or not open any more; E447, E449.
    """
    if agree:
        done = authoring.publish(proposal_id, by=person.user, on=local_today(), note=note)
    else:
        done = authoring.reject(proposal_id, by=person.user, note=note)
    return str(done.get("rule_id") or authoring.get(proposal_id).rule_id)
