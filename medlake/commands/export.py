"""``medlake export TEMPLATE`` and ``medlake exports``: one press, the templates, the history."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from medlake.commands.base import Json, listed, measured

app = typer.Typer(help="导出模板与历史 / export templates and history", no_args_is_help=True)

_Date = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="日期 / date")]


def export(
    template: Annotated[str, typer.Argument(help="模板名 / template name")] = "hypertension",
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="起始日期 / first day")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="截止日期 / last day")
    ] = None,
    org: Annotated[str | None, typer.Option(help="机构编码，含其下级 / institution and all below it")] = None,
    out: Annotated[Path | None, typer.Option(help="输出文件 / output file")] = None,
    actor: Annotated[str, typer.Option(help="操作者 / who exports")] = "officer",
    role: Annotated[str, typer.Option(help="角色 / role")] = "officer",
    person_org: Annotated[
        str, typer.Option(help="操作者所在机构 / institution of who exports; the root if unset")
    ] = "",
    purpose: Annotated[str, typer.Option(help="用途 / purpose; the template's own if unset")] = "",
    format: Annotated[
        str, typer.Option(help="xlsx | csv | pdf (a summary of counts); by the file's name if unset")
    ] = "",
    recipient: Annotated[
        str, typer.Option(help="集团外的接收方，文件将加密 / recipient outside; sealed")
    ] = "",
    password: Annotated[
        str, typer.Option(help="加密口令 / its password", envvar="MEDLAKE_EXPORT_PASSWORD")
    ] = "",
    json: Json = False,
) -> None:
    """一键导出：计划行数 = 实际行数 / one-click export; rows planned = rows written."""

    def work() -> dict[str, Any]:
        from lake import access, access_scope
        from products.exports import jobs, store

        made, _ = store.template(template)
        caller = access.Caller(actor, role, person_org or access_scope.root(), purpose or made.purpose)
        kind = format or (out.suffix[1:] if out and out.suffix else "xlsx")
        return jobs.run(
            template, caller, first=first.date() if first else None, last=last.date() if last else None, org=org,
            format=kind, out=out, recipient=recipient, password=password,
        )  # fmt: skip

    measured(work, json, f"导出 export {template}", "medlake exports history")


@app.command("list")
def list_(json: Json = False) -> None:
    """列出模板 / the templates and whether they are approved."""

    def work() -> list[dict[str, Any]]:
        from products.exports import store

        return store.templates()

    listed(work, json, "导出模板 templates")


@app.command()
def history(
    actor: Annotated[str | None, typer.Option(help="只看此人 / one person's only")] = None,
    limit: Annotated[int, typer.Option(min=1, help="最多行数 / rows at most")] = 20,
    json: Json = False,
) -> None:
    """导出历史 / the history of exports."""

    def work() -> list[dict[str, Any]]:
        from products.exports import jobs

        kept = (
            "job_id",
            "title_zh",
            "state",
            "actor",
            "org_code",
            "rows_planned",
            "rows_written",
            "asked_at",
        )
        return [{k: row[k] for k in kept} for row in jobs.jobs(actor, limit)]

    listed(work, json, "导出历史 history")


@app.command()
def propose(
    file: Annotated[Path, typer.Argument(exists=True, help="模板 YAML / template")],
    actor: Annotated[str, typer.Option(help="提交人 / who proposes")],
    org: Annotated[str, typer.Option(help="机构编码 / institution; the root if unset")] = "",
    json: Json = False,
) -> None:
    """提交一个模板待批准 / hand in a template for approval."""

    def work() -> dict[str, Any]:
        import yaml

        from lake import access_scope
        from products.exports import store

        return store.propose(
            yaml.safe_load(file.read_text("utf-8")), actor=actor, org_code=org or access_scope.root()
        )

    measured(work, json, "提交模板 propose", "medlake exports approve …")


@app.command()
def approve(
    template: Annotated[str, typer.Argument(help="模板名 / template")],
    version: Annotated[int, typer.Argument(help="版本 / version")],
    actor: Annotated[str, typer.Option(help="批准人 / who approves")],
    refuse: Annotated[bool, typer.Option("--refuse", help="不予批准 / refuse instead")] = False,
    reason: Annotated[str, typer.Option(help="理由 / why")] = "",
    json: Json = False,
) -> None:
    """批准一次，此后一键导出 / approve once; one press from then on."""

    def work() -> dict[str, Any]:
        from products.exports import store

        return store.decide(template, version, actor=actor, role="steward", agree=not refuse, reason=reason)

    measured(work, json, "批准模板 approve", f"medlake export {template}")


@app.command()
def schedule(
    template: Annotated[str, typer.Argument(help="模板名 / template")],
    day: Annotated[int, typer.Option(min=1, max=28, help="每月几日 / day of the month")],
    org: Annotated[str, typer.Option(help="机构编码 / institution; the root if unset")] = "",
    actor: Annotated[str, typer.Option(help="操作者 / who asks")] = "officer",
    json: Json = False,
) -> None:
    """每月定时导出上月数据到投递目录 / each month, last month's rows into the drop folder."""

    def work() -> dict[str, Any]:
        from lake import access, access_scope
        from products.exports import schedules, store

        made, _ = store.template(template)
        caller = access.Caller(actor, "officer", access_scope.root(), made.purpose)
        return {"schedule": schedules.add(template, caller, day_of_month=day, org=org or None)}

    measured(work, json, "定时导出 schedule", "medlake exports run-due --date …")


@app.command("run-due")
def run_due(
    day: Annotated[datetime, typer.Option("--date", formats=["%Y-%m-%d"], help="日期 / date")],
    json: Json = False,
) -> None:
    """执行到期的定时导出 / deliver the schedules that are due."""

    def work() -> list[dict[str, Any]]:
        from products.exports import schedules

        return schedules.run_due(day.date())

    listed(work, json, "到期导出 due exports")
