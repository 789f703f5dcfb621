"""What a delivery says about itself: the manifest of a bulk ``$export`` and the ``$import`` request of a drop folder.

Bulk Data Access IG 2.0: ``output[]``, ``deleted[]`` and ``error[]`` name files with a type and a count. An ``$import``
request (Parameters, or plain JSON) names ``input[]``. An address is only ever a name of a file beside the manifest:
nothing is fetched, and no path leads out of the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

_MAX_BYTES = 16 * 1024 * 1024
_FORMATS = ("application/fhir+ndjson", "application/ndjson", "ndjson")
Role = Literal["output", "deleted", "error"]


@dataclass(frozen=True)
class Listed:
    """One file that a manifest names; ``count`` where it announces one."""

    name: str
    resource_type: str
    count: int | None
    role: Role


@dataclass
class Manifest:
    """A manifest's files by name, and what is wrong with the manifest itself."""

    files: dict[str, Listed] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def check(self, folder: Path) -> list[str]:
        """The manifest's own problems and the files that are not there."""
        missing = [f"{n} is missing" for n in self.files if not (folder / n).is_file()]
        return self.problems + missing


def _name(url: Any, *, is_import: bool) -> str | None:
    """The file an address means, or None for one that cannot be meant.

    An export's address is on the server that wrote it and its last part is the file's name; an import's is a name
    beside the manifest.
    """
    if not isinstance(url, str):
        return None
    parts = urlsplit(url)
    if is_import and (parts.scheme or parts.netloc or "/" in unquote(parts.path).removeprefix("./")):
        return None
    name = unquote(parts.path).rsplit("/", 1)[-1]
    return name if name and name not in (".", "..") and not set(name) & set("/\\\0") else None


def _entries(node: dict[str, Any]) -> Iterator[tuple[Role, dict[str, Any]]]:
    roles: tuple[Role, ...] = ("output", "deleted", "error")
    for role in roles:
        for entry in node.get(role) or ():
            yield role, entry if isinstance(entry, dict) else {}


def _export(node: dict[str, Any]) -> Manifest:
    found = Manifest()
    for role, entry in _entries(node):
        name = _name(entry.get("url"), is_import=False)
        count = entry.get("count")
        _add(found, name, entry, count if isinstance(count, int) else None, role)
    return found


def _add(found: Manifest, name: str | None, entry: dict[str, Any], count: int | None, role: Role) -> None:
    if name is None:
        found.problems.append("an address is not the name of a file beside the manifest")
    elif name in found.files:
        found.problems.append(f"{name} is named twice")
    else:
        found.files[name] = Listed(name, str(entry.get("type", "")), count, role)


def _value(parameter: dict[str, Any]) -> Any:
    return next((v for k, v in parameter.items() if k.startswith("value")), None)


def _import(node: dict[str, Any]) -> Manifest:
    found = Manifest()
    if node.get("resourceType") == "Parameters":
        parameters = [p for p in node.get("parameter") or () if isinstance(p, dict)]
        kind = next((_value(p) for p in parameters if p.get("name") == "inputFormat"), None)
        inputs = [
            {str(part.get("name")): _value(part) for part in p.get("part") or () if isinstance(part, dict)}
            for p in parameters
            if p.get("name") == "input"
        ]
    else:
        kind = node.get("inputFormat")
        inputs = [i for i in node.get("input") or () if isinstance(i, dict)]
    if kind not in _FORMATS:
        found.problems.append(f"inputFormat is not {_FORMATS[0]}")
    for entry in inputs:
        _add(found, _name(entry.get("url"), is_import=True), entry, None, "output")
    return found


def parse(path: Path) -> Manifest | None:
    """The manifest in a file; None when the file is none.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix.lower() != ".json" or path.stat().st_size > _MAX_BYTES:
        return None
    data = path.read_bytes()
    if not any(word in data for word in (b'"transactionTime"', b'"inputFormat"')):
        return None
    try:
        node = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(node, dict):
        return None
    if "transactionTime" in node and "output" in node:
        return _export(node)
    is_parameters = node.get("resourceType") == "Parameters" and b'"inputFormat"' in data
    return _import(node) if is_parameters or ("inputFormat" in node and "resourceType" not in node) else None


def beside(folder: Path) -> tuple[Path, Manifest] | None:
    """The manifest that lies in a folder (the first by name), and its path."""
    for path in sorted(folder.glob("*.json")):
        try:
            found = parse(path)
        except OSError:
            continue
        if found is not None:
            return path, found
    return None
