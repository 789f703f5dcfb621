"""Serves the rendered quality page: files below ``home/quality/page`` and nothing beside them."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from lake.settings import settings
from portal import pages

router = APIRouter()

#: What the quality room renders; anything else in the folder is not for a browser.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}


def _root() -> Path:
    return settings().home / "quality" / "page"


def _within(root: Path, asked: str) -> Path | None:
    """The file that was asked for, or None when it lies outside the folder, is no file or of no served type."""
    if "\x00" in asked:
        return None
    path = (root / asked).resolve()
    if path.is_dir():
        path = path / "index.html"
    inside = path.is_relative_to(root.resolve())
    return path if inside and path.suffix in _TYPES and path.is_file() else None


@router.get("/quality", include_in_schema=False)
def quality_door() -> Response:
    return RedirectResponse("/quality/")  # the page's own links are relative


@router.get("/quality/{asked:path}", include_in_schema=False)
def quality_page(request: Request, asked: str = "") -> Response:
    root = _root()
    if not asked and not (root / "index.html").is_file():
        return pages.page(request, "quality_empty.html")
    path = _within(root, asked)
    if path is None:
        raise HTTPException(404)
    return FileResponse(path, media_type=_TYPES[path.suffix])
