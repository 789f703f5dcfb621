"""Preparing a batch: read, conform, deduplicate, count. Touches nothing but landing and its staging folder."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ingestion import announced, dedupe, landing, notes, overlay, quarantine, routing
from ingestion import plan as plans
from ingestion.conform import quoted
from ingestion.landing import Hashed, Known
from ingestion.plan import Plan, TablePlan
from ingestion.readers.base import LandedFile
from ingestion.stage import Announcement, Stage, scan
from lake import kill, ledger
from lake.contracts import FeedContract, table_contract
from lake.ledger import Announced, Line
from lake.settings import settings


def delivery_id(feed: str, data_date: date, files: list[Hashed]) -> str:
    """The same content from the same institutions under the same names and date is the same delivery."""
    digest = hashlib.sha256()
    for f in sorted(files, key=lambda f: (f.source.org_code, f.source.name, f.sha256)):
        digest.update(f"{f.source.org_code}\0{f.source.name}\0{f.sha256}\0".encode())
    return f"{feed}-{data_date:%Y%m%d}-{digest.hexdigest()[:12]}"


class Reading:
    """A delivery that is read and conformed, in its staging folder; nothing of it is decided yet.

    ``plan`` compares it with silver and must run while its tables are held (``ingestion.locking``).
    """

    def __init__(
        self,
        contract: FeedContract,
        data_date: date,
        identity: str,
        landed: list[LandedFile],
        known: list[Known],
        read: Callable[[Stage], None],
    ) -> None:
        self.contract, self.landed, self.known = contract, landed, known
        self.made = Plan(identity, identity, contract.feed, data_date, datetime.now(UTC), contract.version)
        self.directory = plans.folder(self.made)
        plans.discard(self.directory)
        self.directory.mkdir(parents=True, mode=0o700)
        self.stage = Stage(contract, landed, self.directory, on=data_date)
        try:
            read(self.stage)
            self.stage.finish()
        except BaseException:
            self.close()
            raise
        kill.point("ingest.read")

    def close(self) -> None:
        self.stage.close()

    def discard(self) -> None:
        """Forget what was read."""
        self.close()
        plans.discard(self.directory)

    def writes(self) -> list[str]:
        """Delta tables that the plan may write."""
        tables_ = [f"silver/{name}" for name in self.stage.parts] + overlay.touched(self.stage)
        return tables_ + [plans.reject_table(self.contract.feed, r.table) for r in self.stage.rejected]

    def plan(self) -> Plan:
        """Find duplicates and current rows, count, and write the plan down."""
        made, stage = self.made, self.stage
        try:
            overlay.refuse(stage)
            _plan_tables(made, stage, self.directory)
            _plan_rejects(made, stage, self.directory)
        finally:
            self.close()
        made.notices = stage.notices
        made.announced = [
            told(self.stage.files[a.file_no].source_file, a, got) for a, got in stage.compared()
        ]
        made.places = next(iter(stage.own_places.values()), {})
        made.lines = _merged(made.lines + _redelivered(self.known))
        made.files = ledger_files(self.contract.feed, self.landed, self.known, set(stage.own_places))
        plans.save(made)
        kill.point("ingest.staged")
        return made


def read_files(
    contract: FeedContract, data_date: date, identity: str, files: list[Hashed], known: list[Known]
) -> Reading:
    """Land files and read them."""
    landed = landing.land(contract.feed, data_date, files)
    landing.write_manifest(contract.feed, data_date, identity, landed, datetime.now(UTC))
    kill.point("ingest.landed")
    unreadable = {f.number: h.unreadable for f, h in zip(landed, files, strict=True) if h.unreadable}

    def read(stage: Stage) -> None:
        announced.by_sidecar(landed, stage)
        routing.read_all(landed, unreadable, contract, stage)

    return Reading(contract, data_date, identity, landed, known, read)


def _plan_tables(made: Plan, stage: Stage, directory: Path) -> None:
    inbox: list[pa.Table] = []
    for name, parts in stage.parts.items():
        table = table_contract(name)
        plain = stage.plain[name]
        mode = dedupe.mark(stage.connection, table, stage.mapped, plain, directory, parts, made.data_date)
        stage.notices += notes.collect(stage.connection, table, scan(directory, parts), made.data_date)
        counted = stage.connection.execute(f"""
            SELECT f.source_file, s.org_code, count(*) AS received,
                   count(*) FILTER (s.err IS NULL AND coalesce(m.duplicate, false)) AS duplicate,
                   count(*) FILTER (s.err IS NOT NULL) AS quarantined
            FROM {scan(directory, parts)} s LEFT JOIN marks m USING (rid) JOIN files f USING (file_no)
            GROUP BY ALL""").fetchall()
        lines = [Line(name, org, file, n, n - d - q, d, q) for file, org, n, d, q in counted]
        made.lines.extend(lines)
        loaded, refused = sum(x.loaded for x in lines), sum(x.quarantined for x in lines)
        if name == overlay.FEED:
            made.corrected = overlay.lay(stage, made)
        laid, settles = (
            overlay.mark(stage.connection, table, stage.mapped, plain, directory, parts, made)
            if mode != "none"
            else ([], False)
        )
        planned = TablePlan(name, parts, stage.mapped, sorted(plain), loaded, refused, mode, laid, settles)
        made.tables.append(planned)
        for f in table.fields:
            if f.code_system in stage.mapped and loaded:
                inbox.append(_unmapped(stage, made, f.code_system, f.name, name, scan(directory, parts)))
        if (
            strange := notes.unknown_units(stage.connection, table, scan(directory, parts), made.data_date)
        ) is not None:
            inbox.append(strange)
    found = pa.concat_tables(inbox) if inbox else None
    if found is not None and found.num_rows:
        pq.write_table(found, directory / "unmapped.parquet")
        made.unmapped = True


def _unmapped(stage: Stage, made: Plan, system: str, field: str, table: str, source: str) -> pa.Table:
    """Codes of one field that no standard code or map knows, with the number of records that carry them."""
    return stage.connection.execute(
        f"""SELECT ? AS code_system, ? AS feed, ? AS table_name, ? AS field, org_code, {quoted("t_" + field)} AS source_code,
                   count(*) AS records, CAST(? AS DATE) AS data_date
            FROM {source} s ANTI JOIN (SELECT DISTINCT code FROM codemap WHERE code_system = ?) c
              ON c.code = s.{quoted("t_" + field)}
            WHERE err IS NULL AND {quoted("t_" + field)} IS NOT NULL GROUP BY ALL""",
        [system, made.feed, table, field, made.data_date, system],
    ).to_arrow_table()


def _plan_rejects(made: Plan, stage: Stage, directory: Path) -> None:
    if not stage.rejected:
        return
    pq.write_table(
        quarantine.rejects(made.feed, stage.rejected, stage.default_org), directory / "rejects.parquet"
    )
    made.reject_tables = sorted({r.table for r in stage.rejected})
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    for r in stage.rejected:
        counts[(r.table, quarantine.reject_org(r, stage.default_org), r.file.source_file)] += 1
    made.lines.extend(Line(t, org, file, n, 0, 0, n) for (t, org, file), n in counts.items())


def _redelivered(known: list[Known]) -> list[Line]:
    """Ledger lines of files that were delivered again: as many records as the first time, all duplicates."""
    by_batch: dict[str, dict[str, list[Line]]] = {}
    found: list[Line] = []
    for k in known:
        if k.batch_id not in by_batch:
            groups: dict[str, list[Line]] = defaultdict(list)
            for line in ledger.lines_of(k.batch_id):
                groups[line.source_file].append(line)
            by_batch[k.batch_id] = groups
        for line in by_batch[k.batch_id].get(k.source_file, []):
            found.append(
                Line(line.table_name, line.org_code, line.source_file, line.received, 0, line.received, 0)
            )
    return found


def _merged(lines: list[Line]) -> list[Line]:
    """One line per table, institution and file."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for line in lines:
        counts = sums.setdefault((line.table_name, line.org_code, line.source_file), [0, 0, 0, 0])
        for i, n in enumerate((line.received, line.loaded, line.duplicate, line.quarantined)):
            counts[i] += n
    return [Line(*key, *counts) for key, counts in sorted(sums.items())]


