"""``medlake audit``: is the log whole, what happened, whose data a leak concerns, what an auditor should look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from medlake.commands.base import Json, listed, measured

app = typer.Typer(help="审计：校验、查询、受影响居民、提醒 / audit log", no_args_is_help=True)

Since = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="自某日（本地）/ from a local day")
]
Until = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="至某日（含）/ to a local day, included")
]
Actor = Annotated[str, typer.Option("--actor", help="操作人 / who acted")]
Table = Annotated[str, typer.Option("--table", help="表 / table")]


def window(since: datetime | None, until: datetime | None) -> tuple[datetime | None, datetime | None]:
    """Local days as instants."""
    from lake.local_time import SHANGHAI

    start = since.replace(tzinfo=SHANGHAI).astimezone(UTC) if since else None
    end = (until + timedelta(days=1)).replace(tzinfo=SHANGHAI).astimezone(UTC) if until else None
    return start, end


@app.command("verify")
def verify(json: Json = False) -> None:
    """重算整条审计链、归档与封印 / recompute the chain, its archives and its seal."""

    def work() -> dict[str, Any]:
        from lake import audit

        return {"entries": audit.verify(), "intact": True}

    measured(work, json, "审计链 audit chain", "medlake audit search")


@app.command("search")
def search(
    actor: Actor = "",
    action: Annotated[str, typer.Option(help="动作开头，如 export / beginning of the action")] = "",
    table: Table = "",
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    json: Json = False,
) -> None:
    """查询审计记录，最新在前 / entries, the newest first."""

    def work() -> list[dict[str, Any]]:
        from lake import audit_search

        start, end = window(since, until)
        found = audit_search.search(
            actor=actor, action=action, table=table, since=start, until=end, limit=limit
        )
        told = ("seq", "at", "actor", "action", "purpose", "tables", "rows", "result")
        return [{k: ", ".join(v) if isinstance(v := e.get(k), list) else v for k in told} for e in found]

    listed(work, json, "审计记录 audit entries")


@app.command("affected")
def affected(
    actor: Actor = "", table: Table = "", since: Since = None, until: Until = None, json: Json = False
) -> None:
    """一次泄露涉及哪些居民（主索引号）/ the residents whose data were shown or taken."""

    def work() -> dict[str, Any]:
        from lake import audit_search

        start, end = window(since, until)
        found = audit_search.affected(actor=actor, table=table, since=start, until=end)
        return found if json else found | {"persons": len(found["persons"])}

    measured(work, json, "受影响居民 affected residents", "medlake audit affected … --json")


@app.command("alerts")
def alerts(since: Since = None, until: Until = None, json: Json = False) -> None:
    """异常提醒：数据量、夜间、本人、同事、登录猜测 / what an auditor should look at."""

    def work() -> list[dict[str, Any]]:
        from lake import audit_alerts

        start, end = window(since, until)
        now = datetime.now(UTC)
        return audit_alerts.alerts(start or now - timedelta(days=30), end or now)

    listed(work, json, "审计提醒 audit alerts")


@app.command("retain")
def retain(
    days: Annotated[int, typer.Option(help="在线保存天数，至少 180 / days that stay hot")] = 180,
    actor: Annotated[str, typer.Option("--as", help="操作人 / who acts")] = "system",
    json: Json = False,
) -> None:
    """把更早的记录移入加封归档，永不删除 / move older entries into sealed files; nothing is deleted."""

    def work() -> dict[str, Any]:
        from lake import audit_retention

        return audit_retention.retain(datetime.now(UTC), days, actor=actor)

    measured(work, json, "审计归档 audit retention", "medlake audit verify")
