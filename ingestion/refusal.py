"""Files that do not hold what their source announced: set apart as a batch that fails, and given to a person."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from ingestion.prepare import Reading, ledger_files, told
from ingestion.stage import Announcement
from lake import ledger, work


def refuse(reading: Reading, unkept: dict[int, tuple[Announcement, int]]) -> list[dict[str, Any]]:
    """Record one failed batch a file and ask for work; nothing of it is visible. Returns the notices (E240)."""
    feed, day = reading.contract.feed, reading.made.data_date
    notices = []
    for file in reading.landed:
        if file.number not in unkept:
            continue
        announced, received = unkept[file.number]
        digest = hashlib.sha256(f"{file.org_code}\0{file.name}\0{file.sha256}".encode()).hexdigest()[:12]
        batch_id = f"{feed}-{day:%Y%m%d}-x{digest}"
        kept = ("path", "sha256", "feed", "org_code", "origin", "bytes")
        (row,) = ledger_files(feed, [file], [], set())
        ledger.fail(
            batch_id,
            feed,
            day,
            contract_version=reading.contract.version,
            reason=f"E240 {announced.what}: announced {announced.count}, received {received}",
            files=[{k: row[k] for k in kept}],
            announced=[
                told(file.source_file, a, got)
                for a, got in reading.stage.compared()
                if a.file_no == file.number
            ],
        )
        counts = {"what": announced.what, "announced": announced.count, "received": received}
        work.ask(
            [
                work.Request(
                    request_key=f"quarantined_batch|{batch_id}",
                    kind="quarantined_batch",
                    org_code=file.org_code or reading.stage.default_org,
                    severity="error",
                    subject=f"batch/{batch_id}",
                    occurred_at=datetime.now(UTC),
                    origin="ingestion",
                    payload={"feed": feed, "data_date": day, "source_file": file.source_file, **counts},
                )
            ]
        )
        found = {"code": "E240", "file": file.source_file, "sheet": None, "org_code": file.org_code}
        notices.append(found | {"context": counts})
    return notices
