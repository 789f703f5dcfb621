"""The batch ledger: what came, per feed and delivery day, what became of it, and who is late."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse

from lake import contracts, ledger
from lake.errors import MedlakeError
from portal import pages, serving

router = APIRouter()

_COUNTS = ("received", "loaded", "duplicate", "quarantined")


def _rows() -> list[dict[str, Any]]:
    """One row per feed, day and state, with the feed's label and whether it balances."""
    labels = {name: contract.label_zh for name, contract in contracts.contracts().items()}
    return [
        row
        | {
            "label_zh": labels.get(row["feed"], row["feed"]),
            "balances": row["received"] == row["loaded"] + row["duplicate"] + row["quarantined"],
        }
        for row in ledger.by_feed()
    ]


@router.get("/api/ledger", summary="Ledger per feed and delivery date / 各数据源每日账目")
def ledger_json() -> dict[str, Any]:
    return {"totals": ledger.totals(), "rows": _rows()}


@router.get("/ledger", response_class=HTMLResponse, include_in_schema=False)
def ledger_page(request: Request) -> HTMLResponse:
    days = [
        {
            "day": key,
            "rows": (kept := list(found)),
            "totals": {n: sum(r[n] for r in kept if r["state"] == "committed") for n in _COUNTS},
        }
        for key, found in groupby(_rows(), key=lambda r: r["data_date"])
    ]
    return pages.page(request, "ledger.html", days=days, totals=ledger.totals())


def _sources() -> list[dict[str, Any]]:
    """``gold.ingest_status``, each row with its mark: silent, refused (records in quarantine), partial or good."""
    if not serving.has("gold", "ingest_status"):
        raise MedlakeError("E608")
    found = serving.rows("SELECT * FROM gold.ingest_status ORDER BY org_code, feed")
    for row in found:
        row["mark"] = (
            "silent"
            if row["is_silent"]
            else "late"
            if row["lag_days"]
            else "refused"
            if row["quarantined"]
            else "partial"
            if row["completeness_pct"] < 100
            else "good"
        )
    return found


@router.get(
    "/api/ledger/sources", summary="Lag, completeness and rejects per source / 各来源时效、完整与隔离"
)
def sources_json() -> list[dict[str, Any]]:
    return _sources()


@router.get("/ledger/sources", response_class=HTMLResponse, include_in_schema=False)
def sources_page(request: Request) -> HTMLResponse:
    found = _sources()
    feeds = {row["feed"]: row["feed_zh"] for row in sorted(found, key=lambda r: r["feed"])}
    orgs = [
        {
            "org_code": code,
            "org_short_name": (kept := list(rows))[0]["org_short_name"] or code,
            "cells": {row["feed"]: row for row in kept},
        }
        for code, rows in groupby(found, key=lambda r: r["org_code"])
    ]
    marks = {
        mark: sum(row["mark"] == mark for row in found)
        for mark in ("silent", "late", "refused", "partial", "good")
    }
    day = max((row["data_date"] for row in found), default=None)
    return pages.page(request, "sources.html", orgs=orgs, feeds=feeds, marks=marks, day=day, count=len(found))
