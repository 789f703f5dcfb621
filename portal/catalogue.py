"""The data-asset directory as published: found by name, field, label or pinyin; one asset with its neighbours.

Pinyin: full, initials or mixed, with every reading of a character (``xueya``, ``xy``, ``xuey`` and ``xieya`` all find
血压). The directory is some hundred assets with some thousand fields, kept in memory a publication: it is searched by
comparing texts, which no SQL does for readings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import products
from lake import access
from lake.access import Caller
from portal import serving
from portal import work as my_work
from portal.accounts import Person

LAYERS = {"silver": "标准层 silver", "quality": "质控 quality", "gold": "应用层 gold"}
LEVELS = (1, 2, 3, 4, 5)
ACTS = {"clear": "可见", "mask": "遮盖", "hide": "不可见"}

#: Fields of an asset that a search names; the rest is counted.
FIELDS_SHOWN = 6

#: How well a word fits, the best first: the asset's own names, its pinyin, a field, then what is said about it.
_NAME, _BEGINS, _IN_NAME, _SPELLED, _FIELD, _FIELD_SPELLED, _TEXT = range(7)

_CHINESE = re.compile(r"[㐀-鿿]")


@lru_cache(maxsize=4096)
def _readings(character: str) -> tuple[str, ...]:
    """How a character may be typed; itself when it is no Chinese one."""
    if not _CHINESE.match(character):
        return (character,)
    from pypinyin import Style, pinyin

    found = set(pinyin(character, style=Style.NORMAL, heteronym=True)[0])
    return tuple(sorted(found | {r.replace("v", "u") for r in found} | {r.replace("ü", "v") for r in found}))


def _spells(word: str, text: str, at: int) -> bool:
    """Whether a word types the characters from ``at`` on: of each its reading, the first letter, or (the last) a part."""
    if not word:
        return True
    if at >= len(text):
        return False
    for reading in _readings(text[at]):
        if reading.startswith(word):
            return True
        if word.startswith(reading) and _spells(word[len(reading) :], text, at + 1):
            return True
        if word[0] == reading[0] and _spells(word[1:], text, at + 1):
            return True
    return False


def spelled(word: str, text: str) -> bool:
    """Whether a word of Latin letters is the pinyin of a part of a Chinese text. One letter alone is not enough."""
    if len(word) < 2 or not word.isascii() or not word.isalpha() or not _CHINESE.search(text):
        return False
    return any(_spells(word, text, at) for at, c in enumerate(text) if _CHINESE.match(c))


@dataclass(frozen=True)
class _Field:
    name: str
    label_zh: str
    text: str


@dataclass(frozen=True)
class _Asset:
    row: dict[str, Any]
    text: str
    fields: tuple[_Field, ...]


@lru_cache(maxsize=2)
def _directory(_published: str) -> dict[str, _Asset]:
    """Asset id -> asset of one published file, which never changes."""
    if not serving.has("gold", "catalog_asset"):
        return {}
    by: dict[str, list[_Field]] = {}
    for f in serving.rows("FROM gold.catalog_field ORDER BY asset_id, ord"):
        text = str(f["description"] or "").casefold()
        by.setdefault(f["asset_id"], []).append(_Field(str(f["field"]), str(f["label_zh"] or ""), text))
    made = {}
    for row in serving.rows("FROM gold.catalog_asset ORDER BY layer, asset_id"):
        said = " ".join(str(row[n] or "") for n in ("name_en", "description", "owner", "domain", "grain_zh"))
        made[str(row["asset_id"])] = _Asset(row, said.casefold(), tuple(by.get(row["asset_id"], ())))
    return made


def directory() -> dict[str, _Asset]:
    """The directory as published now.

    Raises:
        MedlakeError: E608, nothing was published yet.
    """
    return _directory(str(products.serving_path().resolve()))


def _fit(asset: _Asset, word: str) -> tuple[int, list[_Field]] | None:
    """How well an asset fits a word, and the fields that do; None when nothing of it does."""
    row = asset.row
    names = [str(row["asset_id"]).casefold(), str(row["name_zh"] or "").casefold()]
    names.append(names[0].rpartition(".")[2])
    exact = [f for f in asset.fields if word in f.name.casefold() or word in f.label_zh.casefold()]
    fields = exact or [f for f in asset.fields if spelled(word, f.label_zh)]
    fields = fields or [f for f in asset.fields if word in f.text]
    ranks = []
    if word in names:
        ranks.append(_NAME)
    if any(n.startswith(word) for n in names):
        ranks.append(_BEGINS)
    if any(word in n for n in names):
        ranks.append(_IN_NAME)
    if spelled(word, names[1]):
        ranks.append(_SPELLED)
    if fields:
        ranks.append(_FIELD if exact else _FIELD_SPELLED)
    if word in asset.text:
        ranks.append(_TEXT)
    return (min(ranks), fields) if ranks else None


@lru_cache(maxsize=256)
def _found(published: str, words: tuple[str, ...], layer: str, level: int) -> tuple[dict[str, Any], ...]:
    ranked = []
    for asset in _directory(published).values():
        if (layer and asset.row["layer"] != layer) or (level and asset.row["level"] != level):
            continue
        fits = [_fit(asset, word) for word in words]
        if None in fits:
            continue
        given = [f for f in fits if f is not None]
        hits = list(dict.fromkeys(f for _, fields in given for f in fields))
        shown = {
            "hits": len(hits),
            "hit_fields": [f.name for f in hits[:FIELDS_SHOWN]],
            "hit_labels": [f.label_zh for f in hits[:FIELDS_SHOWN]],
        }
        ranked.append((sum(rank for rank, _ in given), asset.row | shown))
    return tuple(row for _, row in sorted(ranked, key=lambda x: (x[0], x[1]["layer"], x[1]["asset_id"])))


def search(q: str, layer: str = "", level: int = 0) -> list[dict[str, Any]]:
    """Assets that fit every word of a question, the best first: the columns of ``gold.catalog_asset`` with ``hits``,
    ``hit_fields`` and ``hit_labels``. All assets without a question; none before the first publication of a directory.

    Raises:
        MedlakeError: E608, nothing was published yet.
    """
    words = tuple(q.casefold()[:100].split()[:6])
    wanted = layer if layer in LAYERS else ""
    return list(
        _found(str(products.serving_path().resolve()), words, wanted, level if level in LEVELS else 0)
    )


def asset(asset_id: str) -> dict[str, Any] | None:
    """One asset with ``fields``, and ``upstream`` and ``downstream`` [{asset_id, name_zh, known}]; None: there is none.

    Raises:
        MedlakeError: E608, nothing was published yet.
    """
    known = directory()
    if asset_id not in known:
        return None
    row = known[asset_id].row
    near = {
        side: [
            {
                "asset_id": name,
                "known": name in known,
                "name_zh": known[name].row["name_zh"] if name in known else "",
            }
            for name in (row[side] or "").split(", ")
            if name
        ]
        for side in ("upstream", "downstream")
    }
    fields = serving.rows("FROM gold.catalog_field WHERE asset_id = ? ORDER BY ord", [asset_id])
    return row | near | {"fields": fields}


def acts(person: Person, found: dict[str, Any]) -> dict[str, str]:
    """Field -> how this person sees it, by the policy, in words; for the purpose that their daily work has."""
    levels = {f["field"]: int(f["level"]) for f in found["fields"]}
    mine: Caller = my_work.caller(person)
    told = access.columns(mine, found["asset_id"].replace("silver.", "silver/"), levels, levels=levels)
    return {name: ACTS[act] for name, act in told.items()}


def newest() -> Any:
    """The newest data date of any asset; what lies a week behind it is called stale."""
    return max((a.row["freshness"] for a in directory().values() if a.row["freshness"]), default=None)
