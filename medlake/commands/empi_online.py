"""``medlake empi index|lookup|match``: the online registry from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from medlake.commands.base import Json, listed, measured

File = Annotated[
    Path, typer.Argument(help="FHIR Patient 或 Parameters（JSON）/ a Patient or Parameters in JSON")
]
Code = Annotated[
    str, typer.Argument(help="身份证（15/18 位）、卡号、医保号或院内号 / any number of a resident")
]
Org = Annotated[str | None, typer.Option("--org", help="院内号所属机构 / institution of a local number")]
Count = Annotated[int, typer.Option(min=1, max=50, help="最多几位 / at most so many")]


def index(json: Json = False) -> None:
    """按最近一次主索引结果建立在线索引 / make the online index of the last run; the service follows at once."""

    def work() -> dict[str, Any]:
        from empi import online

        return online.build()

    measured(work, json, "在线索引 index", "medlake serve")


def lookup(code: Code, org: Org = None, json: Json = False) -> None:
    """一码查询：任一标识到居民 / one code: whatever number it is, to the resident."""

    def work() -> list[dict[str, Any]]:
        from empi import online

        found = online.open_index()
        persons = [found.person(e) for e in found.lookup(code, org_code=org)]
        return [
            {"empi_id": p.empi_id, "records": len(p.records), "replaces": " ".join(p.replaces)}
            for p in persons
            if p
        ]

    listed(work, json, "一码查询 lookup")


def match(file: File, count: Count = 10, org: Org = None, json: Json = False) -> None:
    """按描述匹配居民，评分同批量模型 / who may this be; scores are the batch model's."""

    def work() -> list[dict[str, Any]]:
        from empi import online
        from lake.errors import MedlakeError
        from lake.settings import settings
        from portal.fhir import requests

        try:
            body = file.read_bytes()
        except OSError as error:
            raise MedlakeError("E338", detail=error.strerror) from error
        asked = requests.query(
            requests.parameters(body).one("resource", "resource"), org or settings().default_org_code
        )
        return [
            {
                "empi_id": hit.empi_id,
                "grade": hit.grade,
                "score": round(hit.score, 6),
                "match_weight": round(hit.match_weight, 3),
                "guard": hit.guard or "",
            }
            for hit in online.open_index().match(asked, count=count)
        ]

    listed(work, json, "匹配 match")


def register(app: typer.Typer) -> None:
    """Put the commands into ``medlake empi``."""
    app.command("index")(index)
    app.command("lookup")(lookup)
    app.command("match")(match)
