"""One file's header: walked where the file is as usual, read by pydicom where it is not."""

from __future__ import annotations

import base64
import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

from ingestion.readers.dicom import text, walk
from ingestion.readers.dicom.fields import CHARSET, tags
from ingestion.readers.dicom.walk import Elements, Unusual

#: A private value that is no text and longer than this is kept as its length alone: the bytes are in landing.
_PRIVATE_BYTES = 64
_PRIVATE_TEXT = 4_000


@dataclass(frozen=True)
class Header:
    """The elements of a header and how to read them. ``charset`` is what the header declares."""

    elements: Elements
    syntax: str | None
    charset: str | None
    is_little: bool = True

    def text(self, keyword: str) -> str | None:
        """One element by its keyword (one of ``fields``), or None."""
        tag, representation = tags()[keyword]
        found = self.elements.get(tag)
        if found is None or not found[1]:
            return None
        return text.as_text(tag, found[0] or representation, found[1], self.charset, self.is_little)

    def private(self) -> str | None:
        """The elements of odd groups as JSON, ``{"00091001": value}``, the creators among them; None without."""
        found = {
            f"{tag:08X}": self._private_value(tag, *element)
            for tag, element in self.elements.items()
            if tag & 0x10000
        }
        kept = {k: v for k, v in found.items() if v is not None}
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":")) if kept else None

    def _private_value(self, tag: int, representation: str, raw: bytes) -> str | dict[str, object] | None:
        if not raw:
            return None
        if representation in ("", "UN", "OB", "OW"):
            stripped = raw.rstrip(b"\0 ")
            if not (stripped.isascii() and stripped.decode("ascii").isprintable()):
                if len(raw) > _PRIVATE_BYTES:
                    return {"bytes": len(raw)}
                return {"base64": base64.b64encode(raw).decode("ascii")}
        if len(raw) > _PRIVATE_TEXT:
            return {"bytes": len(raw)}
        return text.as_text(tag, representation, raw, self.charset, self.is_little)


def read(path: Path) -> Header:
    """The header of one file.

    Raises:
        Exception: whatever pydicom makes of a file that is none; the caller rejects it.
    """
    try:
        elements, syntax = walk.header(path)
        return Header(elements, syntax, _charset(elements))
    except Unusual:
        return _by_pydicom(path)


def _charset(elements: Elements) -> str | None:
    declared = elements.get(tags()[CHARSET][0])
    return declared[1].decode("ascii", "replace").rstrip("\0 ") if declared else None


def _by_pydicom(path: Path) -> Header:
    from pydicom import dcmread
    from pydicom.dataelem import RawDataElement
    from pydicom.misc import is_dicom

    dataset = dcmread(path, stop_before_pixels=True, force=True)
    known = {tag for tag, _ in tags().values()}
    if not is_dicom(path) and known.isdisjoint(int(t) for t in list(dataset.keys())):
        raise ValueError("no DICOM elements")  # whatever bytes it is, they happen to look like elements
    elements: Elements = {}
    is_little = True
    for tag in list(dataset.keys()):
        item = dataset.get_item(tag)
        if isinstance(item, RawDataElement):
            is_little = item.is_little_endian
            if item.VR != "SQ" and item.value is not None:
                elements[int(tag)] = (item.VR or "", item.value)
        elif int(tag) == tags()[CHARSET][0] and item.value:  # the one that pydicom has already looked at
            declared = item.value if isinstance(item.value, str) else "\\".join(item.value)
            elements[int(tag)] = ("CS", declared.encode("ascii", "replace"))
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    return Header(elements, str(syntax) if syntax else None, _charset(elements), is_little)


class quiet:
    """pydicom warns about values through ``warnings`` and ``logging``, quoting them: neither may reach a log."""

    def __enter__(self) -> None:
        self._filters = warnings.catch_warnings()
        self._filters.__enter__()
        warnings.simplefilter("ignore")
        self._level = logging.getLogger("pydicom").level
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)

    def __exit__(self, *error: object) -> None:
        self._filters.__exit__(None, None, None)
        logging.getLogger("pydicom").setLevel(self._level)
