"""What a person sees while the demo works: a table that names each step, its state and its seconds."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

#: Steps in the order of the table: name -> label.
STEPS: dict[str, str] = {
    "simulate": "模拟城市 simulate the city",
    "airflow": "启动调度 start Airflow",
    "dashboards": "准备大屏环境 set up Superset",
    "backfill": "补历史数据 backfill the history",
    "ingest": "接入当日 ingest the day",
    "link": "主索引 link persons",
    "check": "质控 check quality",
    "build": "建模与目录 build marts and catalogue",
    "publish": "发布 publish",
    "wall": "启动大屏 start the wall",
    "portal": "启动门户 start the portal",
    "evaluate": "对照真值评估 evaluate against the truth",
}
_MARKS = {
    "waiting": "[dim]·[/]",
    "running": "[cyan]▶[/]",
    "done": "[green]✔[/]",
    "reused": "[green]↺[/]",
    "failed": "[red]✘[/]",
}


@dataclass
class Step:
    state: str = "waiting"
    began: float = 0.0
    seconds: float = 0.0
    note: str = ""


@dataclass
class Progress:
    """Keeps the steps' states; draws a live table on a terminal, prints a line per change elsewhere."""

    console: Console = field(default_factory=lambda: Console(file=sys.stderr))
    steps: dict[str, Step] = field(default_factory=lambda: {name: Step() for name in STEPS})
    _live: Live | None = None

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live = Live(self, console=self.console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(self, refresh=True)
            self._live.stop()

    def __rich__(self) -> Table:
        table = Table(title="医湖 Medlake · city day", title_justify="left", expand=False)
        table.add_column("")
        table.add_column("步骤 step")
        table.add_column("秒 s", justify="right")
        table.add_column("", style="dim")
        for name, step in self.steps.items():
            if step.state == "running":
                seconds = f"{time.monotonic() - step.began:.0f}"
            else:
                seconds = f"{step.seconds:.1f}" if step.state == "done" else ""
            table.add_row(_MARKS[step.state], STEPS[name], seconds, step.note)
        return table

    def _say(self, name: str) -> None:
        if not self._live:
            step = self.steps[name]
            took = f" {step.seconds:.1f} s" if step.state == "done" else ""
            note = f" {step.note}" if step.note else ""
            self.console.print(f"{_MARKS[step.state]} {STEPS[name]}{took}{note}", highlight=False)

    def begin(self, name: str, note: str = "") -> None:
        step = self.steps[name]
        if step.state != "running":
            step.state, step.began, step.note = "running", time.monotonic(), note
            self._say(name)

    def end(self, name: str, note: str = "", seconds: float | None = None) -> None:
        step = self.steps[name]
        if step.state in ("done", "reused"):
            return
        step.seconds = seconds if seconds is not None else time.monotonic() - step.began
        step.state, step.note = "done", note
        self._say(name)

    def reuse(self, name: str, note: str = "") -> None:
        self.steps[name].state, self.steps[name].note = "reused", note
        self._say(name)

    def fail(self, name: str, note: str = "") -> None:
        self.steps[name].state, self.steps[name].note = "failed", note
        self._say(name)

    def timings(self) -> dict[str, float]:
        """Seconds of the steps that ran."""
        return {n: round(s.seconds, 2) for n, s in self.steps.items() if s.state == "done"}
