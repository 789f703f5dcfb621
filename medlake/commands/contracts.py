"""``medlake contracts``: the field dictionary, its changes, and the first contract of a new source."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from medlake import show
from medlake.commands.base import Json, listed, measured

app = typer.Typer(help="数据契约 / contracts of the sources", no_args_is_help=True)


def _short(rows: list[dict[str, Any]], wanted: str, as_json: bool) -> list[dict[str, Any]]:
    """For people only the columns that fit a terminal; programs get all."""
    return rows if as_json else [{k: r[k] for k in wanted.split()} for r in rows]


@app.command("list")
def list_(json: Json = False) -> None:
    """列出数据源契约 / list the feeds' contracts."""

    def work() -> list[dict[str, Any]]:
        from ingestion import contracting

        return _short(
            contracting.listed(), "feed label_zh version status tables fields level national_grade", json
        )

    listed(work, json, "数据契约 contracts")


@app.command("show")
def show_(
    feed: Annotated[str, typer.Argument(help="数据源 / feed")],
    table: Annotated[str | None, typer.Option(help="只看此表 / this table only")] = None,
    json: Json = False,
) -> None:
    """列出一个数据源的字段 / list the fields of a feed."""

    def work() -> list[dict[str, Any]]:
        from ingestion import contracting

        rows = [r for r in contracting.shown(feed) if table in (None, r["table"])]
        wanted = "" if table else "table "
        return _short(rows, f"{wanted}field label_zh type key unit code_system level", json)

    listed(work, json, f"字段 fields {feed}")


@app.command("validate")
def validate(
    feed: Annotated[str | None, typer.Argument(help="数据源，缺省全部 / feed, all if unset")] = None,
    json: Json = False,
) -> None:
    """检查契约：标准、完整、彼此一致 / check the contracts: the standard, completeness, one meaning per name."""

    def work() -> dict[str, Any]:
        from ingestion import contracting
        from lake.errors import MedlakeError

        found = contracting.validate(feed)
        if found:
            for text in found:
                print(text, file=sys.stderr)
            raise MedlakeError("E230", place=found[0].split(":")[0], count=len(found), first=found[0])
        rows = contracting.listed()
        return {"feeds": 1 if feed else len(rows), "problems": 0}

    measured(work, json, "检查契约 validate")


@app.command("diff")
def diff(
    feed: Annotated[str | None, typer.Argument(help="数据源，缺省全部 / feed, all if unset")] = None,
    against: Annotated[
        str, typer.Option(help="git 版本或旧契约文件 / git revision or earlier contract file")
    ] = "HEAD",
    json: Json = False,
) -> None:
    """与旧版本和湖中的表比较；破坏性改动被拒绝（退出码 1） / breaking changes are refused (exit code 1)."""
    from lake.errors import MedlakeError

    try:
        from ingestion import contracting

        found = contracting.review(feed, against)
    except MedlakeError as error:
        show.problem(error, as_json=json)
        raise typer.Exit(1) from None
    if json:
        show.emit_json(found)
    else:
        shown = [
            {"": "✗" if c["breaking"] else "+", "place": c["place"], "kind": c["kind"], "改动": c["zh"]}
            for c in found["changes"]
        ]
        show.rows(shown, title=f"改动 changes · {against}", as_json=False)
        for r in found["refused"]:
            problem = MedlakeError(
                "E231", place=r["place"], count=1, first=f"{r['zh']} / {r['en']}", **_remedy(r)
            )
            show.problem(problem, as_json=False)
        show.line(
            f"破坏性 breaking {found['breaking']} · 增量 additive {found['additive']} · 拒绝 refused {len(found['refused'])}"
        )
    if found["refused"]:
        raise typer.Exit(1)


def _remedy(row: dict[str, Any]) -> dict[str, str]:
    return {"remedy_zh": row["remedy_zh"], "remedy_en": row["remedy_en"]}


@app.command("new")
def new(
    feed: Annotated[str, typer.Argument(help="新数据源的名字（小写英文） / name of the new feed")],
    samples: Annotated[list[Path], typer.Argument(help="样例文件 CSV XLSX NDJSON JSON / sample files")],
    label: Annotated[str, typer.Option(help="中文名称 / Chinese label")] = "",
    dry: Annotated[bool, typer.Option("--dry-run", help="只看不写 / show only")] = False,
    json: Json = False,
) -> None:
    """由样例文件起草契约，随即可接入 / draft a contract from samples; they can be ingested at once."""

    def work() -> dict[str, Any]:
        from ingestion import contracting

        return contracting.scaffold(feed, samples, label_zh=label, write=not dry)

    following = (
        ""
        if dry
        else f"medlake contracts validate {feed}; medlake ingest {samples[0]} --feed {feed} --org … --date …"
    )
    measured(work, json, f"起草契约 new {feed}", following)


@app.command("codes")
def codes(
    system: Annotated[str | None, typer.Argument(help="码表，缺省列出全部 / list, all if unset")] = None,
    org: Annotated[
        str | None, typer.Option(help="给出此机构的映射行 / as map rows of this institution")
    ] = None,
    feed: Annotated[str, typer.Option(help="映射行的数据源 / feed of the map rows")] = "public_health",
    reviewer: Annotated[str, typer.Option(help="审核人 / reviewer")] = "data-platform",
    json: Json = False,
) -> None:
    """列出码表及其代码；--org 把表单自有码表转成该机构的映射 / code lists; with --org a form's list as a map."""

    def work() -> list[dict[str, Any]]:
        from ingestion.contracting import value_sets

        if system is None:
            return [dict(r) for r in value_sets.value_sets().values()]
        if org:
            return [dict(r) for r in value_sets.crosswalk(system, feed, org, reviewer)]
        return [dict(r) for r in value_sets.codes(system)]

    listed(work, json, f"码表 codes {system or ''}")


@app.command("docs")
def docs(json: Json = False) -> None:
    """重写 docs/feeds / write docs/feeds anew."""

    def work() -> dict[str, Any]:
        from ingestion import contracting

        return {"pages": len(contracting.write_pages())}

    measured(work, json, "契约文档 docs")
