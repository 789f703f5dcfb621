"""The batch ledger: what came, per feed and delivery day, and what became of it."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse

from lake import contracts, ledger
from portal import pages

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
