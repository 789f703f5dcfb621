"""``medlake pacs``: image archives that are asked for metadata (QIDO-RS, C-FIND)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from medlake.commands.base import Json, listed, measured

app = typer.Typer(help="影像归档元数据 / metadata of image archives", no_args_is_help=True)

_DAY = ["%Y-%m-%d"]


@app.command()
def template() -> None:
    """打印数据源登记样例 / Print a sample of the register."""
    from ingestion.pull.pacs_sources import TEMPLATE

    typer.echo(TEMPLATE)


@app.command()
def sources(json: Json = False) -> None:
    """列出已登记的归档 / List the registered archives."""

    def work() -> list[dict[str, Any]]:
        from ingestion.pull import pacs_sources

        return [
            {
                "name": a.name,
                "org_code": a.org_code,
                "protocol": a.protocol,
                "address": a.url or f"{a.called_aet}@{a.host}:{a.port}",
                "lookback_days": a.lookback_days,
            }
            for a in pacs_sources.load()
        ]

    listed(work, json, "影像归档 archives")


@app.command()
def pull(
    source: Annotated[str, typer.Option("--source", help="登记名称 / name in the register")],
    day: Annotated[
        datetime | None,
        typer.Option("--date", formats=_DAY, help="数据日期，默认今天 / date of the drop, today by default"),
    ] = None,
    start: Annotated[
        datetime | None, typer.Option("--from", formats=_DAY, help="检查日期起 / first study date")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--to", formats=_DAY, help="检查日期止 / last study date")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="不限日期，可发现全部删除 / all dates; finds every deletion")
    ] = False,
    ingest: Annotated[
        bool, typer.Option("--ingest", help="随后接入 / then ingest what was delivered")
    ] = False,
    json: Json = False,
) -> None:
    """拉取元数据到投递目录 / Pull metadata into the drop folder (never pixels)."""

    def work() -> dict[str, Any]:
        from ingestion.pull import pacs
        from lake.local_time import local_today

        data_date = day.date() if day else local_today()
        found = pacs.pull(
            source,
            data_date,
            start=start.date() if start else None,
            end=end.date() if end else None,
            everything=everything,
        )
        found["files"] = len(found["files"])
        if ingest:
            import ingestion

            done = ingestion.ingest_feed("pacs", data_date)
            found |= {k: done[k] for k in ("received", "loaded", "duplicate", "quarantined", "batch_id")}
        return found

    measured(work, json, f"拉取 pacs pull {source}", "medlake ingest --feed pacs")


@app.command()
def completeness(
    org: Annotated[str | None, typer.Option("--org", help="机构编码 / institution")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="也列出齐全的检查 / complete studies too")
    ] = False,
    json: Json = False,
) -> None:
    """归档宣告的数量与已到达的数量 / What archives announce against what has arrived, by study."""

    def work() -> list[dict[str, Any]]:
        from ingestion.pull import pacs_completeness

        return pacs_completeness.studies(org, incomplete_only=not everything)

    listed(work, json, "影像完整性 completeness")
