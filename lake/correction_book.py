"""How a correction workbook is laid out: what quality writes and ingestion reads back.

A table's sheet has a hidden first row of machine names, a row of labels, and a record a row. Hidden columns at the end
carry what a row was made from.
"""

from __future__ import annotations

#: Hidden columns: table, institution, record key, ``raw_hash`` of the row, data date, and JSON {field: text as shown}.
TABLE, ORG, KEY, HASH, ON, GIVEN = (
    "#table",
    "#org_code",
    "#record_key",
    "#record_hash",
    "#handed_out_on",
    "#given",
)
HIDDEN = (TABLE, ORG, KEY, HASH, ON, GIVEN)
#: The visible column with the rules and their messages; no field.
PROBLEMS = "#problems"
#: Rows above the first record.
HEAD_ROWS = 2
#: A longer text is shown cut and cannot be corrected in a cell.
LONGEST = 300


def record_key_sql(keys: list[str], alias: str = "t") -> str:
    """The key of a record as findings name it: its parts joined by ``|`` (session time zone UTC)."""
    return "concat_ws('|', " + ", ".join(f'{alias}."{k}"' for k in keys) + ")"
