"""dbt's sources, written from the contracts: ``python -m catalog.dbt_sources`` (``--check`` compares only).

The file is committed, so a reader of the SQL sees the columns; a test says that it is in step.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from catalog.model import TableInfo, source_tables
from lake.settings import PROJECT_ROOT

SOURCES = PROJECT_ROOT / "dbt" / "models" / "sources.yml"
_HEADER = "# Written by `python -m catalog.dbt_sources` from the contracts and catalog/derived_tables.yaml.\n"
_SCHEMAS = {
    "silver": "Current state of every feed, typed and keyed, at the run's pinned versions / 各数据源当前状态",
    "quality": "What the rules found / 质控结果",
}
#: The ledger's deliveries, which products/build.py writes into the candidate file for late-delivery alerts.
_OPS = {
    "name": "ops",
    "description": "The run's own books / 运行台账",
    "schema": "ops",
    "tables": [
        {
            "name": "delivery",
            "description": "One row per feed, institution and delivery date / 一家机构一个数据源一天的交付",
            "columns": [
                {"name": "feed", "data_type": "varchar", "description": "数据源 / Feed"},
                {"name": "feed_zh", "data_type": "varchar", "description": "数据源名称 / Feed in words"},
                {
                    "name": "grace_hours",
                    "data_type": "bigint",
                    "description": "允许迟交小时 / Hours it may be late",
                },
                {"name": "org_code", "data_type": "varchar", "description": "机构编码 / Institution"},
                {"name": "data_date", "data_type": "date", "description": "交付日期 / Delivery date"},
                {"name": "files", "data_type": "bigint", "description": "文件数 / Files"},
                {"name": "received", "data_type": "bigint", "description": "收到记录 / Records received"},
                {"name": "loaded", "data_type": "bigint", "description": "入湖记录 / Records loaded"},
                {"name": "duplicate", "data_type": "bigint", "description": "重复记录 / Duplicates"},
                {"name": "quarantined", "data_type": "bigint", "description": "隔离记录 / Records refused"},
            ],
        }
    ],
}


def _table(table: TableInfo) -> dict[str, Any]:
    return {
        "name": table.name,
        "description": f"{table.label_zh} / {table.description}",
        "config": {"meta": {"grain": table.grain_zh, "owner": table.owner, "level": table.level}},
        "columns": [
            {
                "name": f.name,
                "data_type": f.type.lower(),
                "description": f"{f.label_zh} / {f.description}",
                "config": {"meta": {"level": f.level}},
            }
            for f in table.fields
        ],
    }


def render() -> str:
    """The text of ``dbt/models/sources.yml``."""
    sources = [
        {
            "name": schema,
            "description": description,
            "schema": schema,
            "tables": [
                _table(t)
                for t in sorted(source_tables().values(), key=lambda t: t.name)
                if t.schema == schema
            ],
        }
        for schema, description in _SCHEMAS.items()
    ]
    body = yaml.safe_dump(
        {"version": 2, "sources": [*sources, _OPS]}, allow_unicode=True, sort_keys=False, width=200
    )
    return _HEADER + body


def main(arguments: list[str], path: Path = SOURCES) -> int:
    """Write the file, or with ``--check`` return 1 when it is out of step."""
    text = render()
    if "--check" in arguments:
        return 0 if path.exists() and path.read_text("utf-8") == text else 1
    path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
