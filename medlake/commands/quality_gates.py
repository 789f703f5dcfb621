"""``medlake quality gates`` and ``medlake quality due``: what is blocked and why, what is to be done by when."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medlake import show
from medlake.commands.base import Json, listed

if TYPE_CHECKING:
    from quality.gates_explained import Explained

Date = Annotated[
    datetime | None,
    typer.Option("--date", "--as-of", formats=["%Y-%m-%d"], help="数据日期，默认最新 / default: newest"),
]


def register(app: typer.Typer) -> None:
    """Put both commands into ``medlake quality``."""
    app.command("gates")(gates)
    app.command("due")(due)


def _row(e: Explained) -> dict[str, Any]:
    return {
        "产品": f"{e.product} {e.label_zh}",
        "门 gate": "关 closed" if e.gate == "closed" else "开 open",
        "自 since": e.since,
        "剔除 excluded": f"{e.excluded:,} / {e.eligible:,}（{e.excluded_pct:g}%，上限{e.limit_pct:g}%）",
        "还需改正 to mend": e.to_mend,
    }


def gates(
    product: Annotated[str | None, typer.Option(help="数据产品 / data product")] = None,
    day: Date = None,
    json: Json = False,
) -> None:
    """质控门：拦了什么、为什么、自何时、改正多少条即可放行 / what is blocked, why, since when, what would unblock it."""
    from lake.errors import MedlakeError

    try:
        from quality.gates_explained import explain

        found = explain(product, day.date() if day else None)
    except MedlakeError as error:
        show.problem(error, as_json=json)
        raise typer.Exit(1) from None
    if json:
        show.emit_json({"gates": [e.as_dict() for e in found]})
        return
    show.rows([_row(e) for e in found], title="质控门 gates", as_json=False)
    for e in found:
        if e.gate == "closed":
            show.line(
                f"[red]{e.product}[/] {e.reason_zh}\n  [green]→ {e.advice_zh}[/]\n  [dim]→ {e.advice_en}[/]"
            )
            many = len(e.steps) > 5
            if many:
                steps = [
                    {"规则": s.rule_id, "标题": s.title_zh, "机构": s.org_code, "条数": s.records}
                    for s in e.steps[:20]
                ]
                show.rows(steps, title=f"{e.product} 最省的改正 fewest steps", as_json=False)
    show.line("[dim]下一步 next:[/] medlake quality tickets list --rule … --org …")


def due(
    day: Date = None,
    org: Annotated[str | None, typer.Option(help="机构 / institution")] = None,
    doctor: Annotated[str | None, typer.Option(help="医生 / doctor")] = None,
    rule: Annotated[str | None, typer.Option(help="规则 / rule")] = None,
    within: Annotated[int | None, typer.Option(min=0, help="几天内到期 / due within so many days")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="最多几条 / how many at most")] = 50,
    json: Json = False,
) -> None:
    """待办到期清单：已到期或将到期而未判失败的 / what is due and has not failed yet."""

    def work() -> list[dict[str, Any]]:
        from lake import runs
        from lake.errors import MedlakeError
        from quality.due import daily

        at = day.date() if day else None
        run = runs.latest_run()
        while at is None and run is not None:
            at = run.data_date if daily.TABLE in run.versions else None
            run = runs.previous_run(run.data_date)
        if at is None:
            raise MedlakeError("E423", data_date="—")
        found = daily.rows(at, org_code=org, doctor_id=doctor, rule_id=rule, within=within, limit=limit)
        return found if json else [_due(r) for r in found]

    listed(work, json, "到期清单 due")


def _due(r: dict[str, Any]) -> dict[str, Any]:
    return {
        "规则": r["rule_id"],
        "待办": r["what_zh"],
        "机构": r["org_code"],
        "医生": r["doctor_id"] or "—",
        "记录": f"{r['table_name']}/{r['record_key']}",
        "到期 due": r["due_on"],
        "判失败 fails after": r["fails_on"],
    }
