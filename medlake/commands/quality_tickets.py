"""``medlake quality tickets``: what is wrong where, whose turn it is, and what they did."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import typer

from medlake import show
from medlake.commands.base import Day, Json, listed, measured

group = typer.Typer(help="质控工单 / quality tickets", no_args_is_help=True)

TicketId = Annotated[
    str, typer.Argument(help="工单编号（可只写开头）/ ticket number, its beginning is enough")
]
By = Annotated[str, typer.Option("--by", help="操作人 / who", envvar="MEDLAKE_ACTOR")]
Words = Annotated[str, typer.Option("--reason", help="理由 / reason in words")]
Key = Annotated[str | None, typer.Option("--key", help="命令号：同号只做一次 / command key: done once")]
Code = Annotated[str, typer.Option("--code", help="原因代码，见 reasons / reason code, see: reasons")]
Role = Annotated[str, typer.Option(help="responsible_doctor | data_steward")]
Org = Annotated[str | None, typer.Option(help="机构 / institution")]


def register(app: typer.Typer) -> None:
    """Put the group into ``medlake quality``."""
    app.add_typer(group, name="tickets")


def _step(work: Callable[[], dict[str, Any]], item_id: str, as_json: bool, title: str) -> None:
    measured(work, as_json, title, f"medlake quality tickets show {item_id}")


def _row(t: dict[str, Any]) -> dict[str, Any]:
    return {
        "编号 ticket": t["item_id"][:10],
        "规则": t["rule_id"],
        "标题": t["title_zh"],
        "机构": t["org_code"],
        "级别": t["severity"],
        "问题 findings": t["findings"],
        "首见": t["first_seen_on"],
        "状态": t["state_zh"],
        "到期 due": (t["due_at"] or "—")[:10],
        "重开": t["reopened"],
        "经办": t["assignee"] or "—",
    }


@group.command()
def ask(day: Day, json: Json = False) -> None:
    """按当日质控结果开单、更新、关闭、重开（质控后自动执行）/ done after each check; again changes nothing."""

    def work() -> dict[str, Any]:
        from quality import tickets

        return tickets.ask(day.date())

    measured(work, json, "质控工单 ask", "medlake worklist run --once && medlake quality tickets list")


@group.command("list")
def list_tickets(
    org: Annotated[list[str] | None, typer.Option(help="机构，可重复 / institution, repeatable")] = None,
    rule: Annotated[str | None, typer.Option(help="规则 / rule")] = None,
    state: Annotated[str | None, typer.Option(help="状态 / state, such as waived")] = None,
    assignee: Annotated[str | None, typer.Option(help="经办人 / assignee")] = None,
    closed: Annotated[bool, typer.Option("--closed", help="只看已关闭 / closed ones only")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="最多几条 / how many at most")] = 50,
    json: Json = False,
) -> None:
    """工单，先到期的在前 / tickets, those due first."""

    def work() -> list[dict[str, Any]]:
        from portal import tickets

        found = tickets.listed(
            org_codes=org or None,
            rule_id=rule,
            state=state,
            assignee=assignee,
            is_open=not closed,
            limit=limit,
        )
        return found if json else [_row(t) for t in found]

    listed(work, json, "质控工单 tickets")


@group.command("show")
def show_ticket(
    item_id: TicketId,
    limit: Annotated[int, typer.Option(min=0, max=100_000, help="最多列几条问题 / findings at most")] = 20,
    json: Json = False,
) -> None:
    """一张工单：经过、可做的操作、每条问题的位置（不含数值）/ log, what can be done, where each finding is."""
    from lake.errors import MedlakeError

    try:
        from portal import tickets

        found = tickets.shown(item_id, limit=limit)
    except MedlakeError as error:
        show.problem(error, as_json=json)
        raise typer.Exit(1) from None
    if json:
        show.emit_json(found)
        return
    show.rows([_row(found["ticket"])], title="质控工单", as_json=False)
    from lake.local_time import SHANGHAI

    log = [
        {**e, "at": f"{datetime.fromisoformat(e['at']).astimezone(SHANGHAI):%Y-%m-%d %H:%M}"}
        for e in found["log"]
    ]
    show.rows(log, title="经过 log", as_json=False)
    places = [
        {
            "表.字段": f"{f['table_name']}.{f['field_list']}",
            "记录": f["record_key"],
            "医生": f["doctor_id"] or "—",
            "来源": ":".join(
                str(f[n]) for n in ("source_file", "source_sheet", "source_line") if f[n] is not None
            ),
            "首见": f["first_seen_on"],
            "状态": f["state"],
        }
        for f in found["findings"]
    ]
    show.rows(places, title="问题位置 places", as_json=False)
    words = {
        "assign_doctor": "assign … --to …",
        "fix": "fix … --code …",
        "ask_waiver": "waive … --code … --reason …",
        "waive": "approve … --reason …",
        "refuse_waiver": "refuse … --reason …",
    }
    for step in found["can"]:
        if step["action"] in words:
            command = words[step["action"]].replace("…", found["ticket"]["item_id"][:10], 1)
            show.line(f"  {step['zh']}: medlake quality tickets {command} --by …")


@group.command()
def assign(
    item_id: TicketId,
    to: Annotated[str, typer.Option(help="责任医生 / responsible doctor")],
    by: By,
    key: Key = None,
    json: Json = False,
) -> None:
    """分派责任医生 / assign."""

    def work() -> dict[str, Any]:
        from portal import tickets

        return tickets.assign(item_id, to, by=by, key=key)

    _step(work, item_id, json, "分派 assign")


@group.command()
def fix(
    item_id: TicketId,
    by: By,
    code: Code,
    reason: Words = "",
    role: Role = "responsible_doctor",
    key: Key = None,
    json: Json = False,
) -> None:
    """已在源系统改好；下一日质控自动复查 / mended at the source; the next date's check looks."""

    def work() -> dict[str, Any]:
        from portal import tickets

        return tickets.fix(item_id, code, by=by, role=role, note=reason, key=key)

    _step(work, item_id, json, "修改 fix")


