"""``medlake empi archives``: whose archive is it — proposals, requests to both institutions, write-back, evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medlake.commands.base import Day, Json, listed, measured

app = typer.Typer(help="档案归属 / whose archive is it", no_args_is_help=True)

Org = Annotated[str | None, typer.Option("--org", help="迁出或迁入机构 / institution that gives or takes")]
State = Annotated[
    str | None,
    typer.Option(
        "--state",
        help="not_asked | asked | released | moved | refused | withdrawn",
    ),
]
Limit = Annotated[int, typer.Option(min=1, help="最多行数 / rows at most")]
Number = Annotated[str, typer.Argument(help="建议号，可只写开头 / proposal number, its beginning is enough")]
Out = Annotated[
    Path | None, typer.Option(help="输出目录，默认在平台目录下 / folder; below the platform's home if unset")
]
NoAsk = Annotated[bool, typer.Option("--no-ask", help="只建议，不向机构发起待办 / propose only, ask nobody")]


def _compact(row: dict[str, Any]) -> dict[str, Any]:
    """A proposal on one line of a screen."""
    return {
        "建议号 id": row["proposal_id"][:10],
        "档案 archive": row["archive_id"],
        "建议 action": row["action"],
        "从 from": row["from_org_code"],
        "到 to": row["managing_org_code"],
        "依据 by": row["decided_by"],
        "把握": row["confidence"],
        "状态 state": row["state"],
    }


@app.command()
def propose(day: Day, no_ask: NoAsk = False, json: Json = False) -> None:
    """为有多份在用档案的居民建议保留哪份、归谁管，并向两家机构发起迁档 / propose keepers, ask both institutions."""

    def work() -> dict[str, Any]:
        from empi import archives

        result = archives.propose(day.date())
        return result if no_ask else result | archives.ask(day.date())

    measured(work, json, "档案归属 propose", "medlake empi archives list")


@app.command("list")
def list_(org: Org = None, state: State = None, limit: Limit = 50, json: Json = False) -> None:
    """列出应迁移或注销的档案，把握大的在前 / archives to be moved or closed, surest first."""

    def work() -> list[dict[str, Any]]:
        from empi import archives

        rows = archives.proposals(org_code=org, state=state, limit=limit)
        return rows if json else [_compact(r) for r in rows]

    listed(work, json, "档案归属建议 proposals")


@app.command()
def show(number: Number, json: Json = False) -> None:
    """一条建议：该居民的各份档案、各规则的依据与两家机构的办理情况 / one proposal with its evidence."""

    def work() -> dict[str, Any]:
        from empi import archives

        return archives.show(number)

    measured(work, json, "档案归属建议 proposal")


@app.command("write-back")
def write_back(day: Day, out: Out = None, json: Json = False) -> None:
    """把已办结的迁档写成源系统的导入文件 / write agreed moves as files that the sources import."""

    def work() -> dict[str, Any]:
        from empi import archives

        return archives.write_back(day.date(), out=out)

    measured(work, json, "档案回写 write-back")


@app.command()
def evaluate(json: Json = False) -> None:
    """对照模拟真值：建议对了多少（95 % 区间）/ how many proposals are right, with 95 % intervals."""

    def work() -> dict[str, Any]:
        from empi import archives

        return archives.evaluate()

    measured(work, json, "档案归属评估 evaluate")


def register(app_: typer.Typer) -> None:
    """Put the commands into ``medlake empi``."""
    app_.add_typer(app, name="archives")
