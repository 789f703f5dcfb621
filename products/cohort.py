"""A researcher's cohort: how many residents fulfil a definition, with small numbers kept back."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from lake import audit
from lake.errors import MedlakeError
from lake.log import logger
from products import disclosure, reading
from products.cohort_definition import Definition, load
from products.cohort_query import POPULATION_PRODUCT, Axis, compile_definition

_log = logger("products")
_TOTAL_ZH = "合计"


def count(
    con: duckdb.DuckDBPyConnection, definition: Definition, data_date: date
) -> tuple[disclosure.Counts, list[Axis]]:
    """The true counts as a complete table, one axis per dimension. For this module and its tests: they never leave."""
    sql, query, axes = compile_definition(definition, data_date)
    rows = con.execute(sql, query.values).fetchall()
    table = np.zeros([len(a.values) for a in axes], dtype=np.int64)
    for *group, persons in rows:  # one row per group, at most some hundred
        table[tuple(a.values.index(g) for a, g in zip(axes, group, strict=True))] = persons
    return table, axes


def _lines(shown: Any, axes: list[Axis]) -> list[dict[str, Any]]:
    """The published table as rows, totals included."""
    labels = [[*a.labels_zh, _TOTAL_ZH] for a in axes]
    return [
        {a.label_zh: labels[n][cell[n]] for n, a in enumerate(axes)} | {"人数": shown[cell]}
        for cell in np.ndindex(shown.shape)
    ]


def cohort(
    definition: str | Path | Definition, data_date: date | None = None, *, actor: str, purpose: str
) -> dict[str, Any]:
    """Count a cohort over what is published. One line in the audit log; no row of a person leaves.

    Args:
        definition: name of a shipped definition, a YAML file, or a definition.
        data_date: the published date that is wanted; None takes what is published.

    Returns:
        ``cohort, title_zh, data_date, data_dates`` (per product), ``persons`` (number or ``<10`` or ``*``),
        ``group_by, rows, suppressed, withheld, min_cell, round_to, seconds``.

    Raises:
        MedlakeError: E608 nothing published; E623 another date is published; E625 unknown institution; E640, E641
            the definition; E642 no purpose.
    """
    started = time.monotonic()
    wanted = definition if isinstance(definition, Definition) else load(definition)
    if not purpose.strip():
        raise MedlakeError("E642", place=wanted.cohort)
    with reading.published() as con:
        _, asked, _ = compile_definition(wanted, date.min)
        dates = reading.data_dates(con, asked.products, data_date)
        day = dates[POPULATION_PRODUCT][0]
        counts, axes = count(con, wanted, day)
    if axes:
        protected = disclosure.protect(counts)
        rows, persons = _lines(protected.shown, axes), protected.shown[(-1,) * counts.ndim]
        suppressed, withheld = protected.suppressed, protected.withheld
    else:
        persons = disclosure.protect_count(int(counts))
        rows, suppressed, withheld = [], int(persons == disclosure.SMALL), 0
    # the table that left is what is logged, not the true counts
    audit.record(
        "cohort",
        actor=actor,
        purpose=purpose,
        tables=sorted(asked.products),
        fields=list(wanted.group_by),
        rows=len(rows) or 1,
        result="ok",
        cohort=wanted.cohort,
        definition=wanted.model_dump(mode="json", exclude_defaults=True),
        data_date=day,
        persons=persons,
        suppressed=suppressed,
    )
    seconds = round(time.monotonic() - started, 3)
    _log.info(
        "cohort_counted",
        cohort=wanted.cohort,
        data_date=day,
        cells=len(rows),
        suppressed=suppressed,
        seconds=seconds,
    )
    return {
        "cohort": wanted.cohort,
        "title_zh": wanted.title_zh,
        "data_date": day.isoformat(),
        "data_dates": {product: found[0].isoformat() for product, found in dates.items()},
        "persons": persons,
        "group_by": [a.label_zh for a in axes],
        "rows": rows,
        "suppressed": suppressed,
        "withheld": withheld,
        "min_cell": disclosure.MIN_CELL,
        "round_to": disclosure.ROUND_TO,
        "seconds": seconds,
    }
