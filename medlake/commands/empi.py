"""``medlake empi``: one identity per resident. Every module ``empi_<area>.py`` beside this one brings its commands."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from medlake.commands.base import Day, Json, measured

app = typer.Typer(help="主索引 / one identity per resident", no_args_is_help=True)

Mode = Annotated[
    str, typer.Option(help="auto | full | incremental：全量或只算变化 / everything, or what changed")
]


@app.command()
def link(day: Day, mode: Mode = "auto", json: Json = False) -> None:
    """把各系统的登记归到人 / link the registrations of all systems to persons."""

    def work() -> dict[str, Any]:
        import empi
        from empi.review import ask_after_link

        return empi.link(day.date(), mode=mode) | {"reviews": ask_after_link(day.date())}

    measured(work, json, "主索引 link", "medlake empi review list")


@app.command()
def evaluate(json: Json = False) -> None:
    """对照模拟真值：成对精确率、召回率、F1、完全一致的人 / measure against the simulator's truth."""

    def work() -> dict[str, Any]:
        import empi

        return empi.evaluate()

    measured(work, json, "主索引评估 evaluate", "medlake quality check --date …")


for _area in sorted(Path(__file__).parent.glob("empi_*.py")):
    import_module(f"{__package__}.{_area.stem}").register(app)
