"""``medlake codes``: what institutions write and nobody knows yet, and what people decide it means."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

import typer

from medlake.commands.base import Json, listed, measured

app = typer.Typer(help="术语与代码映射 / terminology: unmapped codes, coverage, maps", no_args_is_help=True)

System = Annotated[str, typer.Option("--system", help="值域，如 sex；ucum 为单位 / code system; ucum: units")]
Org = Annotated[str, typer.Option("--org", help="仅限该机构 / this institution only")]
Feed = Annotated[str, typer.Option("--feed", help="仅限该数据源 / this feed only")]
Limit = Annotated[int, typer.Option(min=1, help="最多行数 / rows at most")]
Reviewer = Annotated[str, typer.Option(help="审核人 / who reviewed it")]
Note = Annotated[str, typer.Option(help="说明 / note")]
From = Annotated[
    datetime | None,
    typer.Option("--from", formats=["%Y-%m-%d"], help="生效日（按交付日期）/ first day of delivery"),
]
To = Annotated[
    datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="失效日（含）/ last day of delivery")
]


def _day(at: datetime | None) -> date | None:
    return at.date() if at else None


def _today() -> date:
    from lake.local_time import local_today

    return local_today()


@app.command()
def unmapped(system: System = "", org: Org = "", limit: Limit = 50, json: Json = False) -> None:
    """未映射代码收件箱，按记录数排序 / the inbox of unmapped codes, by volume."""

    def work() -> list[dict[str, Any]]:
        from ingestion import codes

        return codes.inbox(system, org, limit)

    listed(work, json, "未映射代码 / unmapped codes")


@app.command()
def coverage(system: System = "", json: Json = False) -> None:
    """各机构各值域的映射覆盖率 / coverage per institution and code system, worst first."""

    def work() -> list[dict[str, Any]]:
        from ingestion import codes

        return codes.coverage(system)

    listed(work, json, "映射覆盖率 / coverage")


@app.command()
def propose(system: System = "", limit: Limit = 20, json: Json = False) -> None:
    """为未映射代码给出候选标准代码（供审核参考）/ standard codes that unmapped ones may mean, for the reviewer."""

    def work() -> list[dict[str, Any]]:
        from ingestion import codes

        return codes.propose(system, limit)

    listed(work, json, "候选 / proposals")


@app.command()
def accept(
    system: Annotated[str, typer.Argument(help="值域 / code system")],
    source_code: Annotated[str, typer.Argument(help="源代码或写法 / what the source writes")],
    code: Annotated[str, typer.Argument(help="标准代码 / standard code")],
    reviewer: Reviewer,
    feed: Feed = "",
    org: Org = "",
    valid_from: From = None,
    valid_to: To = None,
    note: Note = "",
    json: Json = False,
) -> None:
    """登记一条已审核的映射（立即对之后的接入生效，留审计）/ record a reviewed map; it counts from the next ingest."""

    def work() -> dict[str, Any]:
        from ingestion import codes

        return codes.accept(
            *(system, source_code, code),
            reviewer=reviewer,
            reviewed_on=_today(),
            feed=feed,
            org_code=org,
            valid_from=_day(valid_from),
            valid_to=_day(valid_to),
            note=note,
        )

    following = "已入库的记录：medlake codes reconform / rows already loaded: medlake codes reconform"
    measured(work, json, "登记映射 / accept", following)


@app.command("accept-header")
def accept_header(
    feed: Annotated[str, typer.Argument(help="数据源 / feed")],
    table: Annotated[str, typer.Argument(help="表 / table")],
    header: Annotated[str, typer.Argument(help="表头，多行表头用“/”连接 / header; rows joined by /")],
    field: Annotated[str, typer.Argument(help="契约字段 / field of the contract")],
    reviewer: Reviewer,
    note: Note = "",
    json: Json = False,
) -> None:
    """登记一个表头同义词 / record that a column's header means a field."""

    def work() -> dict[str, Any]:
        from ingestion import codes

        return codes.accept_header(
            feed, table, header, field, reviewer=reviewer, reviewed_on=_today(), note=note
        )

    measured(work, json, "登记表头 / header synonym")


@app.command("accept-zone")
def accept_zone(
    feed: Annotated[str, typer.Argument(help="数据源 / feed")],
    zone: Annotated[str, typer.Argument(help="时区名，如 UTC / zone of the tz database")],
    reviewer: Reviewer,
    org: Org = "",
    table: Annotated[str, typer.Option(help="仅限该表 / this table only")] = "",
    field: Annotated[str, typer.Option(help="仅限该字段 / this field only")] = "",
    valid_from: From = None,
    valid_to: To = None,
    note: Note = "",
    json: Json = False,
) -> None:
    """登记来源的时区（缺省北京时间）/ record the zone of a source's local times (Shanghai otherwise)."""

    def work() -> dict[str, Any]:
        from ingestion import codes

        return codes.accept_zone(
            *(feed, zone),
            reviewer=reviewer,
            reviewed_on=_today(),
            org_code=org,
            table=table,
            field=field,
            valid_from=_day(valid_from),
            valid_to=_day(valid_to),
            note=note,
        )

    measured(work, json, "登记时区 / time zone")


@app.command()
def reconform(
    system: System = "",
    table: Annotated[str, typer.Option(help="仅限该表 / this table only")] = "",
    json: Json = False,
) -> None:
    """按当前映射重算已入库记录的代码与规范单位 / apply today's maps to rows that are in silver already."""

    def work() -> dict[str, Any]:
        from ingestion import codes

        return codes.reconform(system, table)

    measured(work, json, "重算 / reconform")
