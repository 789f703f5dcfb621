"""Uploads of client systems: JSON records, with attachments if need be, and what became of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive

from ingestion.receive import http
from ingestion.receive.http import Part, Refused, Upload, Uploads
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings
from portal.clients import Client
from portal.rates import Rates

router = APIRouter(prefix="/ingest", tags=["ingest"])
_log = logger("portal")

_STATUS = {
    "E102": 404,
    "E268": 400,
    "E269": 400,
    "E270": 413,
    "E271": 415,
    "E272": 422,
    "E273": 403,
    "E279": 429,
}
_MULTIPART = {
    "type": "object",
    "required": ["body"],
    "properties": {
        "body": {
            "type": "string",
            "description": "JSON as in application/json; key attachments: [{part, record, taken_at}] / 记录与附件的对应",
        }
    },
    "additionalProperties": {
        "type": "string",
        "format": "binary",
        "description": "JPEG, PNG, PDF, DICOM; the part's name is what attachments refers to / 附件",
    },
}
_JSON = {
    "oneOf": [
        {"type": "object", "description": "One record; ?table= unless the feed has one table / 单条记录"},
        {
            "type": "object",
            "required": ["records"],
            "properties": {
                "table": {"type": "string"},
                "records": {"type": "array", "items": {"type": "object"}},
            },
        },
    ]
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _JSON}, "multipart/form-data": {"schema": _MULTIPART}},
    }
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The same request was accepted before; its receipt again / 重复提交，返回原回执"},
    400: {
        "description": "Wrong shape, or values that the contract refuses, one by one in errors / 不符合契约"
    },
    401: {"description": "No valid token / 凭证无效"},
    403: {"description": "The token is not for this feed / 凭证不含此数据源"},
    404: {"description": "No such feed or receipt / 没有此数据源或回执"},
    413: {"description": "Too large / 超过上限"},
    415: {"description": "Attachment or content type not accepted / 类型不被接收"},
    422: {"description": "Idempotency key used for other content / 幂等键已用于其他内容"},
    429: {"description": "Too many uploads; see Retry-After / 过于频繁"},
    507: {"description": "The disk does not take it; nothing was accepted / 存储不可用，未接收"},
}


class _TooLarge(Exception):
    """More bytes than allowed were sent."""


def problem(error: MedlakeError, status: int | None = None, **more: Any) -> JSONResponse:
    """A numbered error as JSON, in both languages."""
    content: dict[str, Any] = {
        "code": error.code,
        "zh": error.zh,
        "en": error.en,
        "remedy_zh": error.remedy_zh,
        "remedy_en": error.remedy_en,
    }
    if isinstance(error, Refused):
        content["errors"] = error.problems
    return JSONResponse(content | more, status or _STATUS.get(error.code, 500))


def _limited(receive: Receive, limit: int) -> Receive:
    """The request's bytes up to a limit: what a sender declares is not what it sends."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _TooLarge
        return message

    return counted


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MedlakeError("E268", detail="JSON") from error


def _blocks(file: UploadFile) -> Callable[[], Iterable[bytes]]:
    def blocks() -> Iterator[bytes]:
        file.file.seek(0)
        while block := file.file.read(1 << 20):
            yield block

    return blocks


def _parts(form: FormData, node: Any, records: int) -> list[Part]:
    """The files of a form, each with the record that ``attachments`` names; with one record there is no choice."""
    given = node.get("attachments", []) if isinstance(node, dict) and "records" in node else []
    if not isinstance(given, list) or not all(
        isinstance(g, dict) and isinstance(g.get("part"), str) for g in given
    ):
        raise MedlakeError("E268", detail="attachments")
    told = {g["part"]: g for g in given}
    files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
    names = [name for name, _ in files]
    if len(set(names)) != len(names) or set(told) - set(names):
        raise MedlakeError("E268", detail="attachments and file parts do not correspond")
    parts = []
    for name, file in files:
        about = told.get(name, {})
        record = about.get("record", 0 if records == 1 else None)
        if not isinstance(record, int) or isinstance(record, bool) or not 0 <= record < records:
            raise MedlakeError("E268", detail=f"attachment {name}: record")
        taken = about.get("taken_at")
        media_type = file.content_type or ""
        parts.append(
            Part(
                name,
                file.filename or "",
                media_type,
                _blocks(file),
                record,
                None if taken is None else str(taken),
            )
        )
    return parts


