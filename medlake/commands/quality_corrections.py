"""``medlake quality corrections``: workbooks out, what was handed in, files for the sources."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from medlake.commands.base import Day, Json, listed, measured

app = typer.Typer(help="数据更正 / correction loop", no_args_is_help=True)

Org = Annotated[str, typer.Option("--org", help="机构编码 / institution")]
AnyDay = Annotated[
    datetime | None,
    typer.Option(
        "--date", formats=["%Y-%m-%d"], help="质控日期，默认最近一次 / date of the check; the newest if unset"
    ),
]
State = Annotated[str, typer.Option("--state", help="waiting_for_source | confirmed | superseded | replaced")]
Out = Annotated[Path | None, typer.Option(help="输出目录 / folder; below the platform's home if unset")]
Waived = Annotated[bool, typer.Option("--waived", help="也列出已豁免的 / also waived findings")]
Observing = Annotated[
    bool, typer.Option("--observing", help="也列出观察期规则的 / also those of observing rules")
]


@app.command("out")
def out_(
    org: Org, day: AnyDay = None, out: Out = None, waived: Waived = False, observing: Observing = False,
    json: Json = False,
) -> None:  # fmt: skip
    """给一家机构下发更正工作簿 / write an institution's correction workbook."""

    def work() -> dict[str, Any]:
        from quality import corrections

        return corrections.out(
            org, day.date() if day else None, folder=out, with_waived=waived, with_observing=observing
        )

    measured(work, json, "下发更正工作簿 corrections out", "medlake ingest --feed correction --date …")


@app.command("list")
def list_(
    org: Annotated[str, typer.Option("--org", help="机构编码 / institution")] = "",
    state: State = "",
    limit: Annotated[int, typer.Option(min=1, help="最多行数 / rows at most")] = 50,
    json: Json = False,
) -> None:
    """列出更正及其状态 / corrections and their states."""

    def work() -> list[dict[str, Any]]:
        from quality import corrections

        return corrections.corrections(org, state, limit)

    listed(work, json, "数据更正 corrections")


@app.command()
def show(
    number: Annotated[str, typer.Argument(help="更正编号，可只写开头 / its beginning is enough")],
    actor: Annotated[str, typer.Option(help="查看人 / who looks")],
    purpose: Annotated[str, typer.Option(help="用途 / purpose")] = "correction",
    json: Json = False,
) -> None:
    """查看一条更正的内容（留痕）/ one correction with its values, audited."""

    def work() -> dict[str, Any]:
        from quality import corrections

        return corrections.show(number, actor=actor, purpose=purpose)

    measured(work, json, "数据更正 correction")


@app.command()
def status(json: Json = False) -> None:
    """各机构更正的办理情况 / corrections by institution, table and state."""

    def work() -> list[dict[str, Any]]:
        from quality import corrections

        return corrections.status()

    listed(work, json, "更正办理情况 status")


@app.command()
def write(day: Day, out: Out = None, json: Json = False) -> None:
    """把待源系统更正的记录写成源系统导入格式的文件 / write what is waiting in each source's import layout."""

    def work() -> dict[str, Any]:
        from quality import corrections

        return corrections.write(day.date(), folder=out)

    measured(work, json, "更正回写 corrections write")


def register(app_: typer.Typer) -> None:
    """Put the commands into ``medlake quality``."""
    app_.add_typer(app, name="corrections")
