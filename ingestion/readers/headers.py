"""Which column is which: header cells matched to the contract by source name, English name, Chinese label or synonym.

A header may stand on several rows: 血压 over 收缩压 and 舒张压 is one label a column, 血压/收缩压. It may declare a unit,
体重(斤), and it may come twice side by side: two blocks of records on the same rows.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from ingestion import reviewed, units
from ingestion.readers import layout
from lake.contracts import TableContract

#: A header must lie within the first rows; titles and notes come before it.
HEADER_ROWS = 20
#: Rows that one header may take.
_DEPTH = 4

_BRACKET = re.compile(r"[(\[【〔]([^()\[\]【】〔〕]*)[)\]】〕]$")
_BLANK = re.compile(r"[\s\u3000\u00a0\ufeff*]+")
_SYNONYMS = Path(__file__).parent / "synonyms.csv"

#: A column's labels from top to bottom.
Labels = tuple[str, ...]


def fold(text: str) -> str:
    """A label without what does not matter: blanks, line breaks, asterisks, full width, case, a colon at its end."""
    return _BLANK.sub("", unicodedata.normalize("NFKC", text)).rstrip(":").upper()


@lru_cache(maxsize=256)
def _known(table: TableContract, _stamp: tuple[str, int, int]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for spelling in ("physical_name", "name", "label_zh"):
        for f in table.fields:
            found.setdefault(fold(getattr(f, spelling)), f.name)
    present = {f.name for f in table.fields}
    for row in (*reviewed.read(_SYNONYMS), *reviewed.overlay("header_synonym")):
        here = row["feed"] in ("", table.feed) and row["table"] in ("", table.name)
        if here and row["field"] in present:
            found.setdefault(fold(row["header"]), row["field"])
    return found


def names(table: TableContract) -> Mapping[str, str]:
    """Folded spelling -> English name. The source's name wins over the English one, the label, learned synonyms."""
    return _known(table, reviewed.stamp("header_synonym"))


@dataclass(frozen=True)
class Header:
    """Position of each contract field in a file, and the columns that the contract does not know.

    ``row`` is the index of the header's last row among the rows looked at. ``units`` holds the folded spelling of a
    unit that a column declares and that is not the contract's; ``doubts`` what to tell about units (context of E227).
    ``blocks`` are further headers on the same rows, to the right. ``depth`` is the number of its rows, ``recognised`` of
    columns whose label is known, be it ambiguous.
    """

    row: int
    width: int
    fields: dict[str, int]
    unknown: dict[str, int]
    depth: int = 1
    units: dict[str, str] = field(default_factory=dict)
    doubts: tuple[dict[str, str], ...] = ()
    recognised: int = 0
    blocks: tuple[Header, ...] = ()

    def missing(self, table: TableContract) -> list[str]:
        return [f.physical_name for f in table.fields if f.name not in self.fields]


def _split_unit(label: str) -> tuple[str, str]:
    """(label, what stands in brackets at its end)."""
    found = _BRACKET.search(label)
    return (label[: found.start()], found.group(1)) if found else (label, "")


def _lookup(label: str, known: Mapping[str, str]) -> tuple[str | None, str]:
    """The field of a folded label, and the unit that it declares: in brackets, or written right behind."""
    if label in known:
        return known[label], ""
    base, given = _split_unit(label)
    if base in known:
        return known[base], given
    for cut in range(len(label) - 1, 1, -1):  # 体重KG, 收缩压MMHG
        if label[:cut] in known and units.unit_of(label[cut:].lstrip("/,")):
            return known[label[:cut]], label[cut:].lstrip("/,")
    return None, ""


@dataclass(frozen=True)
class _Match:
    name: str | None
    unit: str = ""


def _of_path(path: Labels, known: Mapping[str, str], unique: bool) -> _Match:
    """A column's field by its labels from top to bottom: all of them, fewer, at last the lowest alone."""
    if not path:
        return _Match(None)
    above = next((u for u in (_split_unit(p)[1] for p in reversed(path[:-1])) if units.unit_of(u)), "")
    plain = tuple(_split_unit(p)[0] for p in path[:-1])
    for start in range(len(path)):
        if start == len(path) - 1 and not unique:
            break
        for joined in ("".join((*plain[start:], path[-1])), "/".join((*plain[start:], path[-1]))):
            name, unit = _lookup(joined, known)
            if name:
                return _Match(name, unit or above)
    if len(path) > 1 and units.unit_of(_split_unit(path[-1])[0] or _split_unit(path[-1])[1]):
        found = _of_path(path[:-1], known, True)  # the lowest row holds units
        return replace(found, unit=found.unit or _split_unit(path[-1])[0] or _split_unit(path[-1])[1])
    return _Match(None)


