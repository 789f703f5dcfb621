"""``medlake quality``: rules, findings, gates. Every module ``quality_<area>.py`` beside this one brings its commands."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from medlake import show
from medlake.commands.base import Day, Json, measured

app = typer.Typer(help="质控 / rules, findings, gates", no_args_is_help=True)

Out = Annotated[
    Path | None,
    typer.Option("--out", help="另写成 Markdown 表格 / write the table per rule as Markdown too"),
]


@app.command()
def check(day: Day, json: Json = False) -> None:
    """运行规则：问题、评分、质控门 / run the rules: findings, scorecards, gates."""

    def work() -> dict[str, Any]:
        import quality

        return quality.check(day.date()) | quality.after_check(day.date())

    measured(work, json, "质控 check", f"medlake build --date {day:%Y-%m-%d}")


@app.command()
def evaluate(json: Json = False, out: Out = None) -> None:
    """对照注入的错误：每条规则找回多少 / how many injected faults each rule found."""

    def work() -> dict[str, Any]:
        from quality import evaluation

        result = evaluation.evaluate()
        if out is not None:
            out.write_text(evaluation.page(result), encoding="utf-8")
        return result

    measured(work, json, "质控评估 evaluate")


@app.command()
def rules(json: Json = False) -> None:
    """列出规则 / list the rules."""
    import quality

    rows = [
        {"rule_id": r.id, "severity": r.severity, "table": r.table, "title_zh": r.title_zh}
        for r in quality.rules()
    ]
    show.rows(rows, title="规则 rules", as_json=json)


for _area in sorted(Path(__file__).parent.glob("quality_*.py")):
    import_module(f"{__package__}.{_area.stem}").register(app)
