"""Look-ups in the residents' store: who is behind a record, and that person's other rows.

Every look-up is a prepared statement over the person's number: it reads one place of the columns that are wanted.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import duckdb

from quality.compile import name, text
from quality.entry import store
from quality.entry.statement import IDENTITY
from quality.shapes import contract_tables, shape

#: Persons of a request up to whom each is looked up by a statement that was planned for one.
_FEW = 8

#: Table -> rows by column, as JSON takes them.
Rows = dict[str, list[dict[str, Any]]]


def kinds_of(table: str) -> Mapping[str, str]:
    """Columns of a table of the store with their SQL types."""
    return IDENTITY if table == "person_identifier" else shape(table).columns


class Residents:
    """Look-ups in the current store by one thread; follows to a newer one when there is one.

    Connections of a process to one file share one database and its cache.
    """

    def __init__(self) -> None:
        self._stamp: int | None = None
        self._con: duckdb.DuckDBPyConnection | None = None
        self._looks: dict[tuple[Any, ...], str] = {}
        #: Table -> its columns in the store.
        self.columns: Mapping[str, frozenset[str]] = {}

    def open(self) -> bool:
        """Whether there is a store; opens it, or the newer one."""
        stamp = store.stamp()
        if stamp is not None and stamp == self._stamp and self._con is not None:
            return True
        self.close()
        if stamp is None or (current := store.current()) is None:
            return False
        try:
            self._con = duckdb.connect(str(current.file), read_only=True, config={"threads": 1})
        except duckdb.IOException:  # replaced and removed in between: the next request opens the newer one
            return False
        self._con.execute("SET TimeZone = 'UTC'")
        for kind in ("archive", "patient"):
            self._con.execute(
                f"PREPARE who_{kind} AS SELECT person FROM by_{kind} "
                "WHERE key_no = $1::UBIGINT AND key = $2::VARCHAR AND org_code = $3::VARCHAR"
            )
        self._stamp, self.columns = stamp, current.columns
        return True

    def close(self) -> None:
        if self._con is not None:
            self._con.close()
        self._con, self._stamp, self.columns = None, None, {}
        self._looks.clear()

    def has(self, reads: Mapping[str, Collection[str]]) -> frozenset[str]:
        """Those of the tables of which the store has every column that is read: a rule may be newer than the store."""
        return frozenset(t for t, read in reads.items() if t in self.columns and set(read) <= self.columns[t])

    def persons(self, rows: Iterable[dict[str, Any]], org_code: str) -> list[str | None]:
        """The person behind each record, where the asking institution keeps the archive or the patient's number."""
        found: list[str | None] = []
        for row in rows:  # one look-up a record: a request has few
            kind = "archive" if row.get("archive_id") else "patient"
            key = row.get("archive_id") or row.get("patient_local_id")
            one = None
            if key and self._con is not None:
                asked = f"EXECUTE who_{kind}({store.number(str(key))}::UBIGINT, {text(str(key))}, {text(org_code)})"
                one = self._con.execute(asked).fetchone()
            found.append(str(one[0]) if one else None)
        return found

    def rows(
        self, persons: Collection[str], reads: Mapping[str, Collection[str]], but: str, keys: Sequence[str]
    ) -> Rows:
        """The persons' rows per table.

        Args:
            reads: table -> columns that are wanted.
            but: the table whose records are being judged; their stored versions (``keys``, institution first) stay out.
        """
        found: Rows = {}
        if self._con is None or not persons:
            return found
        is_few = len(persons) <= _FEW  # each by a statement that was planned for one; many at once
        if is_few:
            groups = [f"{store.number(p)}::UBIGINT, {text(p)}" for p in sorted(persons)]
        else:
            numbers = ", ".join(str(store.number(p)) for p in sorted(persons))
            groups = [f"[{numbers}]::UBIGINT[], {list_sql(sorted(persons))}"]
        more = f", {list_sql(keys)}"
        for table, read in reads.items():
            if table not in self.columns:
                continue
            columns = sorted(set(read))
            look = self._look(table, columns, table == but, is_few)
            for group in groups:
                rows = self._con.execute(f"EXECUTE {look}({group}{more if table == but else ''})").fetchall()
                found.setdefault(table, []).extend(_plain(columns, row) for row in rows)
        return found

    def _look(self, table: str, columns: Sequence[str], is_judged: bool, is_one: bool) -> str:
        """The prepared look-up of columns of a table, made at its first use."""
        at = (table, tuple(columns), is_judged, is_one)
        if at not in self._looks and self._con is not None:
            kinds = kinds_of(table)
            named = ", ".join(
                f"CAST({name(c)} AS VARCHAR)" if kinds[c] not in _AS_THEY_ARE else name(c) for c in columns
            )
            where = (
                "person_no = $1::UBIGINT AND person = $2::VARCHAR"
                if is_one
                else "person_no IN (SELECT unnest($1::UBIGINT[])) AND list_contains($2::VARCHAR[], person)"
            )
            if is_judged:
                parts = ", ".join(name(k) for k in ("org_code", *contract_tables()[table].key))
                where += f" AND NOT list_contains($3::VARCHAR[], concat_ws('|', {parts}))"
            look = f"look_{len(self._looks)}"
            self._con.execute(f"PREPARE {look} AS SELECT {named} FROM {name(table)} WHERE {where}")
            self._looks[at] = look
        return self._looks[at]


#: SQL types whose Python values JSON takes.
_AS_THEY_ARE = ("VARCHAR", "BIGINT", "INTEGER", "BOOLEAN", "DOUBLE")


def _plain(columns: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """A row by column, without what is not there; JSON knows no infinity."""
    return {
        c: v
        for c, v in zip(columns, row, strict=True)
        if v is not None and not (isinstance(v, float) and not math.isfinite(v))
    }


def list_sql(values: Sequence[str]) -> str:
    """A list of texts as a SQL literal."""
    return "[" + ", ".join(text(v) for v in values) + "]"
