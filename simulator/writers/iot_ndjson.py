"""Gateway dumps: one JSON object per line, in the order of arrival (not of measuring)."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from simulator.writers.base import Drop, aggregated, recoded
from simulator.writers.his_csv import with_damage

_ISO = "%Y-%m-%dT%H:%M:%S+08:00"


def _time(expression: str) -> str:
    return f"'\"' || strftime({expression}, '{_ISO}') || '\"'"


def _text(expression: str) -> str:
    return f"'\"' || {expression} || '\"'"


def _object(pairs: dict[str, str]) -> str:
    """SQL of a JSON object; a null expression drops its key. Values hold no quotes or backslashes."""
    parts = [f"'\"{key}\":' || {expression}" for key, expression in pairs.items()]
    return "'{' || concat_ws(',', " + ", ".join(parts) + ") || '}'"


def write(con: duckdb.DuckDBPyConnection, drop: Drop, readings: pa.Table, bindings: pa.Table) -> None:
    con.register("readings", readings)
    con.register("bindings", bindings)
    source, expr = recoded("readings", "iot", {"quality_code": "reading_quality"}, [])
    telemetry = _object({
        "device": _text("t.device_id"), "seq": "t.seq", "metric": _text("t.metric_code"), "value": "number_text(t.value)",
        "unit": _text("t.unit"), "ts_device": _time("t.device_at"), "ts_gateway": _time("t.gateway_at"),
        "quality": _text(expr[0]), "battery": "number_text(t.battery_pct)",
    })  # fmt: skip
    # Arrival is the gateway's time with up to a quarter of an hour of shuffling by the network.
    order = "epoch(t.gateway_at) + (t.seq * 7919) % 900, t.device_id, t.seq, t.metric_code"
    _files(con, drop, "telemetry", "vital_reading", source, telemetry, order)
    source, expr = recoded("bindings", "iot", {"device_kind_code": "device_kind"}, [])
    binding = _object({
        "device": _text("t.device_id"), "archive": _text("t.archive_id"), "kind": _text(expr[0]),
        "valid_from": _time("t.valid_from"), "valid_to": _time("t.valid_to"),
    })  # fmt: skip
    _files(con, drop, "binding", "device_binding", source, binding, "t.device_id, t.valid_from")
    con.unregister("readings")
    con.unregister("bindings")


def _files(
    con: duckdb.DuckDBPyConnection, drop: Drop, name: str, table: str, source: str, line: str, order: str
) -> None:
    for org, data_date, _, text in aggregated(con, source, line, order, "\n"):
        if drop.wants(data_date, "iot"):
            extra = drop.damage.get((data_date, org, table), [])
            content = with_damage(text, extra) if extra else text
            drop.write(data_date, "iot", org, f"{name}_{data_date:%Y%m%d}.ndjson", f"{content}\n".encode())
