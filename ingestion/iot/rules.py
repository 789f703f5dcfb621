"""The rules for telemetry as reviewed, from ``rules.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Rules:
    """``tables``: (kind, channel) -> table; ``status``: table of the status channel of every kind."""

    version: str
    tables: dict[tuple[str, str], str]
    status: str
    device_field: dict[str, str]
    clock_flag_seconds: float
    clock_readings_at_least: int
    gap_settle_hours: float
    gap_report_at_most: int
    order_window_seconds: float

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(kind for kind, _ in self.tables)

    def table_of(self, kind: str, channel: str) -> str | None:
        """The table that a channel fills; None: the topic means nothing here."""
        if channel == "status":
            return self.status if kind in self.kinds else None
        return self.tables.get((kind, channel))


@lru_cache(maxsize=1)
def rules() -> Rules:
    node = yaml.safe_load((Path(__file__).parent / "rules.yaml").read_text("utf-8"))
    return Rules(
        version=str(node["valid_from"]),
        tables={
            (kind, c): table for kind, channels in node["topics"].items() for c, table in channels.items()
        },
        status=node["status"],
        device_field=dict(node["device_field"]),
        clock_flag_seconds=float(node["clock"]["flag_seconds"]),
        clock_readings_at_least=int(node["clock"]["readings_at_least"]),
        gap_settle_hours=float(node["gaps"]["settle_hours"]),
        gap_report_at_most=int(node["gaps"]["report_at_most"]),
        order_window_seconds=float(node["order"]["window_seconds"]),
    )
