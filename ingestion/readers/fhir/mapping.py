"""Which resources fill which tables: ``mapping.yaml`` compiled to one query per entry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ingestion.conform import quoted
from ingestion.readers.fhir.expressions import Compiler, Word, place_of, text
from lake.contracts import TableContract, table_contract

FILE = Path(__file__).with_name("mapping.yaml")


@dataclass(frozen=True)
class Mapping:
    """One entry of the file. ``each`` is a list within the resource whose elements are the rows; ``linked`` entries
    know the report that lists an observation."""

    table: str
    resource: str
    fields: dict[str, Word]
    where: tuple[dict[str, Any], ...] = ()
    each: str = ""
    linked: bool = False

    @property
    def is_stable(self) -> bool:
        """Whether a resource always fills the same row, so that a new version of it leaves none behind."""
        keys = table_contract(self.table).key
        return not self.where and not self.each and all(self.fields.get(k) == "id" for k in keys)

    def places(self) -> dict[str, str]:
        """``table.field`` -> the element it is read from."""
        prefix = f"{self.resource}.{self.each[2:]}." if self.each else f"{self.resource}."
        return {
            f"{self.table}.{name}": (prefix if _reads_item(word) else f"{self.resource}.") + place_of(word)
            for name, word in self.fields.items()
        }


def _reads_item(word: Word) -> bool:
    return word.startswith("@") if isinstance(word, str) else "'@" in str(word)


def load(path: Path = FILE) -> list[Mapping]:
    """The entries of a mapping file, in its order."""
    node = yaml.safe_load(path.read_text("utf-8"))
    return [
        Mapping(
            m["table"],
            m["resource"],
            m["fields"],
            tuple(m.get("where", ())),
            m.get("each", ""),
            bool(m.get("linked")),
        )
        for m in node["mappings"]
    ]


def _contract(name: str) -> TableContract | None:
    try:
        return table_contract(name)
    except KeyError:
        return None


@lru_cache(maxsize=1)
def mappings() -> list[Mapping]:
    """Entries whose table some contract has."""
    return [m for m in load() if _contract(m.table)]


@lru_cache(maxsize=1)
def mapped_types() -> frozenset[str]:
    """Resource types that fill any table."""
    return frozenset(m.resource for m in mappings())


def query(mapping: Mapping, source: str, links: str) -> str:
    """SQL that gives the rows of one entry: the contract's columns as text, the place, ``_extra``.

    Args:
        source: relation of resources of the entry's type: ``file_no, source_line, org_code, resource_type,
            resource_id, updated, content``.
        links: relation with ``org_code, resource_id, report_id, position``.
    """
    compiler = Compiler(bool(mapping.each))
    names = [f.name for f in table_contract(mapping.table).fields if f.name in mapping.fields]
    values = [f"{compiler.word(mapping.fields[n])} AS {quoted(n)}" for n in names]
    early = [compiler.condition(t) for t in mapping.where if "any" in t or "none" in t]
    late = [compiler.condition(t) for t in mapping.where if not ("any" in t or "none" in t)]
    # all words are compiled by now: the scopes know what to take out of the JSON
    whole = ", ".join(["*", *compiler.whole.columns()])
    inner = f"SELECT {whole} FROM {source}" + (f" WHERE {' AND '.join(early)}" if early else "")
    if mapping.linked:
        inner = f"""SELECT w.*, link.report_id, link.position FROM ({inner}) w
            LEFT JOIN {links} link USING (org_code, resource_id)"""
    if mapping.each and compiler.item is not None:
        path = mapping.each + "[*]"
        inner = f"""SELECT *, unnest(json_extract(content, {text(path)})) AS item,
            generate_subscripts(json_extract(content, {text(path)}), 1) AS ordinal FROM ({inner})"""
        inner = f"SELECT {', '.join(['*', *compiler.item.columns()])} FROM ({inner})"
    where = f" WHERE {' AND '.join(late)}" if late else ""
    extra = "CAST(json_object('fhir', resource_type || '/' || resource_id) AS VARCHAR) AS _extra"
    return f"SELECT file_no, source_line, org_code, {extra}, {', '.join(values)} FROM ({inner}){where}"
