"""Choosing and logging rows of hospital tables: at most one fault per encounter, keys as findings print them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator.clinical.draw import DAY
from simulator.clinical.pharmacy import DISPENSED_DAYS
from simulator.clinical.world import FEED_OF
from simulator.faults.record import KEYS, SCHEMA, World

SECOND = "datetime64[s]"
SHARES = 18  # rules and pairs that take their faults from the stays


def hours(count: float) -> np.timedelta64:
    return np.timedelta64(round(count * 3600), "s")


def earliest(at: np.ndarray) -> np.datetime64:
    """The first of the instants; a far day where there are none."""
    first: np.datetime64 = np.min(at) if len(at) else np.datetime64("2100-01-01", "s")
    return first


@dataclass
class Hand:
    """What puts faults into hospital tables. ``used``: encounters and other records that have one already.

    Years of encounters and results go through Arrow; a group is looked at for the few rows that are tried.
    """

    world: World
    used: set[str] = field(default_factory=set)

    @property
    def end(self) -> np.datetime64:
        return self.world.end

    @property
    def history_end(self) -> np.datetime64:
        return np.datetime64(self.world.window.history_end)

    @property
    def operations_start(self) -> np.datetime64:
        """First day of charges and settlements: of the encounter that began first among those with a bill."""
        billed = self.has("encounter", self.encounters("fee_item"), "org_code", "encounter_id")
        return earliest(self.time("encounter", "started_at")[billed]).astype(DAY)

    @property
    def dispensing_start(self) -> np.datetime64:
        return self.history_end - (DISPENSED_DAYS - 1)

    def ids(self, table: str, *columns: str) -> pa.Array:
        """Columns of text, joined by ``|``; null counts as empty where there are several."""
        parts = [self.world.tables[table][c].combine_chunks().cast(pa.string()) for c in columns]
        if len(parts) == 1:
            return parts[0]
        return pc.binary_join_element_wise(*parts, "|", null_handling="replace", null_replacement="")

    def text(self, table: str, *columns: str) -> np.ndarray:
        """The same as objects: for small tables, or a few rows."""
        return np.asarray(self.ids(table, *columns).to_pylist(), dtype=object)

    def has(self, table: str, values: Iterable[str] | pa.Array, *columns: str) -> np.ndarray:
        """Rows whose (joined) columns are one of the values."""
        wanted = values if isinstance(values, pa.Array) else pa.array(sorted(values), pa.string())
        result: np.ndarray = pc.is_in(self.ids(table, *columns), wanted).to_numpy(zero_copy_only=False)
        return result

    def at(self, table: str, values: pa.Array, *columns: str) -> np.ndarray:
        """Row of ``table`` with each value (-1: none)."""
        found = pc.fill_null(pc.index_in(values, self.ids(table, *columns)), -1)
        result: np.ndarray = found.to_numpy(zero_copy_only=False).astype("int64")
        return result

    def time(self, table: str, column: str) -> np.ndarray:
        """Instants in local time, NaT for null."""
        values = self.world.tables[table][column].combine_chunks().to_numpy(zero_copy_only=False)
        result: np.ndarray = values.astype(SECOND)
        return result

    def day(self, table: str, column: str) -> np.ndarray:
        result: np.ndarray = self.time(table, column).astype(DAY)
        return result

    def old(self, table: str) -> np.ndarray:
        """Rows that the history delivered."""
        result: np.ndarray = self.world.array(table, "deliver_on") <= self.history_end
        return result

    def known(self, table: str) -> np.ndarray:
        """Rows that some delivery up to the last brought."""
        result: np.ndarray = self.world.array(table, "deliver_on") <= self.end
        return result

    def count(self, ids: pa.Array) -> np.ndarray:
        """How many rows share each row's id."""
        of = pc.dictionary_encode(ids).indices.to_numpy(zero_copy_only=False)
        result: np.ndarray = np.bincount(of)[of] if len(of) else np.zeros(0, dtype="int64")
        return result

    def single(self, table: str, *key: str) -> np.ndarray:
        """Rows whose record has one version alone."""
        result: np.ndarray = self.count(self.ids(table, "org_code", *key)) == 1
        return result

    def fair(self, candidates: np.ndarray) -> int:
        """How many of the few stays one rule may take, so that something is left for each other."""
        return max(int(candidates.sum()) // SHARES, 1)

    def pick(
        self,
        table: str,
        rule: str,
        candidates: np.ndarray,
        group: np.ndarray | pa.Array | None = None,
        most: int | None = None,
    ) -> np.ndarray:
        """Ascending rows for a rule's faults. ``group``: what a row belongs to (default: itself); one fault each."""
        rates = self.world.rates
        rows = np.flatnonzero(candidates)
        share = float(rates["rules"].get(rule, rates["hospital_rule"]))
        wanted = max(round(share * len(rows)), int(rates["hospital_least"])) if share > 0 else 0
        wanted = wanted if most is None else min(wanted, most)
        out: list[int] = []
        for row in self.world.rng.permutation(rows).tolist():  # stops after the few that are wanted
            if len(out) >= wanted:
                break
            name = f"{table}|{row}" if group is None else str(group[row])
            if name not in self.used:
                self.used.add(name)
                out.append(row)
        return np.sort(np.array(out, dtype="int64"))

    def encounters(self, table: str, column: str = "encounter_id") -> pa.Array:
        """``org|encounter`` of each row, as groups."""
        return self.ids(table, "org_code", column)

    def keys(self, table: str, rows: np.ndarray) -> list[str]:
        """Record keys as findings print them: instants as DuckDB does, in UTC."""
        chosen = self.world.tables[table].take(pa.array(rows))
        parts = []
        for name in KEYS[table]:
            column = chosen[name].combine_chunks()
            if pa.types.is_timestamp(column.type):
                utc = pc.subtract(column, pa.scalar(8 * 3600, pa.duration("s")))
                column = pc.binary_join_element_wise(pc.strftime(utc, "%Y-%m-%d %H:%M:%S"), "+00", "")
            parts.append(column.cast(pa.string()))
        joined = pc.binary_join_element_wise(*parts, "|") if len(parts) > 1 else parts[0]
        found: list[str] = joined.to_pylist()
        return found

    def note(self, table: str, rows: np.ndarray, rule: str, fields: str, origin: str = "injected") -> None:
        """Log rows of a table."""
        chosen = self.world.tables[table].take(pa.array(rows))
        self.note_as(table, table, chosen["org_code"].to_pylist(), self.keys(table, rows),
                     chosen["deliver_on"].to_pylist(), rule, fields, origin)  # fmt: skip

    def note_as(
        self, table: str, judged: str, orgs: Sequence[str], keys: Sequence[str], days: Sequence[date], rule: str, fields: str,
        origin: str = "injected",
    ) -> None:  # fmt: skip
        """Log records under the table that the rule judges, which may be derived from the one that was changed."""
        count = len(keys)
        if not count:
            return
        same = [FEED_OF[table], judged]
        rest = [rule, "rule", fields, origin]
        self.world.log.append(pa.table([
            pa.array(days, pa.date32()), *(pa.array([v] * count, pa.string()) for v in same), pa.array(orgs, pa.string()),
            pa.array(keys, pa.string()), *(pa.array([v] * count, pa.string()) for v in rest),
        ], schema=SCHEMA))  # fmt: skip
