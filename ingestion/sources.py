"""What is delivered: files below a drop folder or given by path, each with the institution its path names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from lake import registry
from lake.errors import MedlakeError
from lake.settings import settings

#: Endings of what tells about the file beside it (``ingestion.announced``).
SIDECARS = (".manifest.json", ".manifest.csv")

#: Not deliveries: uploads under way, office locks, what file managers leave behind.
_IGNORED_ENDS = (".tmp", ".part", ".partial", ".filepart", ".crdownload")
_IGNORED_NAMES = ("Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class SourceFile:
    """One delivered file; ``name`` is its path below the institution's folder, ``org_code`` may be empty."""

    path: Path
    name: str
    org_code: str

    @property
    def origin(self) -> str:
        return str(self.path)


def is_sidecar(path: Path) -> bool:
    """Whether a file only tells about another one that lies beside it."""
    name = path.name
    return any(name.endswith(s) and path.with_name(name[: -len(s)]).exists() for s in SIDECARS)


def _is_delivery(path: Path) -> bool:
    name = path.name
    return (
        not (name.startswith((".", "~$")) or name.endswith(_IGNORED_ENDS) or name in _IGNORED_NAMES)
        and path.is_file()
        and not is_sidecar(path)
    )


def _below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if _is_delivery(p))


def in_drop(feed: str, data_date: date) -> list[SourceFile]:
    """All files of ``<sources>/<date>/<feed>/<org>/...``; none when there is no such folder."""
    root = settings().sources_dir / data_date.isoformat() / feed
    if not root.is_dir():
        return []
    found = []
    for path in _below(root):
        parts = path.relative_to(root).parts
        org, name = (parts[0], "/".join(parts[1:])) if len(parts) > 1 else ("", parts[0])
        found.append(SourceFile(path, name, org))
    return found


def _org_in(path: Path) -> str:
    """The last folder of a path that is an institution's code."""
    known = registry.org_codes()
    return next((p for p in reversed(path.parts[:-1]) if p in known), "")


def at_paths(paths: Iterable[Path], org_code: str | None) -> list[SourceFile]:
    """Files and the files below folders. A folder named like an institution wins over ``org_code``.

    Raises:
        MedlakeError: E201, a path does not exist; E202, it may not be read.
    """
    found: list[SourceFile] = []
    for given in paths:
        path = Path(given).absolute()
        if not path.exists():
            raise MedlakeError("E201", place=str(given))
        try:
            inside = _below(path) if path.is_dir() else [path]
        except PermissionError as error:
            raise MedlakeError("E202", place=str(given), detail="PermissionError") from error
        for file in inside:
            name = str(file.relative_to(path)) if path.is_dir() else file.name
            org = _org_in(file)
            name = name.split(f"{org}/", 1)[-1] if org else name
            found.append(SourceFile(file, name, org or org_code or ""))
    return found
