"""The batch ledger: what came, per feed and delivery day, what became of it, and who is late."""

from __future__ import annotations

from datetime import date
from itertools import groupby
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from lake import contracts, ledger
from lake.errors import MedlakeError
from portal import ledger as book
from portal import pages, serving
from portal.routers.exports import institutions

router = APIRouter()

Short = Annotated[str, Query(max_length=64)]


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


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:  # a filter that says nothing
        return None


@router.get("/ledger", response_class=HTMLResponse, include_in_schema=False)
def ledger_page(
    request: Request, feed: Short = "", org: Short = "", state: Short = "", first: Short = "", last: Short = "",
    quarantined: str = "", page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> HTMLResponse:  # fmt: skip
    chosen = book.Chosen(
        feed,
        org.strip(),
        state if state in book.STATES else "",
        _date(first),
        _date(last),
        quarantined == "1",
    )
    asked = {"feed": feed, "org": chosen.org, "state": chosen.state, "first": first, "last": last}
    return pages.page(
        request, "ledger.html", found=book.days(request.state.person, chosen, page), states=book.STATES,
        asked=asked | ({"quarantined": "1"} if chosen.is_quarantined else {}), late=book.lateness(),
        feeds={n: c.label_zh for n, c in sorted(contracts.contracts().items())},
        orgs=institutions(request.state.person), is_filtered=chosen != book.Chosen(),
    )  # fmt: skip


@router.get("/ledger/batches", response_class=HTMLResponse, include_in_schema=False)
def batches_page(
    request: Request, feed: Short = "", org: Short = "", state: Short = "", day: Short = ""
) -> HTMLResponse:
    chosen = book.Chosen(feed, org.strip(), state if state in book.STATES else "", _date(day), _date(day))
    return pages.page(
        request, "ledger_batches.html", batches=book.batches(request.state.person, chosen), states=book.STATES, day=day,
        label=next((c.label_zh for n, c in contracts.contracts().items() if n == feed), "全部数据源"),
    )  # fmt: skip


@router.get("/ledger/batches/{batch_id}", response_class=HTMLResponse, include_in_schema=False)
def batch_page(request: Request, batch_id: str) -> Response:
    found = book.one(request.state.person, batch_id)
    if found is None:
        return pages.problem(request, 404)
    return pages.page(request, "ledger_batch.html", batch=found, states=book.STATES)


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
