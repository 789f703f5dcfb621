"""What names a pair of registrations: the keys of both records in one order, and what is made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from empi.decisions import RecordKey as RecordKey
from lake.crypto import sm3_hex

#: Kind of the items, and what its requests' keys begin with.
KIND = "empi_review"
COLUMNS = RecordKey._fields


def ordered(one: RecordKey, other: RecordKey) -> tuple[RecordKey, RecordKey]:
    """The smaller key first, by code points."""
    return (one, other) if one <= other else (other, one)


def digest(one: RecordKey, other: RecordKey) -> str:
    """64 hexadecimal digits of SM3 that stand for the pair, in either order."""
    text = json.dumps([list(k) for k in ordered(one, other)], ensure_ascii=False, separators=(",", ":"))
    return sm3_hex(text.encode())


def request_key(one: RecordKey, other: RecordKey) -> str:
    """The key under which a review of the pair is asked for, once and for all."""
    return f"{KIND}|{digest(one, other)}"


def of_payload(payload: Mapping[str, Any]) -> tuple[RecordKey, RecordKey] | None:
    """Both records that an item of the kind is about; None if it does not name them."""
    sides = [tuple(str(payload.get(f"{c}_{side}") or "") for c in COLUMNS) for side in ("l", "r")]
    if not all(all(part) for part in sides):
        return None
    return RecordKey(*sides[0]), RecordKey(*sides[1])