def told(source_file: str, announcement: Announcement, received: int) -> Announced:
    """A row of the ledger's announcements."""
    a = announcement
    return Announced(source_file, a.table or "", a.what[:64], a.count, received)


def ledger_files(
    feed: str, landed: list[LandedFile], known: list[Known], own_places: set[int]
) -> list[dict[str, object]]:
    """Rows of the ledger's landing files; ``number`` and ``own_places`` are the plan's own and stay here."""
    rows: list[dict[str, object]] = []
    taken: dict[str, int] = defaultdict(int)
    for f in landed:
        row = _ledger_file(feed, f.number, f.source_file, f.sha256, f.org_code, f.origin, f.bytes)
        rows.append(row | {"own_places": f.number in own_places})
        taken[f.source_file] += 1
    for i, k in enumerate(known):
        h = k.hashed
        n = taken[k.source_file]
        taken[k.source_file] += 1
        name = f"{k.source_file}#{n + 1}" if n else k.source_file
        rows.append(_ledger_file(feed, -1 - i, name, h.sha256, h.source.org_code, h.source.origin, h.bytes))
    return rows


def _ledger_file(
    feed: str, number: int, path: str, sha256: str, org_code: str, origin: str, size: int
) -> dict[str, object]:
    return {
        "number": number,
        "own_places": False,
        "path": path,
        "sha256": sha256,
        "feed": feed,
        "org_code": org_code,
        "origin": origin,
        "bytes": size,
    }


def split_by_bytes(files: list[Hashed]) -> list[list[Hashed]]:
    """Batches of at most ``batch_max_bytes`` each (a larger single file is its own), in the order of delivery."""
    limit = settings().batch_max_bytes
    batches: list[list[Hashed]] = [[]]
    size = 0
    for f in files:
        if batches[-1] and size + f.bytes > limit:
            batches.append([])
            size = 0
        batches[-1].append(f)
        size += f.bytes
    return batches
