"""The landing page, the health probe, and what is published."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse

import products
from lake.settings import settings
from portal import access, home, pages, serving

router = APIRouter()

#: Rooms that stand in where the block's own room is not the role's: room -> (another, what is added to its address).
_INSTEAD = {"scores": ("quality", "/"), "tickets": ("work", "?kind=quality_ticket")}


def _state() -> dict[str, Any]:
    """Publication rows and the run's figures; empty before the first publication."""
    if products.published_path() is None:
        return {"publication": [], "run": None}
    found = serving.rows("FROM ops.run_info")
    return {"publication": serving.rows("FROM ops.publication"), "run": found[0] if found else None}


@router.get("/healthz", summary="Whether the portal answers / 存活探针")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/api/publication", summary="What is published, per data product / 各数据产品发布状态")
def publication() -> dict[str, Any]:
    return _state()


def _ways(role: str) -> dict[str, str]:
    """Room code -> its page, of the rooms of a role; and of what stands in for one that is not there."""
    ways = {room.code: room.prefixes[0] for room in access.rooms_for(role)}
    return {code: ways[other] + rest for code, (other, rest) in _INSTEAD.items() if other in ways} | ways


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
def landing(request: Request) -> HTMLResponse:
    s, person = settings(), request.state.person
    links = {
        "wall": f"http://{s.host}:{s.superset_port}/superset/dashboard/led-wall/?standalone=1&show_filters=0",
        "airflow": f"http://{s.host}:{s.airflow_port}/",
    }
    run = _state()["run"]
    return pages.page(
        request,
        "home.html",
        links=links,
        run=run,
        place=home.place(person),
        ways=_ways(person.role),
        blocks=home.blocks(person),
    )
