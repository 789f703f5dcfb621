"""The cold-chain rule over a whole batch at once: runs of readings out of range, long enough (gaps and islands)."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import duckdb
import pyarrow as pa

from ingestion.fastlane.found import Episode
from ingestion.fastlane.rules import Rules
from ingestion.fastlane.text import quoted, sql_macro

#: Columns that the relation ``cold_rows`` must have.
COLUMNS = {
    "org_code": "VARCHAR",
    "sensor_id": "VARCHAR",
    "seq": "BIGINT",
    "device_at": "TIMESTAMPTZ",
    "temp_c": "DOUBLE",
    "quality_code": "VARCHAR",
    "location_kind_code": "VARCHAR",
    "received_at": "TIMESTAMPTZ",
    "gateway_at": "TIMESTAMPTZ",
    "data_date": "DATE",
}

_TYPES = [
    ("range_org", pa.string()),
    ("range_sensor", pa.string()),
    ("low_c", pa.float64()),
    ("high_c", pa.float64()),
    ("minutes", pa.float64()),
    ("not_kinds", pa.list_(pa.string())),
    ("valid_from", pa.date32()),
    ("valid_to", pa.date32()),
]


def query(rules: Rules) -> str:
    """Episodes of the relation ``cold_rows`` (``COLUMNS``); the relation ``ranges`` must be there.

    A batch may be read long after its day (a backfill): there the day's end stands for receipt. Where a device's
    clock is not believed, the gateway's is, which the lane has no need of (it knows when it received).
    """
    bad = "[" + ", ".join(quoted(q) for q in sorted(rules.ignored_quality)) + "]::VARCHAR[]"
    return f"""
    WITH trusted AS (
        SELECT DISTINCT org_code, trim(sensor_id) AS sensor_id, coalesce(seq, 0) AS seq, temp_c,
            coalesce(trim(location_kind_code), '') AS location_kind,
            CASE WHEN device_at BETWEEN receipt - to_seconds({rules.behind_hours * 3600})
                    AND receipt + to_seconds({rules.ahead_minutes * 60}) THEN device_at
                ELSE least(coalesce(gateway_at, received_at), received_at) END AS instant,
            coalesce(strftime(device_at, '%Y%m%dT%H%M%SZ'), '') AS device_at
        FROM (SELECT *, least(received_at, coalesce(timezone('Asia/Shanghai', CAST(data_date + 1 AS TIMESTAMP)),
            received_at)) AS receipt FROM cold_rows)
        WHERE coalesce(trim(sensor_id), '') <> '' AND temp_c IS NOT NULL AND NOT isnan(temp_c)
            AND NOT list_contains({bad}, plain(quality_code))
    ), ranged AS (
        SELECT t.*, r.low_c, r.high_c, r.minutes FROM trusted t LEFT JOIN ranges r
            ON r.range_org IN ('', t.org_code) AND r.range_sensor IN ('', t.sensor_id)
            AND NOT list_contains(r.not_kinds, t.location_kind)
            AND CAST(timezone('Asia/Shanghai', t.instant) AS DATE) >= r.valid_from
            AND (r.valid_to IS NULL OR CAST(timezone('Asia/Shanghai', t.instant) AS DATE) <= r.valid_to)
        QUALIFY row_number() OVER (PARTITION BY t.org_code, t.sensor_id, t.instant, t.seq, t.device_at, t.temp_c, t.location_kind
            ORDER BY r.range_sensor <> '' DESC, r.range_org <> '' DESC, r.valid_from DESC) = 1
    ), judged AS (
        SELECT *, coalesce(temp_c < low_c OR temp_c > high_c, false) AS is_out FROM ranged
    ), runs AS (
        SELECT *, sum(CASE WHEN is_out THEN 0 ELSE 1 END) OVER (PARTITION BY org_code, sensor_id
            ORDER BY instant, seq, device_at, temp_c ROWS UNBOUNDED PRECEDING) AS run FROM judged
    ), placed AS (
        SELECT *, first_value(instant) OVER w AS since, first_value(seq) OVER w AS first_seq,
            first_value(device_at) OVER w AS first_device_at
        FROM runs WHERE is_out
        WINDOW w AS (PARTITION BY org_code, sensor_id, run ORDER BY instant, seq, device_at, temp_c)
    )
    SELECT org_code, sensor_id, first_seq AS seq, first_device_at AS device_at, since, max(instant) AS until,
        arg_max(temp_c, (instant, seq, device_at, temp_c)) AS temp_c, arg_max(low_c, instant) AS low_c,
        arg_max(high_c, instant) AS high_c
    FROM placed WHERE epoch_us(instant) - epoch_us(since) >= minutes * 60000000
    GROUP BY org_code, sensor_id, run, first_seq, first_device_at, since
    ORDER BY since, org_code, sensor_id"""


def find(con: duckdb.DuckDBPyConnection, rules: Rules) -> list[Episode]:
    """Episodes among the rows of the relation ``cold_rows``."""
    rows = [
        (
            r.org_code,
            r.sensor_id,
            r.low_c,
            r.high_c,
            r.minutes,
            sorted(r.not_location_kinds),
            r.valid_from,
            r.valid_to,
        )
        for r in rules.ranges
    ]
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in _TYPES]
    con.execute(sql_macro())
    con.register("ranges", pa.table({n: pa.array(c, t) for (n, t), c in zip(_TYPES, columns, strict=True)}))
    found: list[dict[str, Any]] = con.execute(query(rules)).to_arrow_table().to_pylist()
    return [
        Episode(**r | {"since": r["since"].astimezone(UTC), "until": r["until"].astimezone(UTC)})
        for r in found
    ]
