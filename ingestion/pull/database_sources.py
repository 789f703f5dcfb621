"""The register of source databases: ``home/secrets/sources.yaml``, key ``databases`` (docs/sources.example.yaml).

It holds where a source is, whose it is, and which of its relations is which table of a contract. Passwords stand
in files beside it; neither the register nor a password file may be readable by others than its owner.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from lake import registry
from lake.contracts import TableContract, contract
from lake.errors import MedlakeError
from lake.settings import settings

_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
_SOURCE_KEYS = {
    "name",
    "url",
    "password_file",
    "feed",
    "org_code",
    "time_zone",
    "query_timeout_seconds",
    "tables",
}
_TABLE_KEYS = {"table", "relation", "columns", "watermark", "overlap", "chunk_rows", "max_delete_share"}


@dataclass(frozen=True)
class Extract:
    """One relation of a source and the table it fills.

    ``columns`` maps a field (its name or its source name) to the relation's column where they differ. ``overlap``:
    seconds, or units of a numeric watermark, that a row may be committed later than its watermark says.
    ``max_delete_share``: a snapshot that lacks a larger share of the known rows is refused.
    """

    table: TableContract
    relation: str
    columns: dict[str, str] = field(default_factory=dict)
    watermark: str | None = None
    overlap: float = 600
    chunk_rows: int = 100_000
    max_delete_share: float = 0.2


@dataclass(frozen=True)
class Source:
    """One database of one institution. ``time_zone``: of date-times that carry none."""

    name: str
    url: URL
    org_code: str
    feed: str
    time_zone: str
    query_timeout_seconds: int
    extracts: tuple[Extract, ...]

    @property
    def kind(self) -> str:
        """``postgresql``, ``mysql`` (MariaDB too) or what else SQLAlchemy knows."""
        return self.url.get_backend_name()

    def extract(self, table: str) -> Extract:
        for found in self.extracts:
            if found.table.name == table:
                return found
        raise MedlakeError("E274", place=self.name, detail=f"table {table}")


def path() -> Path:
    return settings().secrets_dir / "sources.yaml"


def _refuse(place: str, detail: str) -> MedlakeError:
    return MedlakeError("E274", place=place, detail=detail)


def _private(file: Path) -> None:
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise _refuse(file.name, "mode must be 0600")


def _extract(feed: str, node: dict[str, Any], place: str) -> Extract:
    if unknown := set(node) - _TABLE_KEYS:
        raise _refuse(place, f"unknown keys {sorted(unknown)}")
    table = contract(feed).tables.get(str(node.get("table")))
    if table is None:
        raise _refuse(place, f"table {node.get('table')} is not in the contract of feed {feed}")
    names = {n for f in table.fields for n in (f.name, f.physical_name)}
    columns = {str(k): str(v) for k, v in (node.get("columns") or {}).items()}
    if strange := set(columns) - names:
        raise _refuse(f"{place}.{table.name}", f"columns {sorted(strange)} are no fields of the contract")
    made = Extract(
        table=table,
        relation=str(node.get("relation") or table.name),
        columns=columns,
        watermark=node.get("watermark"),
        overlap=float(node.get("overlap", Extract.overlap)),
        chunk_rows=int(node.get("chunk_rows", Extract.chunk_rows)),
        max_delete_share=float(node.get("max_delete_share", Extract.max_delete_share)),
    )
    if made.overlap < 0 or made.chunk_rows < 1 or not 0 <= made.max_delete_share <= 1:
        raise _refuse(f"{place}.{table.name}", "overlap, chunk_rows or max_delete_share out of range")
    return made


def _url(node: dict[str, Any], folder: Path, place: str) -> URL:
    try:
        url = make_url(str(node["url"]))
    except (KeyError, ArgumentError):  # SQLAlchemy's text would quote the URL
        raise _refuse(place, "url") from None
    if file := node.get("password_file"):
        held = folder / str(file)
        if not held.is_file():
            raise _refuse(place, "password_file does not exist")
        _private(held)
        url = url.set(password=held.read_text("utf-8").rstrip("\r\n"))
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


def _source(node: dict[str, Any], folder: Path) -> Source:
    place = str(node.get("name", "?"))
    if unknown := set(node) - _SOURCE_KEYS:
        raise _refuse(place, f"unknown keys {sorted(unknown)}")
    if not place.replace("-", "").replace("_", "").isalnum() or not place.isascii():
        raise _refuse(place, "name: letters, digits, - and _ only")
    if node.get("org_code") not in registry.org_codes():
        raise _refuse(place, "org_code is no institution")
    feed, zone = str(node.get("feed")), str(node.get("time_zone", "Asia/Shanghai"))
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError):
        raise _refuse(place, "time_zone") from None
    return Source(
        name=place,
        url=_url(node, folder, place),
        org_code=str(node["org_code"]),
        feed=feed,
        time_zone=zone,
        query_timeout_seconds=int(node.get("query_timeout_seconds", 600)),
        extracts=tuple(_extract(feed, t, place) for t in node.get("tables") or ()),
    )


def load() -> list[Source]:
    """All source databases; none when there is no register.

    Raises:
        MedlakeError: E274, the register is wrong or readable by others; E102, no such feed.
    """
    register = path()
    if not register.is_file():
        return []
    _private(register)
    try:
        node = yaml.safe_load(register.read_text("utf-8")) or {}
        found = [_source(dict(n), register.parent) for n in node.get("databases") or ()]
    except (yaml.YAMLError, TypeError, ValueError, AttributeError) as error:
        raise _refuse(register.name, type(error).__name__) from None
    names = [s.name for s in found]
    if len(set(names)) != len(names):
        raise _refuse(register.name, "a name is given twice")
    return found


def source(name: str) -> Source:
    """One source by its name.

    Raises:
        MedlakeError: E274, there is none.
    """
    for found in load():
        if found.name == name:
            return found
    raise _refuse(path().name, f"no source {name}")
