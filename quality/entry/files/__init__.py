"""``medlake quality check FILE``: a table's rules over any file, nothing written to the lake."""

from __future__ import annotations

from quality.entry.files.checking import check_file

__all__ = ["check_file"]
