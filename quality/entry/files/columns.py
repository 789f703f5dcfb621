"""Which column of a file is which field: English name, the source's name or the Chinese label; or a mapping says so."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from lake.contracts import TableContract
from lake.errors import MedlakeError

_UNIT = re.compile(r"[(\[【][^()\[\]【】]*[)\]】]$")
_BLANK = re.compile(r"[\s*]+")


def fold(label: str) -> str:
    """A label without what does not matter: blanks, asterisks, full width, case."""
    return _BLANK.sub("", unicodedata.normalize("NFKC", label).replace("\ufeff", "")).rstrip(":").upper()


@dataclass(frozen=True)
class Columns:
    """``at``: field -> place among the file's columns; ``unknown``: labels that are no field."""

    at: Mapping[str, int]
    unknown: tuple[str, ...]


def known(table: TableContract) -> dict[str, str]:
    """Folded spelling -> field; ``org_code`` and its label name the institution of a row."""
    found: dict[str, str] = {}
    for spelling in ("name", "physical_name", "label_zh"):
        for field in table.fields:
            found.setdefault(fold(getattr(field, spelling)), field.name)
    for word in ("org_code", "机构编码", "机构代码"):
        found.setdefault(fold(word), "org_code")
    return found


def read_mapping(path: Path, table: TableContract) -> dict[str, str]:
    """``field: header`` of a YAML file.

    Raises:
        MedlakeError: E446, it is no such mapping or names no field of the table.
    """
    try:
        node = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise MedlakeError("E446", place=str(path), table=table.name, detail="YAML") from None
    if not isinstance(node, dict) or not all(isinstance(v, str | int | float) for v in node.values()):
        raise MedlakeError("E446", place=str(path), table=table.name, detail="field: header")
    fields = {f.name for f in table.fields} | {"org_code"}
    if wrong := sorted(str(k) for k in node if k not in fields):
        raise MedlakeError("E446", place=str(path), table=table.name, detail="✗ " + ", ".join(wrong[:10]))
    return {str(k): str(v) for k, v in node.items()}


def recognised(labels: Sequence[str], table: TableContract) -> int:
    """How many labels name a field."""
    names = known(table)
    return sum(fold(x) in names or fold(_UNIT.sub("", x.strip())) in names for x in labels)


def match(labels: Sequence[str], table: TableContract, mapping: Mapping[str, str], place: str) -> Columns:
    """Fields of a header.

    Raises:
        MedlakeError: E446, no label names a field, one field is named twice, or a mapped header is not there.
    """
    names = known(table)
    at: dict[str, int] = {}
    unknown: list[str] = []
    folded = [fold(x) for x in labels]
    for field, header in mapping.items():
        if folded.count(fold(header)) != 1:
            raise MedlakeError(
                "E446",
                place=place,
                table=table.name,
                detail=f"{field}: {header} ×{folded.count(fold(header))}",
            )
        at[field] = folded.index(fold(header))
    taken = set(at.values())
    for number, label in enumerate(labels):
        if number in taken:
            continue
        field = names.get(folded[number]) or names.get(fold(_UNIT.sub("", label.strip())), "")
        if not field or field in mapping:
            unknown.append(label.strip())
        elif field in at:
            raise MedlakeError("E446", place=place, table=table.name, detail=f"{field} ×2 ({label.strip()})")
        else:
            at[field] = number
    if not set(at) - {"org_code"}:
        raise MedlakeError("E446", place=place, table=table.name, detail="✗ " + ", ".join(unknown[:10]))
    return Columns(at, tuple(unknown))