def _paths(rows: Sequence[Sequence[str]]) -> list[Labels]:
    """Each column's labels from top to bottom; a group's label counts for the columns to its right that it spans."""
    width = max((len(r) for r in rows), default=0)
    cells = [[fold(c) for c in row] + [""] * (width - len(row)) for row in rows]
    for upper, lower in itertools.pairwise(cells):
        for i in range(1, width):
            if not upper[i] and lower[i] and upper[i - 1] and lower[i - 1]:
                upper[i] = upper[i - 1]
    paths: list[Labels] = []
    for column in zip(*cells, strict=True):
        path: list[str] = []
        for label in column:
            if label and label not in path[-1:]:
                path.append(label)
        paths.append(tuple(path))
    return paths


def _judged(
    table: TableContract, name: str, given: str, label: str
) -> tuple[bool, str, dict[str, str] | None]:
    """What a declared unit means for a field: (whether the column may be read, spelling to convert from, what to tell)."""
    contract_field = table.field(name)
    wanted = units.unit_of(contract_field.unit) if contract_field.unit else None
    if not given or wanted is None or given in layout.not_units():
        return True, "", None
    told = {"column": label, "given": given.lower(), "wanted": contract_field.unit}
    found = units.unit_of(given)
    if found is None:
        text = {
            "what_zh": "该写法未登记，按契约单位读取",
            "what_en": "not a registered unit, read as the contract's",
        }
        return True, "", told | text
    how = units.conversion(found, wanted, units.analyte_of_field(name))
    if how is None:
        text = {
            "what_zh": "量纲不同，该列未采用",
            "what_en": "it measures something else, the column was not taken",
        }
        return False, "", told | text
    if how.scale == 1 and how.offset == 0:
        return True, "", None
    return True, units.fold(given), told | {"what_zh": "已按此换算", "what_en": "values were converted"}


def _assigned(
    table: TableContract, paths: list[Labels], matches: list[_Match], row: int, depth: int
) -> Header:
    fields: dict[str, int] = {}
    unknown: dict[str, int] = {}
    declared: dict[str, str] = {}
    doubts: list[dict[str, str]] = []
    for position, (path, found) in enumerate(zip(paths, matches, strict=True)):
        if not path:
            continue
        label = "/".join(path)
        name = found.name if found.name not in fields else None
        if name is not None:
            taken, spelled, told = _judged(table, name, found.unit, label)
            if told:
                doubts.append(told)
            if taken:
                fields[name] = position
                if spelled:
                    declared[name] = spelled
                continue
        unknown[label if label not in unknown else f"{label}#{position + 1}"] = position
    return Header(row, len(paths), fields, unknown, depth, declared, tuple(doubts))


def _block_starts(matches: list[_Match]) -> list[int]:
    """Where the header begins again: at the first field's next occurrence, if most of its fields follow again."""
    named = [(i, m.name) for i, m in enumerate(matches) if m.name]
    if not named:
        return []
    starts = [i for i, name in named if name == named[0][1]]
    if len(starts) < 2:
        return []
    first = {name for i, name in named if i < starts[1]}
    ends = [*starts[1:], len(matches)]
    again = [{name for i, name in named if a <= i < b} for a, b in zip(starts, ends, strict=True)]
    return (
        starts if len(first) >= 2 and all(len(first & other) >= 0.6 * len(first) for other in again) else []
    )


def match(
    rows: Sequence[Sequence[str]], table: TableContract, row: int, labels: Sequence[Sequence[str]]
) -> Header:
    """Match some rows of cells as one header. A repeated name counts once, unless the whole header is repeated.

    Args:
        row: index of the last of the rows.
        labels: the cells as written, for what is told.
    """
    known = names(table)
    paths = _paths(rows)
    lowest = Counter(p[-1] for p in paths if p)
    grouped = len(rows) > 1
    matches = [
        _of_path(p, known, not grouped or lowest[p[-1]] == 1 or len(p) == 1) if p else _Match(None)
        for p in paths
    ]
    recognised = sum(1 for p in paths if p and _lookup(p[-1], known)[0])
    written = _written(paths, labels)
    starts = _block_starts(matches)
    if not starts:
        return replace(_assigned(table, written, matches, row, len(rows)), recognised=recognised)
    bounds = [0, *starts[1:], len(paths)]
    blocks = []
    for a, b in itertools.pairwise(bounds):
        part = [p if a <= i < b else () for i, p in enumerate(written)]
        blocks.append(_assigned(table, part, matches, row, len(rows)))
    return replace(blocks[0], blocks=tuple(blocks[1:]), recognised=recognised)


