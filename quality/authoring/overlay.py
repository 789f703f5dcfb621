"""What this installation changed: ``home/quality/rules``, laid over the shipped rules whenever the book is read.

``book.json`` names per rule the version that holds and whether it is retired; ``published/<rule>.v<version>.yaml`` are
domain files with one rule each and stay as they were written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lake.errors import MedlakeError
from lake.settings import settings

_BOOK = "book.json"


def folder() -> Path:
    return settings().home / "quality" / "rules"


def stamp() -> tuple[str, int]:
    """Where the overlay lies and when it changed; ``("", 0)`` while there is none."""
    try:
        return str(folder()), (folder() / _BOOK).stat().st_mtime_ns
    except OSError:
        return "", 0


def held() -> dict[str, dict[str, Any]]:
    """Rule -> ``{"version", "state": active | retired, "file"}`` of the rules that this installation changed.

    Raises:
        MedlakeError: E447, the register cannot be read.
    """
    path = folder() / _BOOK
    if not path.is_file():
        return {}
    try:
        found: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise MedlakeError("E447", place=str(path), detail=type(error).__name__) from error
    return found


def read_yaml(text: str, place: str) -> Any:
    """YAML where a date stays text.

    Raises:
        MedlakeError: E447, it is not YAML.
    """
    from quality.rule import Loader

    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f":{where.line + 1}" if where else ""
        raise MedlakeError(
            "E447", place=f"{place}{line}", detail=getattr(error, "problem", None) or "YAML"
        ) from error


def lay(nodes: Mapping[str, Any], rule_id: str, file: Mapping[str, Any] | None) -> dict[str, Any]:
    """Domain files with one rule replaced, added, or (``file`` None) taken out. The given ones stay as they are."""
    found = dict(nodes)
    for name, node in nodes.items():
        rules = [r for r in node["rules"] if r["id"] != rule_id]
        if not rules:
            del found[name]
        elif len(rules) < len(node["rules"]):
            found[name] = {**node, "rules": rules}
    if file is None:
        return found
    home = next((n for n, node in found.items() if node["domain"] == file["domain"]), None)
    if home is None:
        name = f"{str(file['domain']).lower()}.yaml"
        found[name] = {k: v for k, v in file.items() if k != "defaults"}
        return found
    node = found[home]
    rules, queries = [*node["rules"], *file["rules"]], {**node.get("queries", {}), **file.get("queries", {})}
    found[home] = {**node, "rules": rules, "queries": queries}
    return found


def applied(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """The shipped domain files with this installation's rules laid over them.

    Raises:
        MedlakeError: E447, a published file is missing or is no YAML.
    """
    found = dict(nodes)
    for rule_id, entry in sorted(held().items()):
        file = None
        if entry["state"] == "active":
            path = folder() / "published" / entry["file"]
            try:
                file = read_yaml(path.read_text("utf-8"), path.name)
            except OSError as error:
                raise MedlakeError("E447", place=path.name, detail=type(error).__name__) from error
        found = lay(found, rule_id, file)
    return found


def write(path: Path, text: str) -> None:
    """Put a file in place as a whole, readable by the service account alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def hold(rule_id: str, version: int, state: str, file: str) -> None:
    """Let a version of a rule hold from now on (``book.json``)."""
    entries = held() | {rule_id: {"version": version, "state": state, "file": file}}
    write(folder() / _BOOK, json.dumps(entries, ensure_ascii=False, indent=1, sort_keys=True))
