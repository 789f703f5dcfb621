"""Resources set aside on disk while a delivery is read: the typed tables need all of them at once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestion.readers.base import LandedFile, text_array
from ingestion.readers.fhir.mapping import mapped_types

#: Columns of the parts. ``n`` counts through the delivery; ``op`` is U or D; ``content`` is null for a deleted
#: resource. ``delivered`` is the day of delivery: what a client sends to be stored has no ``meta.lastUpdated``, the
#: receiver gives it one.
STAGED = pa.schema(
    [
        ("n", pa.int64()),
        ("file_no", pa.int32()),
        ("source_line", pa.int64()),
        ("org_code", pa.string()),
        ("resource_type", pa.string()),
        ("resource_id", pa.string()),
        ("last_updated", pa.string()),
        ("delivered", pa.string()),
        ("op", pa.string()),
        ("content", pa.string()),
    ]
)

_DELIVERED = re.compile(r"^[^/]+/(\d{4}-\d{2}-\d{2})/")


@dataclass
class Collected:
    """What one delivery holds. ``parts``: Parquet files by resource type, of types that fill a table; ``counts``:
    per file the resources of each type."""

    folder: Path
    parts: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[int, dict[str, int]] = field(default_factory=dict)
    staged: int = 0

    def paths(self) -> list[str]:
        return [path for parts in self.parts.values() for path in parts]

    def scan(self, resource_type: str | None = None) -> str:
        """FROM clause over the parts of one type, or of all."""
        paths = self.paths() if resource_type is None else self.parts.get(resource_type, [])
        return "read_parquet([" + ", ".join("'" + p.replace("'", "''") + "'" for p in paths) + "])"

    def stage(self, file: LandedFile, found: pa.Table) -> None:
        """Set resources aside for the typed tables, each type in a file of its own."""
        n = found.num_rows
        delivered = _DELIVERED.match(file.source_file)
        fallback = f"{delivered[1]}T00:00:00+08:00" if delivered else None
        columns = {
            "n": pa.array(np.arange(self.staged, self.staged + n), pa.int64()),
            "file_no": pa.repeat(pa.scalar(file.number, pa.int32()), n),
            "source_line": found["line"],
            "org_code": pa.repeat(pa.scalar(file.org_code, pa.string()), n),
            "resource_type": found["resource_type"],
            "resource_id": found["resource_id"],
            "last_updated": found["last_updated_at"],
            "delivered": pa.repeat(pa.scalar(fallback, pa.string()), n),
            "op": found["op"],
            "content": found["content"],
        }
        staged = pa.table(columns, STAGED)
        self.staged += n
        for kind in sorted(mapped_types() & set(pc.unique(staged["resource_type"]).to_pylist())):
            parts = self.parts.setdefault(kind, [])
            path = str(self.folder / f"{kind}-{len(parts):05d}.parquet")
            pq.write_table(staged.filter(pc.equal(staged["resource_type"], kind)), path, compression="snappy")
            parts.append(path)

    def resolve(self, aliases: dict[str, str], parts: list[str]) -> None:
        """References by ``urn:uuid`` to resources that have another id become references by that id.

        This is what a server does with a transaction (R4 3.1.0.11.2). It takes the whole Bundle, since an entry may
        refer to a later one. The loop is over resources, and only of Bundles that need it.
        """
        pattern = re.compile('"(urn:(?:uuid|oid):[^"]+)"')
        for path in parts:
            table = pq.read_table(path)
            content = [
                t and pattern.sub(lambda m: f'"{aliases.get(m[1], m[1])}"', t)
                for t in table["content"].to_pylist()
            ]
            at = table.schema.get_field_index("content")
            pq.write_table(table.set_column(at, "content", text_array(content)), path, compression="snappy")
