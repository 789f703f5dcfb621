"""``medlake worklist``: what waits for people, what they do with it, and the engine that watches the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medlake import show
from medlake.commands.base import Day, Json, listed, measured

if TYPE_CHECKING:
    from worklist.store import Event, Item

app = typer.Typer(
    help="待办：闭环事项、期限、升级 / worklist: items, deadlines, escalation", no_args_is_help=True
)

ItemId = Annotated[str, typer.Argument(help="待办编号（可只写开头）/ item number, its beginning is enough")]
Actor = Annotated[str, typer.Option("--as", help="操作人 / who acts", envvar="MEDLAKE_ACTOR")]
Role = Annotated[str, typer.Option("--role", help="操作人的角色 / role of who acts", envvar="MEDLAKE_ROLE")]
Key = Annotated[str | None, typer.Option("--key", help="命令号：同号只做一次 / command key: done once")]
Expected = Annotated[
    int | None, typer.Option("--version", help="看到的版本，不符则拒绝 / version seen; refused if it changed")
]
Reason = Annotated[str, typer.Option("--reason", help="理由 / reason")]
Data = Annotated[list[str] | None, typer.Option("--set", help="字段=值，可重复 / field=value, repeatable")]
Evidence = Annotated[
    list[str] | None, typer.Option("--evidence", help="证据编号，可重复 / evidence, repeatable")
]


def clock(due_at: datetime | None, now: datetime) -> str:
    """A deadline as people say it: ``剩余 12 min`` (due in 12 min), ``超时 2 h`` (overdue 2 h)."""
    if due_at is None:
        return "—"
    seconds = (due_at - now).total_seconds()
    sizes = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    size, unit = next((s for s in sizes if abs(seconds) >= s[0]), sizes[-1])
    return f"{'剩余' if seconds >= 0 else '超时'} {int(abs(seconds) // size)} {unit}"


def _row(item: Item, now: datetime) -> dict[str, Any]:
    from worklist.machine import kind, roles

    rule = kind(item.kind)
    return {
        "编号 item": item.item_id[:10],
        "种类 kind": rule.zh,
        "级别": item.severity,
        "机构": item.org_code,
        "状态": rule.states[item.state].zh,
        "期限 due": clock(item.due_at, now) if item.is_open else "已关闭",
        "责任 owner": roles()[item.owner_role]["zh"] if item.owner_role else "—",
    }


def _more(item: Item, now: datetime) -> dict[str, Any]:
    return (
        _row(item, now)
        | {"编号 item": item.item_id, "种类 kind": f"{item.kind}", "对象 subject": item.subject}
        | {"责任人 owner": item.owner_id or "—", "经办 assignee": item.assignee or "—"}
        | {"版本 version": item.version, "重开 reopened": item.reopened}
    )


def _plain(item: Item) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(item) | {"possible": _possible(item)}


def _possible(item: Item) -> list[dict[str, Any]]:
    from worklist.machine import SYSTEM, kind

    return [
        {
            "action": t.action,
            "zh": t.zh,
            "roles": [r for r in t.roles if r != SYSTEM],
            "requires": [*t.requires],
        }
        for t in kind(item.kind).actions(item.state)
        if set(t.roles) != {SYSTEM}
    ]


def _event(event: Event) -> dict[str, Any]:
    from lake.local_time import SHANGHAI

    return {
        "序": event.seq,
        "时间 at": event.at.astimezone(SHANGHAI).strftime("%m-%d %H:%M:%S"),
        "动作 action": event.action,
        "到 to": event.to_state,
        "人 actor": f"{event.actor} ({event.role})",
        "理由、方式、证据": " ".join([event.reason or "", event.channel or "", *event.evidence]).strip()
        or "—",
    }


@app.command("list")
def list_items(
    kind: Annotated[str | None, typer.Option(help="种类 / kind")] = None,
    org: Annotated[list[str] | None, typer.Option(help="机构，可重复 / institution, repeatable")] = None,
    role: Annotated[str | None, typer.Option(help="责任角色 / owner role")] = None,
    assignee: Annotated[str | None, typer.Option(help="经办人 / assignee")] = None,
    closed: Annotated[bool, typer.Option("--closed", help="只看已关闭 / closed ones only")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="最多几条 / how many at most")] = 50,
    json: Json = False,
) -> None:
    """待办清单，最急的在前 / what waits, the most urgent first."""

    def work() -> list[dict[str, Any]]:
        import worklist

        found = worklist.items(
            kind=kind, org_codes=org or None, role=role, assignee=assignee, is_open=not closed, limit=limit
        )
        now = datetime.now(UTC)
        return [_plain(i) for i in found] if json else [_row(i, now) for i in found]

    listed(work, json, "待办 worklist")


@app.command("show")
def show_item(item_id: ItemId, json: Json = False) -> None:
    """一条待办及其全部记录 / one item and its log."""
    from lake.errors import MedlakeError

    try:
        import worklist

        item, events = worklist.find(item_id)
    except MedlakeError as error:
        show.problem(error, as_json=json)
        raise typer.Exit(1) from None
    if json:
        from dataclasses import asdict

        show.emit_json(_plain(item) | {"events": [asdict(e) for e in events]})
        return
    show.result(_more(item, datetime.now(UTC)), title="待办 item", as_json=False, following="")
    show.rows([_event(e) for e in events], title="记录 log", as_json=False)
    for one in _possible(item):
        needs = f"  --set {' --set '.join(f'{f}=…' for f in one['requires'])}" if one["requires"] else ""
        show.line(
            f"  {one['zh']}: medlake worklist act {item.item_id} {one['action']} --role {'|'.join(one['roles'])}{needs}"
        )


def _pairs(values: list[str] | None) -> dict[str, str]:
    pairs = [v.partition("=") for v in values or []]
    if wrong := [name for name, sign, _ in pairs if not (name and sign)]:
        raise typer.BadParameter(f"字段=值 / field=value: {', '.join(wrong)}", param_hint="--set")
    return {name: value for name, _, value in pairs}


def _act(item_id: str, action: str, as_json: bool, title: str, data: dict[str, str], **command: Any) -> None:
    def work() -> dict[str, Any]:
        import worklist

        item, _ = worklist.find(item_id)
        done = worklist.act(item.item_id, action, data=data, **command)
        return _plain(done) if as_json else _more(done, datetime.now(UTC))

    measured(work, as_json, title, f"medlake worklist show {item_id}")


@app.command()
def act(
    item_id: ItemId,
    action: Annotated[str, typer.Argument(help="动作 / action, see show")],
    actor: Actor,
    role: Role,
    set_: Data = None,
    reason: Reason = "",
    evidence: Evidence = None,
    channel: Annotated[str | None, typer.Option(help="方式 / channel: phone, popup, ...")] = None,
    key: Key = None,
    version: Expected = None,
    json: Json = False,
) -> None:
    """办理一步 / do one step."""
    _act(
        item_id,
        action,
        json,
        "办理 act",
        _pairs(set_),
        actor=actor,
        role=role,
        reason=reason,
        evidence=evidence or [],
        channel=channel,
        command_key=key,
        expected_version=version,
    )


@app.command()
def close(
    item_id: ItemId,
    actor: Actor,
    role: Role,
    set_: Data = None,
    reason: Reason = "",
    evidence: Evidence = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """关闭（等于 act … close）/ close: the same as act … close."""
    _act(
        item_id,
        "close",
        json,
        "关闭 close",
        _pairs(set_),
        actor=actor,
        role=role,
        reason=reason,
        evidence=evidence or [],
        command_key=key,
    )


def _assign(item_id: str, assignee: str, as_json: bool, title: str, **command: Any) -> None:
    def work() -> dict[str, Any]:
        import worklist

        item, _ = worklist.find(item_id)
        done = worklist.assign(item.item_id, assignee, **command)
        return _plain(done) if as_json else _more(done, datetime.now(UTC))

    measured(work, as_json, title, f"medlake worklist show {item_id}")


@app.command()
def take(item_id: ItemId, actor: Actor, role: Role, key: Key = None, json: Json = False) -> None:
    """领取 / take an item oneself."""
    _assign(item_id, actor, json, "领取 take", actor=actor, role=role, command_key=key)


@app.command()
def assign(
    item_id: ItemId,
    to: Annotated[str, typer.Option("--to", help="经办人 / assignee")],
    actor: Actor,
    role: Role,
    owner: Annotated[str | None, typer.Option(help="责任人 / who answers for it")] = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """分派 / give an item to somebody."""
    _assign(item_id, to, json, "分派 assign", actor=actor, role=role, owner_id=owner, command_key=key)


@app.command()
def run(
    poll: Annotated[float, typer.Option(min=0.05, help="间隔秒数 / seconds between turns")] = 1.0,
    lease: Annotated[
        float,
        typer.Option(
            min=1.0, help="领导者失联多少秒后由他人接替 / seconds until a silent leader is replaced"
        ),
    ] = 15.0,
    once: Annotated[bool, typer.Option("--once", help="只做一轮 / one turn only")] = False,
    json: Json = False,
) -> None:
    """接收请求、看期限、投递决定，直到 SIGTERM / intake, timers and decisions until SIGTERM."""
    import signal
    import threading

    def work() -> dict[str, Any]:
        from worklist import service

        if once:
            return service.turn()
        import worklist

        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        return worklist.run(stop, poll=poll, lease_seconds=lease)

    measured(work, json, "待办引擎 worklist engine")


@app.command()
def stats(
    org: Annotated[str | None, typer.Option(help="机构 / institution")] = None, json: Json = False
) -> None:
    """及时率、中位用时、超时未结、重开 / on-time rate, medians, open overdue, reopened."""

    def work() -> dict[str, Any]:
        import worklist

        return worklist.stats(org)

    measured(work, json, "闭环统计 loops")


@app.command()
def kinds(json: Json = False) -> None:
    """全部种类及其状态 / all kinds and their states."""

    def work() -> list[dict[str, Any]]:
        import worklist

        return [
            {
                "kind": k.kind,
                "种类": k.zh,
                "状态": len(k.states),
                "动作": len(k.transitions),
                "期限": len(k.deadlines),
                "出处 reference": k.reference,
            }
            for k in worklist.kinds().values()
        ]

    listed(work, json, "待办种类 kinds")


@app.command()
def decisions(day: Day, json: Json = False) -> None:
    """把到某日为止的决定投递为数据源 decision / drop the decisions up to a day as feed `decision`."""

    def work() -> dict[str, Any]:
        import worklist

        return worklist.drop_decisions(day.date())

    measured(work, json, "决定 decisions", f"medlake ingest --feed worklist --date {day:%Y-%m-%d}")


@app.command()
def migrate(json: Json = False) -> None:
    """把操作库升到当前结构 / bring the operational database to the current schema."""

    def work() -> dict[str, Any]:
        import worklist

        return {"revision": worklist.migrate()}

    measured(work, json, "操作库 migrate")
