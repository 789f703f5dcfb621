"""Files of the node's drop folder: ``drop/<feed>/<file>`` or ``drop/<feed>/<institution>/<file>``.

A file is spooled in one transaction, then removed: on a stolen disk nothing may lie in clear. A crash between the two
leaves the file and a note of which one it was, so it is removed and not taken twice. What may not be taken stays.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from sqlite3 import Connection

from ingestion.edge import chunk as chunks
from ingestion.edge import clock
from ingestion.edge.chain import Chain
from ingestion.edge.chunk import CONTENT_BYTES, Draft
from ingestion.edge.clock import Offset
from ingestion.edge.crypto import DataKey
from lake import kill, registry
from lake.contracts import CONTRACTS_DIR, site_dir
from lake.errors import MedlakeError
from lake.log import logger

_log = logger("edge")

#: Feed names of the drop that are routed by content.
ALIASES = frozenset({"dicom", "fhir_r4"})

#: Small files share a transaction up to so many bytes of content.
GROUP_BYTES = 16 << 20

#: Not whole, or not deliveries: uploads under way, office locks, what file managers leave behind.
_NOT_YET = (".tmp", ".part", ".partial", ".filepart", ".crdownload")
_NEVER = ("Thumbs.db", "desktop.ini")

TABLES = """
CREATE TABLE IF NOT EXISTS taken (
    path TEXT PRIMARY KEY, inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL) WITHOUT ROWID;
