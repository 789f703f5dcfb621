"""The data-asset directory as published: search by name, field or pinyin, and one page per asset."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from portal import catalogue, pages

router = APIRouter()

#: An asset so far behind the newest one is called stale.
_STALE = timedelta(days=7)


def _asset(asset_id: str) -> dict[str, Any]:
    found = catalogue.asset(asset_id)
    if found is None:
        raise HTTPException(404)
    return found


@router.get("/api/catalogue", summary="Data assets, searched by name, field or pinyin / 检索数据资产")
def search(q: str = "", layer: str = "", level: Annotated[int, Query(ge=0, le=5)] = 0) -> dict[str, Any]:
    return {"q": q, "assets": catalogue.search(q, layer, level)}


@router.get("/api/catalogue/{asset_id}", summary="One asset with its fields / 一个数据资产及其字段")
def asset_json(asset_id: str) -> dict[str, Any]:
    return _asset(asset_id)


@router.get("/catalogue", response_class=HTMLResponse, include_in_schema=False)
def search_page(request: Request, q: str = "", layer: str = "", level: str = "") -> HTMLResponse:
    chosen = int(level) if level in map(str, catalogue.LEVELS) else 0
    return pages.page(
        request,
        "catalogue.html",
        q=q,
        layer=layer,
        level=chosen,
        layers=catalogue.LAYERS,
        levels=catalogue.LEVELS,
        assets=catalogue.search(q, layer, chosen),
    )


@router.get("/catalogue/{asset_id}", response_class=HTMLResponse, include_in_schema=False)
def asset_page(request: Request, asset_id: str) -> HTMLResponse:
    found, newest = _asset(asset_id), catalogue.newest()
    stale = bool(newest and found["freshness"] and found["freshness"] < newest - _STALE)
    acts = catalogue.acts(request.state.person, found)
    return pages.page(request, "asset.html", asset=found, layers=catalogue.LAYERS, acts=acts, is_stale=stale)