def _written(paths: list[Labels], labels: Sequence[Sequence[str]]) -> list[Labels]:
    """The paths with labels as written instead of folded, where a column has one label only."""
    found: list[Labels] = []
    for position, path in enumerate(paths):
        cells = [r[position].strip() for r in labels if position < len(r) and r[position].strip()]
        found.append((cells[0],) if len(path) == 1 and len(cells) == 1 else path)
    return found


def _is_header_row(cells: Sequence[str], table: TableContract, least: float) -> bool:
    known = names(table)
    filled = [fold(c) for c in cells if fold(c)]
    hits = sum(1 for c in filled if _lookup(c, known)[0])
    return bool(filled) and hits >= max(2, least) and hits >= 0.8 * len(filled)


def _is_unit_row(cells: Sequence[str], head: Header, table: TableContract) -> bool:
    """Whether every filled cell is a unit that the field above it may come in."""
    fields = {p: table.field(n) for h in (head, *head.blocks) for n, p in h.fields.items()}
    filled = {i: fold(c) for i, c in enumerate(cells) if fold(c)}
    for position, text in filled.items():
        f, given = fields.get(position), units.unit_of(_split_unit(text)[1] or text)
        wanted = units.unit_of(f.unit) if f and f.unit else None
        if (
            f is None
            or given is None
            or wanted is None
            or not units.conversion(given, wanted, units.analyte_of_field(f.name))
        ):
            return False
    return bool(filled)


def _rank(head: Header, table: TableContract) -> tuple[int, int, int, int]:
    """Keys named, fields named, columns that name some field at all, fewer rows."""
    blocks = (head, *head.blocks)
    keys = sum(1 for k in table.key if k in head.fields)
    return keys, sum(len(b.fields) for b in blocks), head.recognised, -head.depth


def _whole(rows: Sequence[Sequence[str]], table: TableContract) -> Header | None:
    """The first row, where it names all keys and a field in every column, and no row is wider: no other can name more.

    So begins what systems export; the rows below, and pairs of rows, need not be tried one by one.
    """
    if not rows or not rows[0] or any(len(row) > len(rows[0]) for row in rows):
        return None
    head = match(rows[:1], table, 0, rows[:1])
    width = len(rows[0])
    if head.blocks or len(head.fields) < max(2, width) or any(k not in head.fields for k in table.key):
        return None
    if len(rows) > 1 and (_is_unit_row(rows[1], head, table) or _is_header_row(rows[1], table, 0.8 * width)):
        return None
    return head


def find(rows: Sequence[Sequence[str]], table: TableContract) -> Header | None:
    """The header among the first rows: the one that names most keys and fields, at least two (or all, if fewer).

    Of equal ones the one with fewer rows, then the upper one. A table may have a second header further down, with
    more fields even: the first that names most of what it does is the one to begin with. A row of units and a second
    row of names right below belong to the header.
    """
    rows = rows[:HEADER_ROWS]
    if whole := _whole(rows, table):
        return whole
    found = [
        match(rows[row : row + depth], table, row + depth - 1, rows[row : row + depth])
        for row in range(len(rows))
        for depth in range(1, min(_DEPTH, len(rows) - row) + 1)
    ]
    best = max(found, key=lambda h: (_rank(h, table), -h.row), default=None)
    if best is None or len(best.fields) < min(2, len(table.fields)):
        return None
    least = max(2, 0.6 * len(best.fields))
    earlier = [
        h
        for h in found
        if h.row <= best.row - best.depth
        and len(h.fields) >= least
        and _rank(h, table)[0] >= _rank(best, table)[0]
    ]
    if earlier:
        end = best.row - best.depth
        best = max(earlier, key=lambda h: (-h.row, _rank(h, table)))
        around = [
            h for h in found if h.row - h.depth < best.row <= h.row <= end
        ]  # the same place, more rows of it
        best = max(around, key=lambda h: (_rank(h, table), -h.row))
    below, top = best.row + 1, best.row - best.depth + 1
    if below < len(rows) and _is_unit_row(rows[below], best, table):
        part = rows[top : below + 1]
        return match(part, table, below, part)
    if below < len(rows) and _is_header_row(rows[below], table, 0.8 * len(best.fields)):
        other = match(rows[below : below + 1], table, below, rows[below : below + 1])
        return other if len(other.fields) > len(best.fields) else replace(best, row=below)
    return best
