"""Uploads over HTTP: checked, made durable, and only then answered. The batch takes them from the drop.

In this order: the contract's check, attachments into their store, records into the journal, the receipt. A crash in
between leaves no receipt, the sender repeats, and what is there twice is a duplicate by content.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from weakref import WeakValueDictionary

from ingestion import attachments
from ingestion.attachments import Stored
from ingestion.readers.upload import envelope
from ingestion.receive import http_check, http_receipts
from ingestion.receive.http_receipts import Receipt
from ingestion.receive.journal import Journal
from lake.contracts import TableContract, contract
from lake.crypto import sm3_hex
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings

_log = logger("receive")

#: Table that links an attachment to its record.
ATTACHMENT = "attachment"


@dataclass(frozen=True)
class Part:
    """One file of a multipart upload. ``record``: the record it belongs to, from 0."""

    name: str
    file_name: str
    media_type: str
    blocks: Callable[[], Iterable[bytes]]
    record: int = 0
    taken_at: str | None = None


@dataclass(frozen=True)
class Upload:
    """One request. ``body`` is what was sent as JSON, for the idempotency key."""

    feed: str
    org_code: str
    table: TableContract
    records: Sequence[Mapping[str, Any]]
    body: bytes
    parts: Sequence[Part] = ()
    idempotency_key: str | None = None


class Refused(MedlakeError):
    """E269 with the single problems, as ``http_check.problems`` gives them."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__("E269", count=len(problems))
        self.problems = problems


def parse(feed: str, org_code: str, node: Any, body: bytes, *, table: str | None = None) -> Upload:
    """An upload from JSON: one record as object, or ``{"table", "records": [...]}``.

    Raises:
        MedlakeError: E102 no such feed; E268 the JSON has another shape or names no table of the feed.
    """
    known = contract(feed).tables
    try:
        json.dumps(node, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):  # NaN, half a surrogate pair: JSON for Python, not for anybody else
        raise MedlakeError("E268", detail="JSON") from None
    records = [node]
    if isinstance(node, dict) and isinstance(node.get("records"), list):
        records, table = node["records"], str(node["table"]) if node.get("table") else table
        if unknown := sorted(set(node) - {"table", "records", "attachments"}):
            raise MedlakeError("E268", detail=f"keys {unknown}")
    if table is None and len(known) == 1:
        table = next(iter(known))
    if table not in known:
        raise MedlakeError("E268", detail=f"table {table!r}; {', '.join(known)}")
    if not records or not all(isinstance(r, dict) for r in records):
        raise MedlakeError("E268", detail="records")
    limit = settings().http_max_records
    if len(records) > limit:
        raise MedlakeError("E270", limit=f"{limit} records")
    return Upload(feed, org_code, known[table], records, body)


