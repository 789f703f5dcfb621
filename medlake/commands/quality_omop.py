"""``medlake quality omop``: the check types of OHDSI's dashboard on a folder of OMOP tables."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from medlake import show
from medlake.commands.base import Json

_STATUS = {"passed": "通过 passed", "failed": "未通过 failed", "not_applicable": "不适用 n/a"}


def register(app: typer.Typer) -> None:
    """Put the command into ``medlake quality``."""
    app.command("omop")(omop)


def omop(
    folder: Annotated[Path, typer.Argument(help="OMOP 表所在目录或压缩包 / folder or zip of OMOP tables")],
    as_of: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], help="数据截止日，默认取 cdm_source / default: cdm_source's release"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="把每一失败行写入该 Parquet / write every failing row there")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="也列出通过的检查 / passed ones too")] = False,
    json: Json = False,
) -> None:
    """按 OHDSI 数据质量检查类型（Kahn 框架）检查 OMOP 表 / OHDSI's data quality checks on OMOP tables."""
    import quality.omop

    found = quality.omop.check_omop(folder, as_of=as_of.date() if as_of else None, out=out)
    if json:
        show.emit_json(found)
        return
    counts = [{"category": c, **n} for c, n in found["by_category"].items()]
    show.rows(counts, title="Kahn", as_json=False)
    shown = [
        r for r in found["results"] if r["status"] == "failed" or (everything and r["status"] == "passed")
    ]
    for check in dict.fromkeys(r["check"] for r in shown):
        of = [r for r in shown if r["check"] == check]
        rows = [
            {
                "表 table": r["table"],
                "字段 field": f"{r['field']} {r['concept_id']}".strip() or "—",
                "失败 failed": f"{r['violated']:,} / {r['rows']:,}",
                "%": f"{r['pct']:g} / {r['threshold_pct']:g}",
                "结果": _STATUS[r["status"]],
            }
            for r in of
        ]
        show.rows(rows, title=f"{check} {of[0]['title_zh']}", as_json=False)
    summary = {n: found[n] for n in ("tables", "checks", "passed", "failed", "not_applicable")}
    following = f"duckdb: SELECT * FROM '{out}'" if out else "medlake quality omop … --out failing.parquet"
    show.result(summary, title="OMOP", as_json=False, following=following)
