"""Attachments by content: ``home/attachments/<first two>/<sha256>``, each once, 0600; what they are shows their first bytes.

The name they came with never touches the disk; it is a field of table ``attachment``, beside the record it belongs to.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lake.errors import MedlakeError
from lake.settings import settings

_JPEG, _PNG, _PDF, _DICOM = "image/jpeg", "image/png", "application/pdf", "application/dicom"

#: Extension -> media type; these four are taken and nothing else.
EXTENSIONS = {".jpg": _JPEG, ".jpeg": _JPEG, ".png": _PNG, ".pdf": _PDF, ".dcm": _DICOM, ".dicom": _DICOM}

#: Declared types that say nothing, and so contradict nothing.
_SILENT = {"", "application/octet-stream"}

_NAME = re.compile(r"[^\x00-\x1f\x7f/\\:*?\"<>|]{1,120}")


@dataclass(frozen=True)
class Stored:
    """One attachment in the store. ``attachment_id`` is its sha256."""

    attachment_id: str
    media_type: str
    bytes: int
    file_name: str


def media_type_of(head: bytes) -> str | None:
    """What the first bytes (132 are enough) say it is; None when it is none of the four."""
    if head.startswith(b"\xff\xd8\xff"):
        return _JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _PNG
    if head.startswith((b"%PDF-1.", b"%PDF-2.")):
        return _PDF
    return _DICOM if head[128:132] == b"DICM" else None


def checked_name(part: str, name: str) -> str:
    """The name as a plain file name.

    Raises:
        MedlakeError: E271, it holds a path, a control character, or is too long.
    """
    plain = unicodedata.normalize("NFC", name)
    if not _NAME.fullmatch(plain) or plain.startswith(".") or plain.strip(" .") != plain:
        raise MedlakeError("E271", part=part, detail="file name")
    return plain


def checked_type(part: str, name: str, declared: str, head: bytes) -> str:
    """The media type that content, name and declaration agree on.

    Raises:
        MedlakeError: E271, they do not, or the content is none of the four kinds.
    """
    found = media_type_of(head)
    if found is None:
        raise MedlakeError("E271", part=part, detail="content is no JPEG, PNG, PDF or DICOM")
    suffix = Path(name).suffix.lower()
    declared = declared.partition(";")[0].strip().lower()
    if EXTENSIONS.get(suffix) != found:
        raise MedlakeError("E271", part=part, detail=f"extension says otherwise than the content ({found})")
    if declared not in _SILENT and declared != found:
        raise MedlakeError(
            "E271", part=part, detail=f"content-type says otherwise than the content ({found})"
        )
    return found


def path_of(attachment_id: str) -> Path:
    """Where an attachment lies.

    Raises:
        ValueError: the id is no sha256.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", attachment_id):
        raise ValueError("no sha256")
    return settings().home / "attachments" / attachment_id[:2] / attachment_id


def store(part: str, name: str, declared: str, blocks: Iterable[bytes]) -> Stored:
    """Write an attachment durably; one that is there already is left as it is.

    Raises:
        MedlakeError: E271, its name or its type is not accepted; nothing is kept then.
        OSError: the disk does not take it.
    """
    file_name = checked_name(part, name)
    root = settings().folder("attachments")
    root.chmod(0o700)
    draft = root / f".{secrets.token_hex(8)}.part"
    digest, size, head = hashlib.sha256(), 0, b""
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for block in blocks:
                head = head if len(head) >= 132 else (head + block)[:132]
                digest.update(block)
                size += len(block)
                file.write(block)
            media_type = checked_type(part, file_name, declared, head)
            file.flush()
            os.fsync(file.fileno())
        made = Stored(digest.hexdigest(), media_type, size, file_name)
        target = path_of(made.attachment_id)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        if not target.exists():
            draft.rename(target)
            for folder in (target.parent, root):
                _sync(folder)
    finally:
        draft.unlink(missing_ok=True)
    return made


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def verify(attachment_id: str) -> bool:
    """Whether the stored bytes still have the hash they are named by."""
    with path_of(attachment_id).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == attachment_id
