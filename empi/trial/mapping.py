"""``MAP.yaml``: which column of a file is what, and how its values are written. Checked before the file is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lake.errors import MedlakeError

#: What a column can be. All but the first may be left out.
FIELDS = (
    "record_id",
    "name",
    "sex",
    "birth_date",
    "national_id",
    "phone",
    "address",
    "card",
    "source",
    "insurance",
    "organization",
    "region_code",
    "contact_name",
    "contact_phone",
    "mother_record",
)
#: Fields that may be made of several columns, joined in the order given (surname and given name, street and town).
JOINED = ("name", "address")
#: How values are written, where it cannot be seen from them.
OPTIONS = ("sex_codes", "date_formats", "encoding", "delimiter", "null_values")
#: What `sex_codes` may turn a value into.
SEXES = ("1", "2")


@dataclass(frozen=True)
class Mapping:
    """A checked mapping.

    Attributes:
        columns: field -> names of the file's columns, one unless the field is in ``JOINED``.
        sex_codes: value as written (case does not count) -> ``1`` man or ``2`` woman.
        date_formats: further formats of birth dates in the words of ``strptime``, tried first.
        encoding: of a CSV file; found out if empty.
        delimiter: of a CSV file; found out if empty.
        null_values: texts that say nothing (``N/A``), besides the empty text.
    """

    columns: dict[str, tuple[str, ...]]
    sex_codes: dict[str, str] = field(default_factory=dict)
    date_formats: tuple[str, ...] = ()
    encoding: str = ""
    delimiter: str = ""
    null_values: tuple[str, ...] = ()


def _fail(path: Path, detail: str) -> MedlakeError:
    return MedlakeError("E371", place=str(path), detail=detail, known=", ".join((*FIELDS, *OPTIONS)))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text("utf-8-sig"))
    except OSError as error:
        raise _fail(path, error.strerror or type(error).__name__) from error
    except UnicodeDecodeError as error:
        raise _fail(path, "not UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise _fail(path, f"YAML, line {mark.line + 1}" if mark else "YAML") from error
    if not isinstance(content, dict):
        raise _fail(path, "key: column …")
    # the columns may stand under `columns:` or at the top
    nested = content.pop("columns", None) or {}
    if not isinstance(nested, dict):
        raise _fail(path, "columns: key: column …")
    return {str(k): v for k, v in (content | nested).items()}


def _names(path: Path, key: str, value: Any) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    if len(given) > 1 and key not in JOINED:
        raise _fail(path, f"{key}: more than one column; only {', '.join(JOINED)} may have several")
    if not given or any(isinstance(v, list | dict | bool) or v is None or str(v) == "" for v in given):
        raise _fail(path, f"{key}: not a column's name")
    return tuple(str(v) for v in given)


def _texts(path: Path, key: str, value: Any) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    if any(isinstance(v, list | dict) or v is None for v in given):
        raise _fail(path, f"{key}: not a list of texts")
    return tuple(str(v) for v in given)


def _sex_codes(path: Path, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or any(str(v) not in SEXES for v in value.values()):
        raise _fail(path, "sex_codes: value: 1 (man) or 2 (woman)")
    return {str(k).strip().upper(): str(v) for k, v in value.items()}


def load(path: Path) -> Mapping:
    """Read and check a mapping.

    Raises:
        MedlakeError: E371, with the key that is wrong; the file's values are not looked at.
    """
    content = _read(path)
    if unknown := sorted(set(content) - {*FIELDS, *OPTIONS}):
        raise _fail(path, f"unknown key: {', '.join(unknown)}")
    columns = {key: _names(path, key, content[key]) for key in FIELDS if content.get(key) is not None}
    if "record_id" not in columns:
        raise _fail(path, "record_id: missing")
    delimiter = str(content.get("delimiter") or "")
    if len(delimiter) > 1 and delimiter != "\\t":
        raise _fail(path, "delimiter: one character")
    return Mapping(
        columns=columns,
        sex_codes=_sex_codes(path, content.get("sex_codes") or {}),
        date_formats=_texts(path, "date_formats", content.get("date_formats") or []),
        encoding=str(content.get("encoding") or ""),
        delimiter="\t" if delimiter == "\\t" else delimiter,
        null_values=_texts(path, "null_values", content.get("null_values") or []),
    )
