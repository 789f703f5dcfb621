"""What the tests of identity review share: other pairs than the run itself was unsure of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from empi.review.queue import CANDIDATES
from lake import ledger, ops, tables


def candidates() -> list[dict[str, Any]]:
    """The pairs that the last run was unsure of."""
    rows: list[dict[str, Any]] = (
        tables.read(CANDIDATES, ledger.visible("silver/")[CANDIDATES]).to_table().to_pylist()
    )
    return rows


def show_candidates(rows: Iterable[dict[str, Any]], run_id: str) -> None:
    """Show other pairs, as a later run would."""
    made = [row | {"run_id": run_id} for row in rows]
    at = tables.overwrite(CANDIDATES, pa.Table.from_pylist(made, schema=tables.read(CANDIDATES).schema))
    with ops.engine().begin() as connection:
        ledger.set_visible(connection, CANDIDATES, at, None)
