"""``medlake report``: a county's workbook, bound once and filled each month."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medlake.commands.base import Json, listed, measured

app = typer.Typer(help="月报 / monthly reports", no_args_is_help=True)

Book = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="空白报表 xlsx / blank workbook")]
Month = Annotated[str, typer.Option(help="月份 YYYY-MM / month")]
Org = Annotated[
    str, typer.Option(help="机构编码，含其下级 / institution and all below it; the root if unset")
]
Actor = Annotated[str, typer.Option(help="操作者 / who reports")]


def _caller(actor: str, org: str) -> tuple[Any, str]:
    from lake import access, access_scope

    root = access_scope.root()
    return access.Caller(actor, "officer", root, "statutory_report"), org or root


@app.command()
def bind(
    workbook: Book,
    bindings: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="绑定 YAML / bindings")],
    actor: Actor = "officer",
    json: Json = False,
) -> None:
    """绑定一次：单元格对应指标 / bind cells to indicators, once."""

    def work() -> dict[str, Any]:
        import yaml

        from products.reports import layouts

        caller, _ = _caller(actor, "")
        made = layouts.read_bindings(yaml.safe_load(bindings.read_text("utf-8")), bindings.name)
        return layouts.bind(workbook.read_bytes(), made, caller, workbook.name)

    measured(work, json, "绑定 report bind", "medlake report fill WORKBOOK --month …")


@app.command()
def fill(
    workbook: Book, month: Month, org: Org = "", out: Annotated[Path | None, typer.Option(help="输出 / file")] = None,
    actor: Actor = "officer", json: Json = False,
) -> None:  # fmt: skip
    """按原版式填报一个月 / fill a month in the same layout."""

    def work() -> dict[str, Any]:
        from products.reports import layouts, months

        caller, place = _caller(actor, org)
        layout = layouts.of_workbook(workbook.read_bytes(), caller, workbook.name)
        report = months.fill(layout, month, caller, place, out)
        if not json:
            report = {k: v for k, v in report.items() if k not in ("figures", "checks")}
        return report

    measured(work, json, "填报 report fill", "medlake report submit WORKBOOK --month …")


@app.command()
def submit(workbook: Book, month: Month, org: Org = "", actor: Actor = "officer", json: Json = False) -> None:
    """报送：数字从此冻结 / submit; the figures stand from now on."""

    def work() -> dict[str, Any]:
        from products.reports import layouts, months

        caller, place = _caller(actor, org)
        return months.submit(
            layouts.of_workbook(workbook.read_bytes(), caller, workbook.name), month, caller, place
        )

    measured(work, json, "报送 report submit", "medlake report differences WORKBOOK --month …")


@app.command()
def differences(
    workbook: Book, month: Month, org: Org = "", actor: Actor = "officer", json: Json = False
) -> None:
    """报送之后变化的数字 / figures that are others today."""

    def work() -> list[dict[str, Any]]:
        from products.reports import layouts, months

        caller, place = _caller(actor, org)
        layout = layouts.of_workbook(workbook.read_bytes(), caller, workbook.name)
        return months.differences(layout, month, caller, place)

    listed(work, json, "差异 differences")


@app.command("indicators")
def indicators_(json: Json = False) -> None:
    """可绑定的指标 / indicators that may be bound."""

    def work() -> list[dict[str, Any]]:
        from products.reports import indicators as known

        return [
            {"code": i.code, "label_zh": i.label_zh, "span": known.SPANS_ZH[i.span], "table": i.table}
            for i in known.known().values()
        ]

    listed(work, json, "指标 indicators")