async def _read(request: Request, feed: str, org_code: str, table: str | None) -> Upload:
    s = settings()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        limited = Request(request.scope, _limited(request.receive, s.http_max_json_bytes))
        try:
            body = await limited.body()
        except _TooLarge:
            raise MedlakeError("E270", limit=f"{s.http_max_json_bytes:,} B") from None
        return http.parse(feed, org_code, _json(body), body, table=table)
    if kind != "multipart/form-data":
        raise MedlakeError("E271", part="body", detail="content-type")
    limited = Request(request.scope, _limited(request.receive, s.http_max_bytes))
    try:
        form = await limited.form(
            max_files=s.http_max_attachments, max_fields=5, max_part_size=s.http_max_json_bytes
        )
    except _TooLarge:
        raise MedlakeError("E270", limit=f"{s.http_max_bytes:,} B") from None
    except (MultiPartException, HTTPException) as error:
        large = "Too many" in str(getattr(error, "detail", error)) or "exceeded" in str(
            getattr(error, "detail", error)
        )
        if large:
            raise MedlakeError("E270", limit=f"{s.http_max_attachments} files") from None
        raise MedlakeError("E268", detail="multipart") from None
    body_field = form.get("body")
    if not isinstance(body_field, str):
        raise MedlakeError("E268", detail="part body")
    node = _json(body_field.encode())
    made = http.parse(feed, org_code, node, body_field.encode(), table=table)
    return Upload(**{**made.__dict__, "parts": _parts(form, node, len(made.records))})


def _rates(request: Request) -> Rates:
    found = getattr(request.app.state, "rates", None)
    if found is None:
        s = settings()
        found = request.app.state.rates = Rates(s.http_rate_per_second, s.http_burst)
    rates: Rates = found
    return rates


@router.post(
    "/{feed}", status_code=202, summary="Upload records / 上传记录", openapi_extra=_BODY, responses=_RESPONSES
)
async def upload(
    request: Request,
    feed: str,
    table: Annotated[str | None, Query(description="Table of a single record / 单条记录的表名")] = None,
    idempotency_key: Annotated[
        str | None,
        Header(description="Same key and content: the same answer / 幂等键", min_length=8, max_length=128),
    ] = None,
) -> JSONResponse:
    """Answers when the records are durable; the batch loads them later, and the receipt tells how that went.

    记录落盘后即返回回执，批次随后入库，凭回执可查结果。
    """
    client: Client = request.state.client
    if wait := _rates(request).wait(client.token_id):
        answer = problem(MedlakeError("E279", detail="too many uploads in too short a time"))
        answer.headers["retry-after"] = str(math.ceil(wait))
        return answer
    uploads: Uploads = request.app.state.uploads
    try:
        if feed not in client.feeds:
            raise MedlakeError("E273", detail=f"feed {feed}")
        asked = await _read(request, feed, client.org_code, table)
        receipt, again = await uploads.accept(
            Upload(**{**asked.__dict__, "idempotency_key": idempotency_key})
        )
    except MedlakeError as error:
        _log.warning(
            "upload_refused",
            code=error.code,
            feed=feed if feed in client.feeds else "?",
            org_code=client.org_code,
        )
        return problem(error)
    except ClientDisconnect:
        raise
    except OSError as error:
        _log.error("upload_not_durable", reason=error.strerror, feed=feed)
        return problem(MedlakeError("E279", detail="storage"), 507)
    content = {
        "receipt_id": receipt.receipt_id,
        "status": "accepted",
        "feed": receipt.feed,
        "table": receipt.table_name,
        "records": receipt.records,
        "attachments": receipt.attachments,
        "received_at": receipt.received_at.astimezone(UTC).isoformat(),
    }
    return JSONResponse(
        content, 200 if again else 202, {"location": f"/ingest/receipts/{receipt.receipt_id}"}
    )


@router.get("/receipts/{receipt_id}", summary="What became of an upload / 查询回执", responses=_RESPONSES)
def receipt(request: Request, receipt_id: str) -> JSONResponse:
    """``accepted`` (durable, the batch is to come), ``loaded``, or ``quarantined`` with the reasons per record."""
    from ingestion.receive import http_receipts
    from lake.contracts import table_contract

    client: Client = request.state.client
    found = http_receipts.by_id(receipt_id, client.org_code)
    if found is None or found.feed not in client.feeds:
        return problem(MedlakeError("E268", detail="receipt"), 404)
    table = table_contract(found.table_name)
    return JSONResponse(http_receipts.outcome(found, f"bronze/{table.feed}/{table.name}"))
