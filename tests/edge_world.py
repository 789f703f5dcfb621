"""What the edge tests share: an authority, nodes without processes, and the chunks they make."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingestion.edge import chunk as chunks
from ingestion.edge import config, identity
from ingestion.edge.centre import Centre
from ingestion.edge.chain import Chain
from ingestion.edge.chunk import Chunk, Draft
from ingestion.edge.config import Home
from ingestion.edge.crypto import DataKey
from ingestion.edge.identity import Identity
from ingestion.edge.pki import Authority
from ingestion.edge.spool import Spool
from ingestion.edge.take import TABLES, Folder

AT = datetime(2026, 11, 18, 8, 0, tzinfo=UTC)


def issue(
    authority: Authority, root: Path, node: str, org: str = "", parent: str = "centre", **settings: object
) -> Home:
    """A node's folder, issued and read."""
    told = {"settle_seconds": 0.0, "unlock": "parent", **settings}
    authority.issue(node, org or node, parent, out=root / node, settings_of_node=told)
    return config.load(root / node)


class Bench:
    """One node's parts, in this process."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.spool = Spool(home.folder / "spool.db", TABLES)
        self.chain = Chain(self.spool, home)
        self.key = DataKey.fresh(home.config.node, home.sealing)
        self.folder = Folder(
            home.folder / "drop", self.chain, self.key, home.config.org_code, 0.0, lambda: None
        )

    @property
    def peer(self) -> Identity:
        return identity.of_certificate(identity.load_certificate(self.home.certificate_path))

    def draft(self, content: bytes = b"x", **other: Any) -> Draft:
        told: dict[str, Any] = {
            "delivery": "", "part": 0, "last": True, "feed": "public_health", "org_code": self.home.config.org_code,
            "framing": "lines", "suffix": ".http", "records": 1, "at": AT, "offset": None,
        }  # fmt: skip
        meta = other.pop("meta", {})
        made = chunks.seal(
            self.home.config.node, self.key, meta, chunks.pack_records([content]), **(told | other)
        )
        return made if other.get("delivery") else chunks.alone(made)

    def add(self, *contents: bytes) -> None:
        self.chain.write([self.draft(c) for c in contents])

    def drop(self, name: str, content: bytes) -> Path:
        path = self.home.folder / "drop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def scan(self) -> int:
        """Two looks: a file is taken when it did not change between them."""
        return self.folder.scan() + self.folder.scan()

    def chunks(self, after: int = 0, epoch: int = 0) -> list[Chunk]:
        return self.spool.chunks(self.home.config.node, epoch or self.chain.epoch, after, 1 << 30)

    def close(self) -> None:
        self.spool.close()


def dropped(sources: Path) -> dict[str, bytes]:
    """Everything in the drop folder, by path below it without the day."""
    files = (p for p in sources.rglob("*") if p.is_file())
    return {"/".join(p.relative_to(sources).parts[1:]): p.read_bytes() for p in files}


def lines(contents: Iterable[bytes]) -> list[bytes]:
    return [line for c in contents for line in c.splitlines()]


def centre_of(authority: Authority) -> Centre:
    return Centre(authority)


def silver(table: str, rows: list[dict[str, Any]], org: str = "C201") -> None:
    """Add rows to a silver table and make it visible; what is not given is null, but for the envelope."""
    import pyarrow as pa

    from lake import ledger, ops, tables
    from lake.contracts import table_contract

    schema = table_contract(table).silver_schema()
    usual: dict[str, Any] = {
        "org_code": org, "data_date": AT.date(), "source_file": "f.csv", "source_line": 1, "batch_id": "b", "raw_hash": "0",
        "received_at": AT, "source_updated_at": AT, "is_deleted": False,
    }  # fmt: skip
    columns = {f.name: pa.array([{**usual, **r}.get(f.name) for r in rows], f.type) for f in schema}
    at = tables.append(f"silver/{table}", pa.table(columns, schema=schema))
    with ops.engine().begin() as connection:
        ledger.set_visible(connection, f"silver/{table}", at, None)