@group.command()
def waive(
    item_id: TicketId,
    by: By,
    code: Code,
    reason: Words,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="到期日，默认180天 / last day; 180 days if absent"),
    ] = None,
    role: Role = "responsible_doctor",
    key: Key = None,
    json: Json = False,
) -> None:
    """申请豁免，须第二人批准 / ask for a waiver; a second person decides."""

    def work() -> dict[str, Any]:
        from portal import tickets

        last = until.date() if until else None
        return tickets.ask_waiver(item_id, code, by=by, reason=reason, expires_on=last, role=role, key=key)

    _step(work, item_id, json, "申请豁免 waive")


@group.command()
def approve(item_id: TicketId, by: By, reason: Words, key: Key = None, json: Json = False) -> None:
    """批准豁免（不能是申请人、责任人或被豁免记录的医生）/ agree to a waiver that is not one's own."""

    def work() -> dict[str, Any]:
        from portal import tickets

        return tickets.decide(item_id, by=by, reason=reason, agree=True, key=key)

    _step(work, item_id, json, "批准豁免 approve")


@group.command()
def refuse(item_id: TicketId, by: By, reason: Words, key: Key = None, json: Json = False) -> None:
    """不予豁免 / refuse a waiver."""

    def work() -> dict[str, Any]:
        from portal import tickets

        return tickets.decide(item_id, by=by, reason=reason, agree=False, key=key)

    _step(work, item_id, json, "不予豁免 refuse")


@group.command()
def stats(org: Org = None, json: Json = False) -> None:
    """按原因、机构、规则、状态统计：在办、逾期、重开、平均修复时间 / open, overdue, reopened, mean time to repair."""

    def work() -> dict[str, Any]:
        from portal import tickets

        return tickets.stats(org)

    measured(work, json, "工单统计 stats", "medlake quality tickets list")


@group.command()
def waivers(json: Json = False) -> None:
    """所有豁免：谁申请、谁批准、到期日 / all waivers."""

    def work() -> list[dict[str, Any]]:
        from quality.tickets import waiving

        return [w.__dict__ for w in waiving.every()]

    listed(work, json, "豁免 waivers")


@group.command()
def reasons(json: Json = False) -> None:
    """原因分类 / the taxonomy of reasons."""

    def work() -> list[dict[str, Any]]:
        from quality import tickets

        return [
            {"code": r.code, "zh": r.zh, "en": r.en, "for": ", ".join(r.steps)}
            for r in tickets.reasons().values()
        ]

    listed(work, json, "原因分类 reasons")
