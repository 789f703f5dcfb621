"""``medlake``: the same functions that Airflow calls, for a person at a terminal."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated, Any

import typer

from medlake import show
from medlake.commands import (
    accounts,
    audit,
    codes,
    cohort,
    contracts,
    edge,
    empi,
    export,
    extract,
    fhir,
    ingest,
    listen,
    pacs,
    quality,
    quarantine,
    report,
    tokens,
    worklist,
)
from medlake.commands.base import Day, Json, measured

app = typer.Typer(
    name="medlake",
    help="""医湖 Medlake — 医疗集团数据湖仓 / the data platform of a medical group.

    一天的路 / a day's way:  simulate → ingest → empi link → quality check → build → publish

    新手先运行 make demo；它替你做完上面每一步。/ New here? `make demo` does all of that for you.
    """,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
catalog_app = typer.Typer(help="数据资产目录 / the catalogue of data assets", no_args_is_help=True)
app.add_typer(catalog_app, name="catalog")
for _name, _group in {
    "empi": empi,
    "quality": quality,
    "ingest": ingest,
    "quarantine": quarantine,
    "contracts": contracts,
    "codes": codes,
    "listen": listen,
    "extract": extract,
    "pacs": pacs,
    "fhir": fhir,
    "tokens": tokens,
    "edge": edge,
    "worklist": worklist,
    "audit": audit,
    "accounts": accounts,
    "exports": export,
    "report": report,
    "cohort": cohort,
}.items():
    app.add_typer(_group.app, name=_name)
app.command("export")(export.export)


@app.command()
def simulate(
    residents: Annotated[int | None, typer.Option(help="居民数 / residents")] = None,
    days: Annotated[
        int | None, typer.Option(help="每日交付天数 / daily deliveries after the history")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="随机种子 / seed")] = None,
    bad_day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="只追加一个坏数据日 / add one bad day only")
    ] = None,
    json: Json = False,
) -> None:
    """模拟一座城市的源系统文件与真值 / write the files of a simulated city, and the truth about them."""
    from lake.settings import settings

    s = settings()

    def work() -> dict[str, Any]:
        import simulator

        if bad_day is not None:
            return simulator.simulate_bad_day(
                bad_day.date(),
                residents=residents or s.demo_residents,
                days=days or s.demo_days,
                end_date=s.demo_end_date,
                history_years=s.demo_history_years,
                seed=seed or s.demo_seed,
            )
        return simulator.simulate(
            residents=residents or s.demo_residents,
            days=days or s.demo_days,
            end_date=s.demo_end_date,
            history_years=s.demo_history_years,
            seed=seed or s.demo_seed,
        )

    measured(work, json, "模拟城市 simulate", "medlake ingest --feed his --date 2026-11-17")


@app.command()
def build(day: Day, json: Json = False) -> None:
    """dbt 建模并生成资产目录 / build the marts and the catalogue into the candidate file."""

    def work() -> dict[str, Any]:
        import products

        return products.build(day.date())

    measured(work, json, "建模 build", f"medlake publish --date {day:%Y-%m-%d}")


@app.command()
def publish(day: Day, json: Json = False) -> None:
    """审核后原子发布；被门拦下的产品保持上一版 / audit, then swap; blocked products stay at their last good version."""

    def work() -> dict[str, Any]:
        import products

        return products.publish(day.date())

    measured(work, json, "发布 publish", "medlake status")


@catalog_app.command("list")
def catalog_list(json: Json = False) -> None:
    """列出数据资产 / list the data assets."""
    import catalog

    assets = catalog.assets()
    if not json:
        wanted = ("asset_id", "name_zh", "product", "level", "row_count", "freshness", "quality_score")
        assets = [{k: a[k] for k in wanted} for a in assets]
    show.rows(assets, title="数据资产 assets", as_json=json)


@app.command()
def status(json: Json = False) -> None:
    """看一眼：批次账目、最近运行、发布与门 / ledger, last run, publication and gates at a glance."""
    from medlake.status import overview

    show.overview(overview(), as_json=json)


@app.command()
def settings(json: Json = False) -> None:
    """列出全部设置及其环境变量 / list every setting and its environment variable."""
    from lake.settings import Settings
    from lake.settings import settings as current

    values = current()
    rows = [
        {"setting": f"MEDLAKE_{n.upper()}", "value": str(getattr(values, n)), "meaning": f.description}
        for n, f in Settings.model_fields.items()
    ]
    show.rows(rows, title="设置 settings", as_json=json)


@app.command()
def serve() -> None:
    """启动门户（质控页、账目、目录）/ start the portal: quality page, ledger, catalogue."""
    import sys

    import uvicorn

    from lake.settings import settings as current
    from portal.app import create_app

    # a thread that computes gives way after 0.1 ms, not 5: requests are short, and the one that waits is the loop
    sys.setswitchinterval(0.0001)
    s = current()
    uvicorn.run(create_app(), host=s.host, port=s.portal_port, log_level="warning", server_header=False)


@app.command()
def demo(
    bad_day: Annotated[
        bool, typer.Option("--bad-day", help="追加坏数据日，演示关门 / add a bad day")
    ] = False,
    json: Json = False,
) -> None:
    """一条命令看完一座城市的一天 / a city day, from raw files to the wall."""
    from lake.errors import MedlakeError
    from medlake.demo import run as demo_run

    try:
        report = demo_run.run_bad_day() if bad_day else demo_run.run()
    except MedlakeError as error:
        show.problem(error, as_json=json)
        raise typer.Exit(1) from None
    show.demo(report, as_json=json)


@app.command()
def stop() -> None:
    """停止演示启动的全部进程 / stop everything the demo started."""
    from medlake.demo import processes

    stopped = processes.stop_all()
    show.line("已停止 stopped: " + (", ".join(stopped) or "—"))


@app.command("dbt-parse", hidden=True)
def dbt_parse() -> None:
    """dbt parse（make check 用）/ parse the dbt project."""
    from products.build import parse

    sys.exit(0 if parse() else 1)


@app.command("dbt-docs")
def dbt_docs() -> None:
    """生成 dbt 文档站点 / generate dbt's documentation of the models."""
    from lake.errors import MedlakeError
    from products.build import docs

    try:
        show.line(f"dbt docs: {docs()}")
    except MedlakeError as error:
        show.problem(error, as_json=False)
        raise typer.Exit(1) from None


@app.command("audit-verify")
def audit_verify() -> None:
    """重算审计链 / recompute the audit chain."""
    from lake import audit
    from lake.errors import MedlakeError

    try:
        show.line(f"审计链完整 audit chain is whole: {audit.verify()}")
    except MedlakeError as error:
        show.problem(error, as_json=False)
        raise typer.Exit(1) from None
