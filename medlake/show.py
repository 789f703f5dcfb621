"""How the command line speaks: tables for people, one JSON object as last line for programs."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from lake.errors import MedlakeError

_out = Console()
_err = Console(stderr=True)
_began = time.monotonic()


def peak_rss_mb() -> float:
    """Peak resident memory of this process or of its largest child, megabytes."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return round(max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024, 1)


def line(text: str) -> None:
    _out.print(text, highlight=False)


def emit_json(value: dict[str, Any]) -> None:
    """One JSON object as the last line of standard output; it always tells ``seconds`` and ``peak_rss_mb``."""
    value = {"seconds": round(time.monotonic() - _began, 2), "peak_rss_mb": peak_rss_mb()} | value
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


@contextmanager
def working(title: str, *, quiet: bool) -> Iterator[None]:
    """A spinner with the step's name while it works, on a terminal only."""
    if quiet or not _err.is_terminal:
        yield
        return
    with _err.status(f"{title} …"):
        yield


def problem(error: MedlakeError, *, as_json: bool) -> None:
    """A numbered error: what happened, where, what to do."""
    if as_json:
        emit_json(
            {
                "error": error.code,
                "place": error.place,
                "zh": error.zh,
                "en": error.en,
                "remedy_zh": error.remedy_zh,
                "remedy_en": error.remedy_en,
            }
        )
    where = f"\n[dim]{error.place}[/]" if error.place else ""
    _err.print(
        Panel(
            f"{error.zh}\n{error.en}{where}\n\n[green]→ {error.remedy_zh}\n→ {error.remedy_en}[/]",
            title=f"[red]{error.code}[/]",
            title_align="left",
            border_style="red",
        )
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "是 yes", False: "否 no", None: "—"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.5f}".rstrip("0").rstrip(".")
    if isinstance(value, dict):
        return ", ".join(f"{k} {_cell(v)}" for k, v in value.items() if not isinstance(v, dict | list))
    if isinstance(value, list):
        return ", ".join(_cell(v) if not isinstance(v, dict) else str(len(v)) for v in value[:8])
    return str(value)


def result(values: dict[str, Any], *, title: str, as_json: bool, following: str) -> None:
    """A step's counts as a two-column table, and what to do next."""
    if as_json:
        emit_json(values)
        return
    table = Table(title=title, title_justify="left", show_header=False)
    for key, value in values.items():
        if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
            _nested(key, value)
        elif not (isinstance(value, list) and value and isinstance(value[0], dict)):
            table.add_row(key, _cell(value))
        else:
            rows(value, title=key, as_json=False)
    _out.print(table)
    if following:
        _out.print(f"[dim]下一步 next:[/] {following}", highlight=False)


def _nested(title: str, value: dict[str, dict[str, Any]]) -> None:
    rows([{"": name} | inner for name, inner in value.items()], title=title, as_json=False)


def rows(items: list[dict[str, Any]], *, title: str, as_json: bool) -> None:
    """Rows of equal shape as a table."""
    if as_json:
        emit_json({"rows": items})
        return
    if not items:
        _out.print(f"{title}: 暂无 none yet")
        return
    # ids stay whole, in one line, so that they can be copied
    most = {key: 40 if str(key).endswith("_id") else 14 for key in items[0]}
    longest = {key: max(len(str(key)), *(len(_cell(item[key])) for item in items)) for key in items[0]}
    if sum(min(longest[key], most[key]) + 2 for key in items[0]) > _out.width:
        _cards(items, title)
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for key, value in items[0].items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        short = longest[key] <= most[key]
        table.add_column(str(key), justify="right" if number else "left", no_wrap=short, overflow="fold")
    for item in items:
        table.add_row(*[_cell(v) for v in item.values()])
    _out.print(table)


def _cards(items: list[dict[str, Any]], title: str) -> None:
    """Rows with more columns than the terminal has room for: one below the other, nothing cut."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for item in items:
        for key, value in item.items():
            table.add_row(str(key), _cell(value))
        table.add_section()
    _out.print(table)


def overview(value: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit_json(value)
        return
    rows(value["ledger"], title="批次账目 ledger", as_json=False)
    rows(value["publication"], title="发布与质控门 publication", as_json=False)
    rows(value["processes"], title="进程 processes", as_json=False)
    _out.print(f"[dim]下一步 next:[/] {value['next']}", highlight=False)


def demo(report: dict[str, Any], *, as_json: bool) -> None:
    """The end of the demo: timings, counts, and where to look."""
    if as_json:
        emit_json(report)
        return
    from medlake.demo.progress import STEPS
    from medlake.demo.servers import logins

    table = Table(title="用时 timings (s)", title_justify="left", show_header=False)
    for name, seconds in report["stages"].items():
        table.add_row(STEPS.get(name, name), f"{seconds:.1f}")
    table.add_row("[bold]原始文件到发布 raw files to swap[/]", f"[bold]{report['seconds_pipeline']:.1f}[/]")
    table.add_row("[bold]合计 total[/]", f"[bold]{report['seconds_total']:.1f}[/]")
    _out.print(table)
    counts, found = report["ledger"], report["empi"]
    _out.print(
        f"账目 ledger: 接收 {counts['received']:,} = 入库 {counts['loaded']:,} + 重复 {counts['duplicate']:,} "
        f"+ 隔离 {counts['quarantined']:,}",
        highlight=False,
    )
    _out.print(
        f"主索引 EMPI: P {found['precision']:.4f}  R {found['recall']:.4f}  F1 {found['f1']:.4f}  "
        f"完全一致 exact {found['exact_clusters']:.4f}",
        highlight=False,
    )
    gate = (
        "[green]开 open[/]"
        if report["gate"] == "open"
        else f"[red]关 closed[/]  {', '.join(report['blocked'])}"
    )
    _out.print(f"质控门 gate: {gate}")
    _out.print(
        f"内存峰值 peak: {report['peak_rss_mb']:,.0f} MB ({report['peak_process']}), 全部 all {report['peak_tree_mb']:,.0f} MB"
    )
    _out.print("打开 open", style="italic")
    labels = {
        "wall": "运营大屏 wall",
        "quality": "质控页 quality",
        "portal": "门户 portal",
        "airflow": "调度 Airflow",
    }
    for name, label in labels.items():  # plain lines: an address must never be wrapped or cut
        _out.print(f"  {label:<12}  {report['urls'][name]}", soft_wrap=True, highlight=False)
    words = Table(title="演示登录 demo logins", title_justify="left", show_header=False)
    for row in logins():
        words.add_row(*row)
    _out.print(words)
    _out.print("[dim]停止 stop:[/] make stop    [dim]坏数据日 a bad day:[/] make demo-gate", highlight=False)