@dataclass
class Uploads:
    """The receiver of one process: a journal a feed, opened at its first upload or because a crash left one behind."""

    _journals: dict[str, Journal] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    # a lock a key, for as long as anybody holds it or waits for it
    _same_key: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = field(
        default_factory=WeakValueDictionary
    )
    _checks: http_check.Checks = field(default_factory=http_check.Checks)
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def start(self) -> None:
        """Take up what the last process left: unsealed segments reach the drop."""
        root = settings().home / "receive"
        for folder in sorted(root.glob("http-*")) if root.is_dir() else []:
            feed = folder.name.removeprefix("http-")
            if any(folder.glob("*.wal")):
                await self._journal(feed)

    async def close(self) -> None:
        await self._stack.aclose()
        self._journals.clear()

    async def _journal(self, feed: str) -> Journal:
        async with self._opening:
            if feed not in self._journals:
                s = settings()
                made = Journal(
                    f"http-{feed}", feed, suffix=".http", seal_seconds=s.http_seal_seconds, framing="lines"
                )
                await self._stack.enter_async_context(made)
                await _offer_to_fast_lane(made, self._stack)
                self._journals[feed] = made
        return self._journals[feed]

    async def accept(self, upload: Upload) -> tuple[Receipt, bool]:
        """Check an upload and make it durable.

        Returns:
            its receipt, and whether the same request was accepted before.

        Raises:
            Refused: the contract refuses values; nothing was taken.
            MedlakeError: E271 an attachment is not accepted; E272 the idempotency key was used for other content.
            OSError: the disk does not take it.
        """
        key = upload.idempotency_key
        if key is None:
            return await self._accept(upload), False
        place = (upload.org_code, upload.feed, key)
        lock = self._same_key.get(place) or asyncio.Lock()
        self._same_key[place] = lock
        async with lock:
            digest = await asyncio.to_thread(_body_hash, upload)
            known = await asyncio.to_thread(http_receipts.by_key, *place)
            if known is None:
                return await self._accept(upload), False
            if known.body_hash != digest:
                raise MedlakeError("E272")
            return known, True

    async def _accept(self, upload: Upload) -> Receipt:
        rows = await asyncio.to_thread(http_check.rows_of, upload.table, upload.records)
        problems = await self._checks.problems(upload.table, rows, upload.org_code)
        if problems:
            raise Refused(problems)
        digest = await asyncio.to_thread(_body_hash, upload)
        stored = [(p, await asyncio.to_thread(_store, p)) for p in upload.parts]
        now = datetime.now(UTC)
        receipt = Receipt(
            receipt_id=secrets.token_hex(16),
            feed=upload.feed,
            org_code=upload.org_code,
            table_name=upload.table.name,
            idempotency_key=upload.idempotency_key,
            body_hash=digest,
            records=len(upload.records),
            attachments=len(stored),
            received_at=now,
        )
        keys = [http_check.key_of(upload.table, row) for row in rows.select(upload.table.key).to_pylist()]
        linked = [_link(part, kept, upload, keys) for part, kept in stored]
        at = now.isoformat(timespec="microseconds")
        lines = [envelope(receipt.receipt_id, at, upload.table.name, r) for r in upload.records]
        lines += [envelope(receipt.receipt_id, at, ATTACHMENT, r) for r in linked]
        journal = await self._journal(upload.feed)
        await asyncio.gather(*(journal.append(upload.org_code, line) for line in lines))
        kept_receipt = await asyncio.to_thread(http_receipts.keep, receipt)
        _log.info(
            "uploaded",
            feed=upload.feed,
            table=upload.table.name,
            org_code=upload.org_code,
            records=len(lines),
        )
        return kept_receipt


def _store(part: Part) -> Stored:
    return attachments.store(part.name, part.file_name, part.media_type, part.blocks())


def _body_hash(upload: Upload) -> str:
    """SM3 over the JSON and the attachments; the borders of a multipart body differ with every sending."""
    pieces = [upload.table.name.encode(), sm3_hex(upload.body).encode()]
    for part in upload.parts:
        pieces += [part.name.encode(), part.file_name.encode(), sm3_hex(b"".join(part.blocks())).encode()]
    return sm3_hex(b"\0".join(pieces))


def _link(part: Part, kept: Stored, upload: Upload, keys: Sequence[str]) -> dict[str, Any]:
    """The attachment's row: which record of which table it belongs to."""
    return {
        "attachment_id": kept.attachment_id,
        "table_name": upload.table.name,
        "record_key": keys[part.record],
        "media_type": kept.media_type,
        "bytes": kept.bytes,
        "file_name": kept.file_name,
        "taken_at": part.taken_at,
    }


async def _offer_to_fast_lane(journal: Journal, stack: contextlib.AsyncExitStack) -> None:
    """Show what became durable to the fast lane, restarts included."""
    from ingestion.receive.follow import Follower
    from ingestion.receive.offer import uploads

    follower = Follower(journal, "fastlane", uploads)
    task = asyncio.create_task(follower.run(), name=f"{journal.door}-fastlane")

    async def ended() -> None:
        follower.stop()
        await task

    stack.push_async_callback(ended)
