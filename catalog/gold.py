"""What dbt's manifest says about gold: assets with their fields, and the lineage between assets."""

from __future__ import annotations

import re
from typing import Any

from catalog.model import FieldInfo, TableInfo
from lake.errors import MedlakeError

#: Where a Chinese or English sentence's name ends.
_NAME_END = re.compile(r"[，：；。(（]|, |: |; |\. ")


def both(description: str) -> tuple[str, str]:
    """Split ``"中文 / English"`` into its two halves; a half that is missing is empty."""
    zh, _, en = description.partition(" / ")
    return zh.strip(), en.strip()


def short(text: str) -> str:
    """The name at the head of a sentence."""
    return _NAME_END.split(text, maxsplit=1)[0].strip()


def _field(column: dict[str, Any], keys: set[str]) -> FieldInfo:
    meta = column.get("config", {}).get("meta") or column.get("meta") or {}
    zh, en = both(column.get("description", ""))
    return FieldInfo(
        name=column["name"],
        type=(column.get("data_type") or "").upper(),
        label_zh=short(zh),
        description=f"{zh} / {en}",
        level=int(meta.get("level", 2)),
        unit=str(meta.get("unit", "")),
        code_system=str(meta.get("code_system", "")),
        required=column["name"] in keys,
        is_key=column["name"] in keys,
    )


def _keys(manifest: dict[str, Any]) -> dict[str, set[str]]:
    """Columns that make a row, by model: from its ``row_key`` or ``unique_grain`` test."""
    found: dict[str, set[str]] = {}
    for node in manifest["nodes"].values():
        test = node.get("test_metadata") or {}
        about = node.get("attached_node")
        if not about:
            continue
        if test.get("name") == "row_key":
            found.setdefault(about, {node["column_name"]})
        elif test.get("name") == "unique_grain":
            found[about] = set(test["kwargs"]["columns"])
    return found


def gold_models(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The manifest's models of schema gold, by unique id."""
    return {
        uid: node
        for uid, node in manifest["nodes"].items()
        if node["resource_type"] == "model" and node["schema"] == "gold"
    }


def gold_tables(manifest: dict[str, Any]) -> dict[str, TableInfo]:
    """Every gold model as the catalogue sees it, by asset id.

    Raises:
        MedlakeError: E506, a model lacks grain, owner, product or a description in both languages.
    """
    keys = _keys(manifest)
    found: dict[str, TableInfo] = {}
    for uid, node in gold_models(manifest).items():
        meta = node["config"].get("meta", {})
        zh, en = both(node.get("description", ""))
        for what, given in {
            "grain": meta.get("grain"),
            "owner": meta.get("owner"),
            "product": meta.get("product"),
            "description (中文 / English)": zh and en,
        }.items():
            if not given:
                raise MedlakeError("E506", model=node["name"], what=what, place=node["name"])
        fields = tuple(_field(c, keys.get(uid, set())) for c in node["columns"].values())
        found[f"gold.{node['name']}"] = TableInfo(
            asset_id=f"gold.{node['name']}",
            label_zh=short(zh),
            description=node["description"],
            grain_zh=meta["grain"],
            owner=meta["owner"],
            level=max((f.level for f in fields), default=2),
            domain=meta["product"],
            national_grade="一般数据",
            feed="",
            source_standard="",
            fields=fields,
        )
    return found


def upstream(manifest: dict[str, Any]) -> dict[str, set[str]]:
    """Nearest assets that each gold model or exposure is made of; staging and intermediate are seen through."""
    parents: dict[str, list[str]] = manifest["parent_map"]
    nodes, sources = manifest["nodes"], manifest["sources"]
    gold = gold_models(manifest)

    def nearest(uid: str, seen: set[str]) -> set[str]:
        found: set[str] = set()
        for parent in parents.get(uid, []):
            if parent in seen:
                continue
            seen.add(parent)
            if parent in gold:
                found.add(f"gold.{gold[parent]['name']}")
            elif parent in sources:
                found.add(f"{sources[parent]['schema']}.{sources[parent]['name']}")
            elif parent in nodes and nodes[parent]["resource_type"] == "model":
                found |= nearest(parent, seen)
        return found

    edges = {f"gold.{node['name']}": nearest(uid, set()) for uid, node in gold.items()}
    for uid, exposure in manifest.get("exposures", {}).items():
        edges[f"exposure.{exposure['name']}"] = nearest(uid, set())
    return edges
