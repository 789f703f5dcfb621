"""Makes a finished serving file the published one: a name of its own, then one symlink renamed over another.

At every instant the link points at a whole, audited file. A process killed anywhere leaves at most files that
``clean`` knows: a draft, a draft's write-ahead log, a link's draft, or a named file that was never linked.
"""

from __future__ import annotations

import os
from pathlib import Path

from lake.kill import point
from lake.settings import settings
from products.paths import published_path, serving_link

#: The file being written; not a name that anybody serves.
DRAFT = ".serving.draft.duckdb"
_LINK_DRAFT = ".serving.link"


def _sync_dir(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _named() -> list[Path]:
    """All serving files with a final name, oldest first."""
    found = [p for p in settings().serving_dir.glob("serving_*.duckdb") if not p.is_symlink()]
    return sorted(found, key=lambda p: (p.stat().st_mtime_ns, p.name))


def clean() -> int:
    """Remove what a killed publication left behind; returns how many files. The caller holds the lock.

    A named file that is newer than the published one was finished but never linked: nobody has seen it.
    """
    directory = settings().serving_dir
    left = [p for name in (DRAFT, DRAFT + ".wal", _LINK_DRAFT) if os.path.lexists(p := directory / name)]
    current = published_path()
    newest = current.stat().st_mtime_ns if current else -1
    left += [p for p in _named() if p != current and p.stat().st_mtime_ns > newest]
    for path in left:
        path.unlink()
    return len(left)


def _free_name(run_id: str) -> Path:
    """``serving_<run_id>.duckdb``, or with a number if this run was published before."""
    directory = settings().serving_dir
    path, number = directory / f"serving_{run_id}.duckdb", 1
    while path.exists():
        number += 1
        path = directory / f"serving_{run_id}_{number}.duckdb"
    return path


def swap(run_id: str) -> Path:
    """Give the audited draft its name and let the link point at it; returns the file that is published now."""
    directory = settings().serving_dir
    target = _free_name(run_id)
    _sync_file(directory / DRAFT)
    (directory / DRAFT).replace(target)
    _sync_dir(directory)
    point("publish.named")
    link_draft = directory / _LINK_DRAFT
    link_draft.symlink_to(target.name)  # relative: the folder can be moved as a whole
    point("publish.link_drafted")
    link_draft.replace(serving_link())
    _sync_dir(directory)
    return target


def prune() -> int:
    """Keep the published file and ``settings.serving_keep`` older ones; returns how many went."""
    current = published_path()
    older = [p for p in _named() if p != current]
    gone = older[: max(0, len(older) - settings().serving_keep)]
    for path in gone:
        path.unlink()
    return len(gone)
