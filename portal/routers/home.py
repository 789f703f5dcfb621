"""The landing page, the health probe, and what is published."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse

import products
from lake.settings import settings
from portal import pages, serving

router = APIRouter()


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


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
def landing(request: Request) -> HTMLResponse:
    s = settings()
    links = {
        "wall": f"http://{s.host}:{s.superset_port}/superset/dashboard/led-wall/?standalone=1&show_filters=0",
        "airflow": f"http://{s.host}:{s.airflow_port}/",
    }
    state = _state()
    blocked = [row for row in state["publication"] if row["gate"] != "open"]
    return pages.page(request, "home.html", links=links, blocked=blocked, **state)
