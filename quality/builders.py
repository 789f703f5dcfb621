"""Derived tables whose SQL depends on what the lake has: how full each field is, and what each institution delivers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import duckdb

from lake.contracts import contract
from quality.compile import day, name, text

_FEED = "public_health"


def field_fill(connection: duckdb.DuckDBPyConnection, held: dict[str, set[str]], as_of: date) -> str:
    """Per institution, table and field: records and empty ones of the newest delivery, and of all before it.

    Silver is read as a stream, one aggregation per table: nothing of it is kept.
    """
    parts = []
    for table, known in contract(_FEED).tables.items():
        fields = [f.name for f in known.fields if not f.is_key and f.name in held.get(table, ())]
        if not fields:
            continue
        names = ", ".join(text(f) for f in fields)
        new = ", ".join(f"n{i}" for i in range(len(fields)))
        old = ", ".join(f"o{i}" for i in range(len(fields)))
        counted = ", ".join(
            f"count(*) FILTER (is_new AND {name(f)} IS NULL) AS n{i}, "
            f"count(*) FILTER (NOT is_new AND {name(f)} IS NULL) AS o{i}"
            for i, f in enumerate(fields)
        )
        delivered = f"silver.{name(table)}"
        parts.append(f"""
            SELECT org_code, {text(table)} AS of_table, unnest([{names}]) AS of_field, new_records,
                unnest([{new}]) AS new_nulls, old_records, unnest([{old}]) AS old_nulls
            FROM (
                SELECT org_code, count(*) FILTER (is_new) AS new_records,
                    count(*) FILTER (NOT is_new) AS old_records, {counted}
                FROM (
                    SELECT t.*, t.data_date = newest.newest_on AS is_new
                    FROM {delivered} AS t
                    INNER JOIN (
                        SELECT org_code, max(data_date) AS newest_on FROM {delivered} WHERE data_date <= {day(as_of)}
                        GROUP BY org_code
                    ) AS newest ON newest.org_code = t.org_code AND t.data_date <= newest.newest_on
                )
                GROUP BY org_code
            )""")
    empty = (
        "SELECT NULL::VARCHAR AS org_code, NULL::VARCHAR AS of_table, NULL::VARCHAR AS of_field, 0 AS new_records, "
        "0 AS new_nulls, 0 AS old_records, 0 AS old_nulls WHERE false"
    )
    return " UNION ALL ".join(parts) if parts else empty


def feed_day(connection: duckdb.DuckDBPyConnection, held: dict[str, set[str]], as_of: date) -> str:
    """Per institution and table: what was received on the date being processed, against the same weekday before.

    ``silver.delivered`` (org_code, of_table, day_on, records) comes from the ledger; the first delivery of each
    institution is years at once and is left out. ``usual`` is the median of the eight last such weekdays, ``spread``
    their median absolute deviation.
    """
    if "delivered" not in held:
        return (
            "SELECT NULL::VARCHAR AS org_code, NULL::VARCHAR AS of_table, NULL::DATE AS day_on, 0 AS records, "
            "NULL::DOUBLE AS usual, NULL::DOUBLE AS spread, 0 AS days_before WHERE false"
        )
    return f"""
        WITH delivered AS (
            SELECT org_code, of_table, day_on, records FROM silver.delivered WHERE day_on <= {day(as_of)}
            QUALIFY row_number() OVER (PARTITION BY org_code, of_table ORDER BY day_on) > 1
        ),
        before AS (
            SELECT org_code, of_table, list(records) AS weekdays
            FROM delivered
            WHERE day_on < {day(as_of)} AND day_on >= {day(as_of)} - 56
                AND dayofweek(day_on) = dayofweek({day(as_of)})
            GROUP BY ALL
        )
        SELECT before.org_code, before.of_table, {day(as_of)} AS day_on, coalesce(d.records, 0) AS records,
            list_median(weekdays) AS usual,
            list_median(list_transform(weekdays, lambda x: abs(x - list_median(weekdays)))) AS spread,
            len(weekdays) AS days_before
        FROM before
        LEFT JOIN delivered AS d
            ON d.org_code = before.org_code AND d.of_table = before.of_table AND d.day_on = {day(as_of)}
    """


#: Builder name in ``derived.yaml`` -> SQL of its rows.
BUILDERS: dict[str, Callable[[duckdb.DuckDBPyConnection, dict[str, set[str]], date], str]] = {
    "field_fill": field_fill,
    "feed_day": feed_day,
}