"""


def known_feeds() -> frozenset[str]:
    """Feeds by the contracts' file names, this site's own included: a node need not read a contract to know them."""
    names = (p.name for folder in (CONTRACTS_DIR, site_dir()) for p in folder.glob("*.odcs.yaml"))
    return frozenset(n.removesuffix(".odcs.yaml") for n in names) | ALIASES


def tree(org: str) -> frozenset[str]:
    """An institution and all below it."""
    table = registry.orgs().select(["org_code", "parent_org_code"]).to_pydict()
    found = {org}
    while True:
        more = {
            c for c, p in zip(table["org_code"], table["parent_org_code"], strict=True) if p in found
        } - found
        if not more:
            return frozenset(found)
        found |= more


@dataclass
class Folder:
    """The watched folder. ``refused`` tells by number how many files lie there that cannot be taken."""

    root: Path
    chain: Chain
    key: DataKey
    org_code: str
    settle_seconds: float
    offset: Callable[[], Offset | None]
    refused: dict[str, int] = field(default_factory=dict)
    files: int = 0
    _before: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _own: frozenset[str] = frozenset()
    _told: set[Path] = field(default_factory=set)
    _spooled: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._own = tree(self.org_code)
        self._clean()

    def scan(self) -> int:
        """Take every file that is complete. Returns how many."""
        refused: dict[str, int] = {}
        group: list[tuple[Path, str, str]] = []
        size = taken = 0
        still: dict[Path, tuple[int, int]] = {}
        for path in sorted(p for p in self.root.rglob("*") if _is_whole(p) and p not in self._spooled):
            try:
                state = path.stat()
            except FileNotFoundError:
                continue
            still[path] = (state.st_size, state.st_mtime_ns)
            old_enough = clock.now().timestamp() - state.st_mtime >= self.settle_seconds
            if self._before.get(path) != still[path] or not (
                old_enough or state.st_mtime > clock.now().timestamp()
            ):
                continue
            feed, org, _ = self._place(path)
            if feed not in known_feeds() or org not in self._own:
                refused["E295"] = refused.get("E295", 0) + 1
                self._tell(path, feed)
                continue
            if size >= GROUP_BYTES and not path.name.startswith(
                group[-1][0].name
            ):  # what tells about a file stays with it
                taken += self._take(group, size, refused)
                group, size = [], 0
            group.append((path, feed, org))
            size += state.st_size
        taken += self._take(group, size, refused)
        self._before, self.refused = still, refused
        self.files += taken
        return taken

    def _tell(self, path: Path, feed: str) -> None:
        if path not in self._told:
            self._told.add(path)
            _log.warning("edge_refused", code="E295", feed=feed, path=path.suffix)

    def _place(self, path: Path) -> tuple[str, str, str]:
        parts = path.relative_to(self.root).parts
        if len(parts) == 1:
            return "", self.org_code, parts[0]
        if len(parts) > 2 and parts[1] in registry.org_codes():
            return parts[0], parts[1], "/".join(parts[2:])
        return parts[0], self.org_code, "/".join(parts[1:])

    def _take(self, group: list[tuple[Path, str, str]], size: int, refused: dict[str, int]) -> int:
        """Spool a group of files in one transaction, then remove them."""
        if not group:
            return 0
        done: list[tuple[Path, os.stat_result]] = []
        together = secrets.token_hex(4)
        try:
            self.chain.room(size)
            drafts = (d for path, feed, org in group for d in self._drafts(path, feed, org, together, done))
            self.chain.write(drafts, lambda db: _note(db, done))
        except _Changed:
            return 0  # somebody still writes one of them: all of the group wait for the next look
        except MedlakeError as error:
            if error.code not in ("E282", "E283"):
                raise
            refused[error.code] = refused.get(error.code, 0) + len(group)
            _log.error("edge_refused", code=error.code, files=len(group))
            return 0
        kill.point("edge.taken")
        self._clean()
        return len(done)

    def _drafts(
        self, path: Path, feed: str, org: str, together: str, done: list[tuple[Path, os.stat_result]]
    ) -> Iterator[Draft]:
        """The sealed chunks of a file, one after the other, so that memory holds one however large the file is."""
        name = self._place(path)[2]
        delivery, digest, part = secrets.token_hex(12), hashlib.sha256(), 0
        before = path.stat()
        with path.open("rb") as file:
            content = file.read(CONTENT_BYTES)
            while True:
                digest.update(content)
                following = file.read(CONTENT_BYTES)
                meta = {"name": name, "group": together}
                if not following:
                    meta["sha256"] = digest.hexdigest()
                yield self._seal(meta, content, delivery, part, not following, feed, org)
                if not following:
                    break
                content, part = following, part + 1
        after = path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise _Changed
        done.append((path, after))

    def _seal(
        self, meta: dict[str, str], content: bytes, delivery: str, part: int, last: bool, feed: str, org: str
    ) -> Draft:
        return chunks.seal(
            self.chain.node,
            self.key,
            meta,
            content,
            delivery=delivery,
            part=part,
            last=last,
            feed=feed,
            org_code=org,
            framing="file",
            suffix="",
            records=content.count(b"\n"),
            at=clock.now(),
            offset=self.offset(),
        )

    def _clean(self) -> None:
        """Remove files that are spooled, and the notes of them; what cannot be removed keeps its note."""
        noted = self.chain.spool.reading().execute("SELECT * FROM taken").fetchall()
        gone = []
        for path, inode, size, mtime_ns in noted:
            try:
                state = Path(path).stat()
                if (state.st_ino, state.st_size, state.st_mtime_ns) == (inode, size, mtime_ns):
                    Path(path).unlink()
            except FileNotFoundError:
                pass
            except OSError as error:
                _log.error("edge_not_removed", reason=error.strerror)
                continue
            gone.append((path,))
        if gone:
            with self.chain.spool.writing() as db:
                db.executemany("DELETE FROM taken WHERE path = ?", gone)
        self._spooled = {Path(p) for p, *_ in noted} - {Path(p) for (p,) in gone}


def _is_whole(path: Path) -> bool:
    """Whether this is a file somebody delivered; announced counts beside it are one too, and go along."""
    name = path.name
    hidden = name.startswith((".", "~$")) or name.endswith(_NOT_YET) or name in _NEVER
    return not hidden and path.is_file()


class _Changed(Exception):
    """A file changed while it was read."""


def _note(db: Connection, done: list[tuple[Path, os.stat_result]]) -> None:
    rows = [(str(p), s.st_ino, s.st_size, s.st_mtime_ns) for p, s in done]
    db.executemany("INSERT OR REPLACE INTO taken VALUES (?, ?, ?, ?)", rows)
