"""Small steps that the faults of the family services share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import instants
from simulator.faults.record import World


def changed(rows: pa.Table, **columns: Any) -> pa.Table:
    """The rows with other values in some columns: a scalar, a list or an Arrow array."""
    for name, value in columns.items():
        kind = rows.schema.field(name).type
        if not isinstance(value, (pa.Array, list)):
            value = [value] * rows.num_rows
        column = value.cast(kind) if isinstance(value, pa.Array) else pa.array(value, kind)
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows


def renamed(rows: pa.Table, key: str) -> pa.Table:
    """The rows under new ids."""
    return changed(rows, **{key: pc.binary_join_element_wise(rows[key].combine_chunks(), "R", "")})


def settled(world: World, table: str, key: str) -> np.ndarray:
    """Rows that the history delivered and that no daily delivery changes."""
    rows = world.tables[table]
    counts = pc.value_counts(rows[key].combine_chunks())
    once = counts.filter(pc.equal(counts.field("counts"), 1)).field("values")
    single = pc.is_in(rows[key], once).to_numpy()
    result: np.ndarray = single & (world.array(table, "deliver_on") <= history_end(world))
    return result


def history_end(world: World) -> np.datetime64:
    return np.datetime64(world.window.history_end)


def at_noon(day: np.ndarray) -> pa.Array:
    return instants(day.astype("datetime64[s]") + np.timedelta64(12 * 3600, "s"))


def in_ids(world: World, table: str, column: str, ids: Any) -> np.ndarray:
    """Rows whose ``column`` is one of ``ids``."""
    given = pa.array(sorted(ids), pa.string())
    found: np.ndarray = pc.is_in(world.tables[table][column], given).to_numpy()
    return found


def place(world: World, table: str, column: str, values: list[str | None]) -> np.ndarray:
    """First row with each value (-1: none)."""
    at = pc.index_in(pa.array(values, pa.string()), world.tables[table][column].combine_chunks())
    result: np.ndarray = pc.fill_null(at, -1).to_numpy(zero_copy_only=False)
    return result


def look(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """``values[at]``; where nothing was found (-1) any value, even if there are no values at all."""
    there: np.ndarray = values if len(values) else np.zeros(1, dtype=values.dtype)
    result: np.ndarray = there[at]
    return result


def wanted(world: World, table: str, rule: str) -> int:
    """How many faults of a rule a table of this size gets."""
    share = float(world.rates["rules"].get(rule, world.rates["rule_default"]))
    return max(round(share * world.tables[table].num_rows), 1) if share > 0 else 0


def men(world: World) -> np.ndarray:
    """Rows of active archives of grown men that the history delivered."""
    birth, end = world.array("ph_archive", "birth_date"), history_end(world)
    age = (end - birth).astype("timedelta64[D]").astype("float64") / 365.25
    sound = settled(world, "ph_archive", "archive_id") & (world.array("ph_archive", "status_code") == "0")
    result: np.ndarray = sound & (world.array("ph_archive", "sex_code") == "1") & (age > 25) & (age < 50)
    return result
