"""What every command shares: the options of many, and how a step is run and shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import typer

from medlake import show

Json = Annotated[
    bool, typer.Option("--json", help="最后一行输出一个 JSON 对象 / print one JSON object as last line")
]
Day = Annotated[
    datetime, typer.Option("--date", formats=["%Y-%m-%d"], help="数据日期 / date being processed")
]


def measured(work: Callable[[], dict[str, Any]], as_json: bool, title: str, following: str = "") -> None:
    """Run a step, show its result as a table or as JSON with ``seconds`` and ``peak_rss_mb``."""
    from lake.errors import MedlakeError

    began = time.monotonic()
    try:
        with show.working(title, quiet=as_json):
            result = work()
    except MedlakeError as error:
        show.problem(error, as_json=as_json)
        raise typer.Exit(1) from None
    result = result | {"seconds": round(time.monotonic() - began, 2), "peak_rss_mb": show.peak_rss_mb()}
    show.result(result, title=title, as_json=as_json, following=following)


def listed(work: Callable[[], list[dict[str, Any]]], as_json: bool, title: str) -> None:
    """Show rows as a table or as JSON; a numbered error ends the command with 1."""
    from lake.errors import MedlakeError

    try:
        rows = work()
    except MedlakeError as error:
        show.problem(error, as_json=as_json)
        raise typer.Exit(1) from None
    show.rows(rows, title=title, as_json=as_json)
