"""``medlake extract``: source databases to drop files."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from medlake.commands.base import Json, listed, measured

app = typer.Typer(help="从源数据库抽取 / extracts from source databases", no_args_is_help=True)


@app.command("sources")
def sources(json: Json = False) -> None:
    """列出登记的源数据库与抽取进度 / registered databases and how far each table is read."""

    def work() -> list[dict[str, Any]]:
        from ingestion.pull import database

        return database.sources()

    listed(work, json, "源数据库 sources")


@app.command("run")
def run(
    source: Annotated[str, typer.Argument(help="登记的名称 / name in the register")],
    table: Annotated[str | None, typer.Option(help="只抽取此表 / this table only")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="全量比对，找出删除 / snapshot, finds deletes")
    ] = False,
    day: Annotated[
        datetime | None,
        typer.Option(
            "--date", formats=["%Y-%m-%d"], help="投递日期，缺省今天 / delivery date, today if unset"
        ),
    ] = None,
    ingest: Annotated[bool, typer.Option("--ingest", help="随后接入 / and ingest it")] = False,
    accept_columns: Annotated[
        bool, typer.Option("--accept-columns", help="确认列已取消 / columns are really gone")
    ] = False,
    accept_deletes: Annotated[
        bool, typer.Option("--accept-deletes", help="确认大量删除属实 / many deletes are real")
    ] = False,
    json: Json = False,
) -> None:
    """按水位增量抽取，或全量比对 / increments by watermark, or a snapshot compared with what is known."""
    from lake.local_time import local_today

    data_date = day.date() if day else local_today()

    def work() -> dict[str, Any]:
        import ingestion
        from ingestion.pull import database, database_sources

        tables = database.run(
            source,
            data_date,
            table=table,
            full=full,
            accept_columns=accept_columns,
            accept_deletes=accept_deletes,
        )
        found: dict[str, Any] = {"source": source, "data_date": data_date.isoformat(), "tables": tables}
        if ingest:
            found["ingested"] = ingestion.ingest_feed(database_sources.source(source).feed, data_date)
        return found

    following = "" if ingest else f"medlake ingest --feed … --date {data_date}"
    measured(work, json, f"抽取 extract {source}", following)
