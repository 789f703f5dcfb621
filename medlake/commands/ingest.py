"""``medlake ingest``: files into the lake, and who delivers how."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from medlake.commands.base import Json, listed, measured


class _FilesByDefault(TyperGroup):
    """``medlake ingest FILE... --feed X`` needs no verb: what is no command is taken for files to ingest."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["files", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_FilesByDefault,
    no_args_is_help=True,
    help="""接入：文件进湖，账目平衡或整批撤销；status 看时效 / files into the lake; a batch balances or is undone.

    medlake ingest FILE... --feed lis      接入这些文件 / these files
    medlake ingest --feed his --date D     接入该日投递目录 / that date's drop folder
    medlake ingest status                  各机构时效、完整、隔离 / lag, completeness, rejects
    """,
)

Feed = Annotated[
    str,
    typer.Option(
        help="数据源 / feed (medlake contracts list); dicom, fhir_r4, hl7v2 按内容分发 / route by content"
    ),
]
AsOf = Annotated[
    datetime | None,
    typer.Option("--as-of", formats=["%Y-%m-%d"], help="截至日期，缺省今天 / as of, default today"),
]


def _as_of(given: datetime | None) -> Any:
    from lake.local_time import local_today

    return given.date() if given else local_today()


@app.command()
def files(
    paths: Annotated[list[Path] | None, typer.Argument(help="文件或目录 / files or folders")] = None,
    feed: Feed = "",
    org: Annotated[str | None, typer.Option(help="机构编码 / institution of files that name none")] = None,
    day: Annotated[
        datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="交付日期 / delivery date")
    ] = None,
    json: Json = False,
) -> None:
    """接入文件（可省略 files 一词）/ ingest files; the word ``files`` may be left out."""

    def work() -> dict[str, Any]:
        import ingestion

        if paths:
            return ingestion.ingest_paths(paths, feed, org_code=org, data_date=day.date() if day else None)
        if day is None:
            raise typer.BadParameter("给出 PATH 或 --date / give PATH or --date")
        return ingestion.ingest_feed(feed, day.date())

    if not feed:
        raise typer.BadParameter("--feed")
    measured(work, json, f"接入 ingest {feed}", "medlake ingest status")


@app.command()
def status(as_of: AsOf = None, json: Json = False) -> None:
    """各机构各数据源：时效、完整、隔离 / lag, completeness and rejects per institution and feed."""

    def work() -> list[dict[str, Any]]:
        import ingestion

        rows = ingestion.status(_as_of(as_of))
        if json:
            return rows
        return [
            {
                "数据源 feed": r["feed"],
                "机构 org": r["org_code"],
                "最近 last": r["last_delivery_on"],
                "滞后h lag": r["lag_hours"],
                "宽限h": r["grace_hours"],
                "断供": r["is_silent"],
                "齐全% complete": r["completeness_pct"],
                "收到 received": r["received"],
                "重复": r["duplicate"],
                "隔离 quarantined": r["quarantined"],
                "不符 refused": r["refused_files"],
            }
            for r in rows
        ]

    listed(work, json, "接入状态 / ingest status")


@app.command()
def watch(as_of: AsOf = None, json: Json = False) -> None:
    """断供、隔离、未映射代码转成待办 / late feeds, refused records and unknown codes become work for people."""

    def work() -> dict[str, Any]:
        import ingestion

        return ingestion.watch(_as_of(as_of))

    measured(work, json, "监测 watch", "medlake worklist list")


@app.command()
def backfill(
    start: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="起 / first delivery date")],
    end: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="止 / last delivery date")],
    feed: Annotated[list[str], typer.Option(help="数据源 / feeds")],
    org: Annotated[list[str] | None, typer.Option(help="仅这些机构 / only these institutions")] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="只看会做什么 / only tell what would be done")
    ] = False,
    json: Json = False,
) -> None:
    """补数：按数据源与日期分区，可续跑 / deliveries of the past, by partition, resumable."""
    from ingestion import backfill as filling

    period = start.date(), end.date()
    if preview:
        listed(lambda: filling.preview(feed, *period, org_codes=org or ()), json, "补数预览 / preview")
        return

    def work() -> dict[str, Any]:
        request = f"cli|{'+'.join(sorted(feed))}|{period[0]}|{period[1]}|{'+'.join(sorted(org or ()))}"
        filling.request(request, feed, *period, org_codes=org or ())
        done = [filling.run(request, name) for name in feed]
        names = ("partitions", "done", "received", "loaded", "duplicate", "quarantined")
        return {"request": request, **{n: sum(d[n] for d in done) for n in names}}

    measured(work, json, "补数 backfill", "medlake ingest status")
