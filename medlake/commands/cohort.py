"""``medlake cohort``: a researcher's cohort, run, saved, read back. ``medlake cohort NAME`` is ``cohort run NAME``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from medlake.commands.base import Json, listed, measured


class _RunByDefault(TyperGroup):
    """A first word that is no command is a definition to run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(help="研究队列 / research cohorts", no_args_is_help=True, cls=_RunByDefault)

Actor = Annotated[str, typer.Option(help="操作者 / who asks")]
_DEFINITION = "队列名、已保存的队列或 YAML / shipped or saved cohort, or a file"


def _load(definition: str) -> Any:
    from lake.errors import MedlakeError
    from products import cohort_definition
    from products.cohorts import saved

    try:
        return saved.get(definition)
    except MedlakeError:
        return cohort_definition.load(Path(definition))


@app.command()
def run(
    definition: Annotated[str, typer.Argument(help=_DEFINITION)],
    day: Annotated[
        datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="数据日期 / data date")
    ] = None,
    actor: Actor = "researcher",
    purpose: Annotated[str, typer.Option(help="用途 / purpose")] = "科研可行性评估",
    json: Json = False,
) -> None:
    """统计一个研究队列，小数字自动隐去 / count a cohort; small numbers never leave."""

    def work() -> dict[str, Any]:
        from products.cohorts import run as cohorts

        return cohorts.run(_load(definition), day.date() if day else None, actor=actor, purpose=purpose)

    measured(work, json, "队列 cohort", "medlake cohort save …")


@app.command()
def save(
    definition: Annotated[Path, typer.Argument(exists=True, help="YAML")],
    actor: Actor = "researcher",
    json: Json = False,
) -> None:
    """保存一个定义，改动即新版本 / save a definition; a change is a new version."""

    def work() -> dict[str, Any]:
        from products import cohort_definition
        from products.cohorts import saved

        return saved.save(cohort_definition.load(definition), actor=actor)

    measured(work, json, "保存队列 cohort save", "medlake cohort run …")


@app.command()
def describe(definition: Annotated[str, typer.Argument(help=_DEFINITION)], json: Json = False) -> None:
    """用中文读出定义 / read a definition back in plain Chinese."""

    def work() -> dict[str, Any]:
        from products.cohorts.describe import describe as told

        return {"description": told(_load(definition))}

    measured(work, json, "队列定义 definition", "medlake cohort run …")


@app.command("list")
def list_(json: Json = False) -> None:
    """已保存的队列 / saved cohorts."""

    def work() -> list[dict[str, Any]]:
        from products.cohorts import saved

        return saved.listed()

    listed(work, json, "已保存的队列 cohorts")
