"""``medlake quarantine``: what was refused and why, what one record holds, and running it again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from medlake.commands.base import Json, listed, measured

app = typer.Typer(help="隔离区：查看、重放 / refused records: list, show, replay", no_args_is_help=True)

Feed = Annotated[str, typer.Option(help="数据源 / feed")]
Org = Annotated[str, typer.Option(help="仅限该机构 / this institution only")]
Code = Annotated[str, typer.Option(help="仅限该错误号，如 E211 / this number only")]
Actor = Annotated[str, typer.Option(help="操作者，记入审计 / who does it, audited")]


@app.command("list")
def list_(feed: Feed = "", org: Org = "", code: Code = "", json: Json = False) -> None:
    """按原因汇总，最多的在前 / by reason, most records first."""

    def work() -> list[dict[str, Any]]:
        import ingestion

        rows = ingestion.quarantine_list(feed, org, code)
        names = (
            "feed",
            "table_name",
            "org_code",
            "error_code",
            "field",
            "records",
            "reason_zh",
            "replayable",
        )
        return rows if json else [{n: r[n] for n in names} for r in rows]

    listed(work, json, "隔离 / quarantine")


@app.command()
def show(
    feed: Annotated[str, typer.Option(help="数据源 / feed")],
    org: Org = "",
    code: Code = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="最多条数 / records at most")] = 20,
    actor: Actor = "steward",
    purpose: Annotated[str, typer.Option(help="用途，记入审计 / purpose, audited")] = "隔离数据处理",
    json: Json = False,
) -> None:
    """逐条显示位置、原因与原文（记入审计）/ place, reason and payload of each record; the look is audited."""

    def work() -> list[dict[str, Any]]:
        import ingestion

        rows = ingestion.quarantine_show(
            feed, actor=actor, purpose=purpose, org_code=org, code=code, limit=limit
        )
        names = ("place", "errors", "reason_zh", "remedy_zh", "raw")
        return rows if json else [{n: r[n] for n in names} for r in rows]

    listed(work, json, f"隔离 / quarantine {feed}")


@app.command()
def replay(
    feed: Annotated[str, typer.Option(help="数据源 / feed")],
    table: Annotated[str, typer.Option(help="仅限该表 / this table only")] = "",
    org: Org = "",
    code: Code = "",
    actor: Actor = "steward",
    json: Json = False,
) -> None:
    """修正契约或映射后重放；每条只重放一次 / run them again after a contract or a map was mended, each once."""

    def work() -> dict[str, Any]:
        import ingestion

        return ingestion.replay(feed, actor=actor, table=table, org_code=org, code=code)

    measured(work, json, f"重放 replay {feed}", "medlake quarantine list")
