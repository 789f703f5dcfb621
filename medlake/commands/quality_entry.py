"""``medlake quality check``: the day's check (``--date``) or any file (``FILE --table``); the store of entry-time checks."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medlake import show
from medlake.commands.base import Day, Json, measured

if TYPE_CHECKING:
    from quality.incremental import Mode

File = Annotated[
    Path | None,
    typer.Argument(help="要检查的文件 CSV/xlsx/parquet；不写则检查当日 / a file; without it the day's check"),
]
Date = Annotated[
    datetime | None,
    typer.Option(
        "--date", formats=["%Y-%m-%d"], help="数据日期（当日质控）/ date being processed (the day's check)"
    ),
]
Table = Annotated[str | None, typer.Option("--table", help="按哪张表的规则 / whose rules, such as htn_visit")]
AsOf = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d"],
        help="按哪一天判定；默认数据中最新日期 / day; the newest date in the data if absent",
    ),
]
Map = Annotated[Path | None, typer.Option("--map", help="字段: 列名 的 YAML / which column is which field")]
Org = Annotated[
    str | None, typer.Option("--org", help="文件不含机构时的机构 / institution of rows that name none")
]
WithLake = Annotated[bool, typer.Option("--with-lake", help="其他表取自数据湖 / other tables from the lake")]
Full = Annotated[
    bool | None,
    typer.Option(
        "--full/--incremental",
        help="当日质控：全量，或只判定当日变化；不写则能增量就增量，每月一次全量 / the day's check: of all records, or of "
        "what the day changed; absent: the latter where it can, all once a month",
    ),
]
Out = Annotated[Path | None, typer.Option(help="写出每个问题单元格 .csv .xlsx .parquet / every failing cell")]


def check(
    file: File = None,
    day: Date = None,
    table: Table = None,
    as_of: AsOf = None,
    mapping: Map = None,
    org: Org = None,
    with_lake: WithLake = False,
    out: Out = None,
    full: Full = None,
    json: Json = False,
) -> None:
    """当日质控（--date），或检查任意文件（FILE --table）/ the day's check (--date), or any file (FILE --table)."""
    if file is None:
        if day is None or table is not None or out is not None:
            raise typer.BadParameter("--date 或 FILE --table / --date, or FILE with --table")
        at = day.date()

        def the_day() -> dict[str, Any]:
            import quality

            mode: Mode = "auto" if full is None else "full" if full else "incremental"
            return quality.check(at, mode) | quality.after_check(at)

        measured(the_day, json, "质控 check", f"medlake build --date {at:%Y-%m-%d}")
        return
    if table is None or day is not None or full is not None:
        raise typer.BadParameter("FILE --table TABLE [--as-of DATE]")

    def the_file() -> dict[str, Any]:
        from quality import entry

        found = entry.check_file(
            file,
            table,
            as_of=as_of.date() if as_of else None,
            org_code=org,
            mapping=mapping,
            with_lake=with_lake,
            out=out,
        )
        return found if json else _brief(found)

    measured(
        the_file,
        json,
        "文件质控 check file",
        "" if out else f"medlake quality check {file} --table {table} --out 问题.xlsx",
    )


def _brief(found: dict[str, Any]) -> dict[str, Any]:
    """The result with its rules told as a table before it."""
    rows = [
        {"规则 rule": r, "问题 findings": n} for r, n in sorted(found["by_rule"].items(), key=lambda x: -x[1])
    ]
    if rows:
        show.rows(rows, title="问题按规则 findings by rule", as_json=False)
    lists = {"by_rule", "by_severity", "not_evaluated", "unknown_columns"}
    told = {k: v for k, v in found.items() if k not in lists}
    return told | {
        "unknown_columns": "、".join(found["unknown_columns"]) or "—",
        "not_evaluated": len(found["not_evaluated"]),
    }


def entry_store(day: Day, json: Json = False) -> None:
    """建立录入时质控用的居民记录库 / make the store that entry-time checks look residents' rows up in."""

    def work() -> dict[str, Any]:
        from quality import entry

        return entry.build_residents(day.date())

    measured(work, json, "居民记录库 entry-store", "medlake serve")


def register(app: typer.Typer) -> None:
    """Put both commands into ``medlake quality``; ``check`` takes the place of the day's check and keeps its meaning."""
    app.registered_commands[:] = [c for c in app.registered_commands if _name(c) != "check"]
    app.command("check")(check)
    app.command("entry-store")(entry_store)


def _name(command: Any) -> str:
    return str(command.name or command.callback.__name__)
