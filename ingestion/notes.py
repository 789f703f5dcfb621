"""What a batch tells about values that were accepted by a rule of ours: placeholders, units, times, reversed codes.

``conform`` marks each such value in ``note``; here they are counted per file and institution and become notices.
Nothing of a value enters a notice, only labels, counts and rules.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import yaml

from ingestion import codemaps, units
from ingestion.conform import quoted
from lake.contracts import TableContract

#: Letter of ``note`` -> number of the notice, and for times the rule in words.
_CODES = {"P": "E264", "U": "E261", "X": "E262", "H": "E228", "S": "E228", "D": "E228", "Z": "E228"}
_RULES = {
    "H": ("12 小时制，按上午/下午（AM/PM）换算", "12 hour clock with 上午/下午 (AM/PM)"),
    "S": ("1970 年以来的秒或毫秒", "seconds or milliseconds since 1970"),
    "D": (
        "1986 至 1991 年间无时区的时间，按时区数据库中的夏令时换算",
        "local times of 1986 to 1991, summer time by the tz database",
    ),
    "Z": ("按该来源登记的时区换算", "the zone registered for this source"),
}


def notice(file: str, org_code: str, code: str, **context: Any) -> dict[str, Any]:
    return {"code": code, "file": file, "sheet": None, "org_code": org_code, "context": context}


def collect(
    connection: duckdb.DuckDBPyConnection, table: TableContract, source: str, data_date: date
) -> list[dict[str, Any]]:
    """Notices about the accepted rows of one table.

    Args:
        connection: has ``files`` (file_no, source_file).
        source: FROM clause over the table's staged parts.
    """
    found = connection.execute(f"""
        SELECT f.source_file, s.org_code, s.note, count(*) AS n FROM (
            SELECT file_no, org_code, unnest(string_split(note, ',')) AS note FROM {source}
            WHERE note IS NOT NULL AND err IS NULL) s JOIN files f USING (file_no)
        GROUP BY ALL ORDER BY ALL""").fetchall()
    told = []
    for file, org, note, count in found:
        letter, _, name = note.partition(":")
        field = table.field(name)
        rule_zh, rule_en = _RULES.get(letter, ("", ""))
        context = {"label": field.label_zh, "field": name, "count": count, "wanted": field.unit}
        told.append(notice(file, org, _CODES[letter], rule_zh=rule_zh, rule_en=rule_en, **context))
    return told + _reversed(connection, table, source, data_date)


@lru_cache(maxsize=1)
def _limits() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = yaml.safe_load(
        (Path(codemaps.__file__).parent / "statistics.yaml").read_text("utf-8")
    )
    return rows


def _reversed(
    connection: duckdb.DuckDBPyConnection, table: TableContract, source: str, data_date: date
) -> list[dict[str, Any]]:
    told = []
    for limit in _limits():
        for field in table.fields:
            if field.code_system != limit["code_system"] or limit["valid_from"] > data_date:
                continue
            value = quoted("t_" + field.name)
            found = connection.execute(
                f"""SELECT f.source_file, s.org_code, count({value}) AS n, count(*) FILTER ({value} = ?) / n AS share
                FROM {source} s JOIN files f USING (file_no) WHERE err IS NULL GROUP BY f.source_file, s.org_code
                HAVING n >= ? AND share > ? ORDER BY ALL""",
                [limit["code"], limit["min_records"], limit["max_share"]],
            ).fetchall()
            told += [
                notice(
                    file,
                    org,
                    "E263",
                    label=field.label_zh,
                    field=field.name,
                    code_system=field.code_system,
                    standard=limit["code"],
                    count=n,
                    share=f"{share:.1%}",
                    limit=f"{limit['max_share']:.1%}",
                )
                for file, org, n, share in found
            ]
    return told


def unknown_units(
    connection: duckdb.DuckDBPyConnection, table: TableContract, source: str, data_date: date
) -> pa.Table | None:
    """Rows for the inbox of unmapped codes: units that nobody has registered, code system ``ucum``."""
    how = units.derived(table.name, [f.name for f in table.fields])
    if how is None:
        return None
    return connection.execute(
        f"""SELECT 'ucum' AS code_system, ? AS feed, ? AS table_name, ? AS field, org_code,
                   trim({quoted("r_" + how.unit)}) AS source_code, count(*) AS records, CAST(? AS DATE) AS data_date
            FROM {source} WHERE err IS NULL AND {quoted("t_" + how.rule_out)} = 'unknown_unit' GROUP BY ALL""",
        [table.feed, table.name, how.unit, data_date],
    ).to_arrow_table()
