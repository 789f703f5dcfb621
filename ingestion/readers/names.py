"""A person's name out of the parts that HL7 (XPN) and DICOM (PN) give it."""

from __future__ import annotations

import re
from collections.abc import Sequence

_IDEOGRAPH = re.compile("[\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff]")


def has_ideographs(text: str) -> bool:
    """Whether any character is Chinese, Japanese or Korean script."""
    return _IDEOGRAPH.search(text) is not None


def joined(parts: Sequence[str]) -> str:
    """Family name first; ideographic parts without a space between (王 + 小东 = 王小东), others with one."""
    kept = [p.strip() for p in parts if p and p.strip()]
    return ("" if any(map(has_ideographs, kept)) else " ").join(kept)
