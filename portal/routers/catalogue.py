"""The data-asset directory as published: search by name or field, and one page per asset."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from portal import pages, serving

router = APIRouter()

LAYERS = {"silver": "标准层 silver", "quality": "质控 quality", "gold": "应用层 gold"}

_SEARCH = """
WITH hit AS (
    SELECT asset_id, list(field ORDER BY ord) AS fields, list(label_zh ORDER BY ord) AS labels
    FROM gold.catalog_field
    WHERE $1 <> '' AND (contains(lower(field), $1) OR contains(lower(label_zh), $1) OR contains(lower(description), $1))
    GROUP BY asset_id
)
SELECT asset.*, coalesce(hit.fields[:6], []) AS hit_fields, coalesce(hit.labels[:6], []) AS hit_labels,
    coalesce(len(hit.fields), 0) AS hits
FROM gold.catalog_asset AS asset LEFT JOIN hit ON asset.asset_id = hit.asset_id
WHERE ($2 = '' OR asset.layer = $2)
    AND ($1 = '' OR hit.asset_id IS NOT NULL OR contains(lower(asset.asset_id), $1)
        OR contains(lower(asset.name_zh), $1) OR contains(lower(asset.name_en), $1)
        OR contains(lower(asset.description), $1) OR contains(lower(asset.owner), $1))
ORDER BY asset.layer, asset.asset_id
"""


def _assets(q: str, layer: str) -> list[dict[str, Any]]:
    if not serving.has("gold", "catalog_asset"):
        return []
    return serving.rows(_SEARCH, [q.strip().lower()[:100], layer if layer in LAYERS else ""])


def _asset(asset_id: str) -> dict[str, Any]:
    """One asset with its fields and neighbours; 404 when there is none."""
    found = []
    if serving.has("gold", "catalog_asset"):
        found = serving.rows("FROM gold.catalog_asset WHERE asset_id = ?", [asset_id])
    if not found:
        raise HTTPException(404)
    fields = serving.rows("FROM gold.catalog_field WHERE asset_id = ? ORDER BY ord", [asset_id])
    known = {row["asset_id"] for row in serving.rows("SELECT asset_id FROM gold.catalog_asset")}
    near = {
        side: [
            {"asset_id": name, "known": name in known} for name in (found[0][side] or "").split(", ") if name
        ]
        for side in ("upstream", "downstream")
    }
    return found[0] | near | {"fields": fields}


@router.get("/api/catalogue", summary="Data assets, searched by name or field / 检索数据资产")
def search(q: str = "", layer: str = "") -> dict[str, Any]:
    return {"q": q, "assets": _assets(q, layer)}


@router.get("/api/catalogue/{asset_id}", summary="One asset with its fields / 一个数据资产及其字段")
def asset_json(asset_id: str) -> dict[str, Any]:
    return _asset(asset_id)


@router.get("/catalogue", response_class=HTMLResponse, include_in_schema=False)
def search_page(request: Request, q: str = "", layer: str = "") -> HTMLResponse:
    return pages.page(request, "catalogue.html", q=q, layer=layer, layers=LAYERS, assets=_assets(q, layer))


@router.get("/catalogue/{asset_id}", response_class=HTMLResponse, include_in_schema=False)
def asset_page(request: Request, asset_id: str) -> HTMLResponse:
    return pages.page(request, "asset.html", asset=_asset(asset_id), layers=LAYERS)
