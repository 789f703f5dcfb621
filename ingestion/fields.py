"""What SQL needs to know of a contract's field: its name quoted, whether it is typed, how its text is cleaned."""

from __future__ import annotations

from ingestion.typing_sql import filled, identifier, trimmed
from ingestion.units import derived_names
from lake.contracts import Field

#: Types whose odd values come from ``odd_number`` (``ingestion.odd_numbers``).
NUMERIC = ("integer", "number")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def is_typed(field: Field) -> bool:
    return field.type != "string" or field.name in derived_names()


def is_identifier(field: Field) -> bool:
    """Whether a text field must identify something: part of the key, or a required reference."""
    return field.type == "string" and (field.is_key or (field.required and field.name.endswith("_id")))


def is_number_like(field: Field) -> bool:
    """Whether a text field holds numbers that spreadsheets damage: identifiers, document and telephone numbers."""
    return is_identifier(field) or (
        field.type == "string" and not field.code_system and field.name.endswith(("_id", "_no", "phone"))
    )


def clean(field: Field, column: str, plain: bool) -> str:
    """SQL of a field's text as the contract takes it: trimmed, identifiers repaired, NULL when empty."""
    text = trimmed(column, plain)
    return identifier(text, plain) if is_number_like(field) else filled(text)
