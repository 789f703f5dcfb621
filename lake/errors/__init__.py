"""Numbered errors for the person who must act: what happened, where, what to do, in Chinese and English.

The texts lie beside this file, one YAML per room (``lake.yaml`` E1xx, ``ingestion.yaml`` E2xx, ``empi.yaml``
E3xx, ``quality.yaml`` E4xx, ``build.yaml`` E5xx, ``products.yaml`` E6xx, ``operations.yaml`` E7xx,
``simulator.yaml`` E8xx). A text's ``{placeholders}`` are the only values that can enter a message, so no record
leaks into a log by accident.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class ErrorText:
    """One entry of the catalogue; the four texts are ``str.format`` templates."""

    code: str
    zh: str
    en: str
    remedy_zh: str
    remedy_en: str


@lru_cache(maxsize=1)
def catalogue() -> dict[str, ErrorText]:
    """All numbered errors by code.

    Raises:
        ValueError: a number is given twice.
    """
    found: dict[str, ErrorText] = {}
    for path in sorted(Path(__file__).parent.glob("*.yaml")):
        for code, text in (yaml.safe_load(path.read_text("utf-8")) or {}).items():
            if code in found:
                raise ValueError(f"error {code} is defined twice, again in {path.name}")
            found[code] = ErrorText(code=code, **text)
    return found


class _Missing(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


class MedlakeError(Exception):
    """An error that names its number, its place and its remedy.

    Args:
        code: number in the catalogue, such as ``E201``.
        place: where, as far as known: file, sheet!row, table, product. Never a value of a record.
        **context: fills the placeholders of the texts.

    Raises:
        KeyError: the number is not in the catalogue.
    """

    def __init__(self, code: str, place: str = "", **context: Any) -> None:
        text = catalogue()[code]
        values = _Missing(place=place, **context)
        self.code = code
        self.place = place
        self.zh = text.zh.format_map(values)
        self.en = text.en.format_map(values)
        self.remedy_zh = text.remedy_zh.format_map(values)
        self.remedy_en = text.remedy_en.format_map(values)
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f" [{self.place}]" if self.place else ""
        return (
            f"{self.code}{where}\n  {self.zh}\n  {self.en}\n"
            f"  处理 / remedy: {self.remedy_zh}\n                 {self.remedy_en}"
        )

    def __reduce__(self) -> tuple[Any, ...]:  # crosses process borders (Airflow) as its text
        return (_rebuild, (self.code, self.place, self.zh, self.en, self.remedy_zh, self.remedy_en))


def _rebuild(code: str, place: str, zh: str, en: str, remedy_zh: str, remedy_en: str) -> MedlakeError:
    error = MedlakeError.__new__(MedlakeError)
    error.code, error.place, error.zh, error.en = code, place, zh, en
    error.remedy_zh, error.remedy_en = remedy_zh, remedy_en
    Exception.__init__(error, str(error))
    return error


def retold(told: Mapping[str, str]) -> MedlakeError:
    """An error that another program told us as JSON (``code, place, zh, en, remedy_zh, remedy_en``)."""
    names = ("code", "place", "zh", "en", "remedy_zh", "remedy_en")
    return _rebuild(*(str(told.get(name, "")) for name in names))
