"""The lake before and now, cut down to the records that a change concerns, each a catalog of its own in one DuckDB.

A cut-down lake holds the same records on both sides: those that changed, those of a resident whose archive or index entry
changed, for rules by person everything of the persons concerned (of old and new ones), and the archives that all these
name. What the engine counts on one side less the other is then what the change did to the counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from lake import duck, tables
from lake.contracts import table_contract
from quality import prepare
from quality.compile import name
from quality.incremental import changed
from quality.incremental.changed import Touched

_ARCHIVE = "ph_archive"


class World:
    """One side: a connection whose ``silver.<table>`` are at its versions, and ``flags_<side>`` for its flags."""

    def __init__(self, main: duckdb.DuckDBPyConnection, side: str, versions: Mapping[str, int]) -> None:
        self.versions = {n: v for n, v in versions.items() if n.startswith("silver/")}
        self.flags = f"flags_{side}"
        main.execute(f"CREATE SCHEMA {self.flags}")
        main.execute(f"ATTACH ':memory:' AS side_{side}")
        self.connection = main.cursor()
        self.connection.execute("SET TimeZone = 'UTC'")
        self.connection.execute(f"USE side_{side}")
        self.connection.execute("CREATE SCHEMA silver")
        duck.create_views(self.connection, self.versions)

    def has(self, table: str) -> bool:
        return f"silver/{table}" in self.versions

    def cut(self, table: str, condition: str) -> None:
        """Leave only the rows of a table (``t``) that a condition holds for."""
        full = f"silver/{table}"
        at = self.versions[full]
        present = "NOT coalesce(t.is_deleted, false) AND" if "is_deleted" in tables.columns(full, at) else ""
        self.connection.execute(
            f"CREATE OR REPLACE VIEW silver.{name(table)} AS "
            f"SELECT t.* FROM {tables.scan_sql(full, at)} AS t WHERE {present} ({condition})"
        )


class Worlds:
    """Both sides, and in the main catalog what the change concerns.

    ``near_<table>`` (full keys of records), ``near_archive``, ``near_patient``, ``near_person``.
    """

    def __init__(
        self, main: duckdb.DuckDBPyConnection, before: Mapping[str, int], now: Mapping[str, int]
    ) -> None:
        row = main.execute("SELECT current_database()").fetchone()
        assert row is not None
        self._main, self._catalog = main, f"{name(row[0])}.main"
        self.before, self.now = World(main, "before", before), World(main, "now", now)

    @property
    def sides(self) -> tuple[World, World]:
        return self.before, self.now

    def flags_of(self, side: World) -> str:
        """The schema of a side's flags, as any side names it."""
        return f"{self._catalog.removesuffix('.main')}.{side.flags}"

    def close(self) -> None:
        for side in self.sides:
            side.connection.close()

    def _shared(self, table: str) -> str:
        return f"{self._catalog}.{name(table)}"

    def _fill(self, shared: str, sql: str, of: str) -> None:
        """Add the answers of the sides that have a table to a shared table."""
        for side in self.sides:
            if side.has(of):
                side.connection.execute(f"INSERT INTO {self._shared(shared)} {sql}")

    def _make(self, shared: str, sql: str) -> None:
        self._main.execute(f"CREATE TABLE {self._shared(shared)} AS {sql}")

    def _is_empty(self, shared: str) -> bool:
        return self._main.execute(f"SELECT 1 FROM {self._shared(shared)} LIMIT 1").fetchone() is None

    def _count(self, shared: str) -> int:
        row = self._main.execute(f"SELECT count(*) FROM {self._shared(shared)}").fetchone()
        return int(row[0]) if row else 0

    def take(self, concerned: set[str], entries: str) -> None:
        """Find whose the changed records (``changed.find``) and index entries (``changed.entries``) are."""
        for table in sorted(concerned):
            self._make(f"near_{table}", f"FROM {changed.touched_table(table)}")
        self._make("moved", entries)
        self._make(
            "near_archive",
            "SELECT identifier_value AS archive_id FROM moved WHERE source_system = 'public_health'",
        )
        self._make("near_patient", "SELECT org_code, identifier_value FROM moved WHERE source_system = 'his'")
        if _ARCHIVE in concerned:
            near = f"{self._shared('near_' + _ARCHIVE)} USING (org_code, archive_id)"
            self._fill("near_archive", f"SELECT archive_id FROM silver.ph_archive SEMI JOIN {near}", _ARCHIVE)
        for table in sorted(concerned):
            if condition := self._of_residents(table):
                self._add(table, f"silver.{name(table)}", condition)

    def _of_residents(self, table: str) -> str:
        """Condition on a record (``t``): its resident's archive or index entry changed. Empty: none can have."""
        columns = table_contract(table).silver_columns
        parts = []
        if "archive_id" in columns and not self._is_empty("near_archive"):
            parts.append(f"t.archive_id IN (SELECT archive_id FROM {self._shared('near_archive')})")
        if "patient_local_id" in columns and not self._is_empty("near_patient"):
            org = (
                "coalesce(t.requesting_org_code, t.org_code)"
                if "requesting_org_code" in columns
                else "t.org_code"
            )
            parts.append(
                f"EXISTS (SELECT 1 FROM {self._shared('near_patient')} AS n WHERE n.org_code = {org} "
                "AND n.identifier_value = t.patient_local_id)"
            )
        return " OR ".join(parts)

    def _add(self, table: str, rows: str, condition: str) -> None:
        """Add to what is near the rows (``t``) of a table, on either side, that a condition holds for."""
        keys = ", ".join(f"t.{name(k)}" for k in table_contract(table).full_key)
        self._fill(f"near_{table}", f"SELECT DISTINCT {keys} FROM {rows} AS t WHERE {condition}", table)

    def widen(self, concerned: set[str]) -> None:
        """Add everything of the persons concerned, of those a record was of before as of those it is of now."""
        of_persons = sorted(
            t for t in concerned if {"archive_id", "patient_local_id"} & set(table_contract(t).silver_columns)
        )
        for side in self.sides:
            prepare.crosswalk(side.connection, prepare.held_columns(side.connection))
        self._make("near_person", "SELECT NULL::VARCHAR AS person_key WHERE false")
        for table in of_persons:
            keys = ", ".join(name(k) for k in table_contract(table).full_key)
            near = f"{_persons(table)} SEMI JOIN {self._shared('near_' + table)} USING ({keys})"
            self._fill("near_person", f"SELECT DISTINCT person_key FROM {near}", table)
        same = f"SELECT 1 FROM {self._shared('near_person')} AS n WHERE n.person_key IS NOT DISTINCT FROM t.person_key"
        for table in of_persons:
            self._add(table, _persons(table), f"EXISTS ({same})")

    def cut(self, concerned: set[str], touched: Mapping[str, Touched]) -> None:
        """Cut both sides down to what is near, with the archives and index entries that it names.

        Where no more is near than was touched, the new version is asked by batch: its reader then skips the other rows.
        """
        self._make("named_archive", "SELECT NULL::VARCHAR AS archive_id WHERE false")
        self._make("named_patient", "SELECT NULL::VARCHAR AS identifier_value WHERE false")
        for table in sorted(concerned):
            columns = table_contract(table).silver_columns
            keys = ", ".join(name(k) for k in table_contract(table).full_key)
            near = f"silver.{name(table)} SEMI JOIN {self._shared('near_' + table)} USING ({keys})"
            if "archive_id" in columns:
                self._fill("named_archive", f"SELECT DISTINCT archive_id FROM {near}", table)
            if "patient_local_id" in columns:
                self._fill("named_patient", f"SELECT DISTINCT patient_local_id FROM {near}", table)
        archives, patients = self._shared("named_archive"), self._shared("named_patient")
        for table in sorted(concerned | {_ARCHIVE}):
            if table == _ARCHIVE:
                condition = f"t.archive_id IN (SELECT archive_id FROM {archives})"
            else:
                same = " AND ".join(f"n.{name(k)} = t.{name(k)}" for k in table_contract(table).full_key)
                condition = f"EXISTS (SELECT 1 FROM {self._shared('near_' + table)} AS n WHERE {same})"
            known = touched.get(table, Touched(0))
            is_exact = table != _ARCHIVE and known.is_new and self._count(f"near_{table}") == known.count
            for side in self.sides:
                if side.has(table):
                    side.cut(table, known.is_new if is_exact and side is self.now else condition)
        named = (
            f"t.identifier_value IN (SELECT archive_id FROM {archives}) "
            f"OR t.identifier_value IN (SELECT identifier_value FROM {patients})"
        )
        for side in self.sides:
            if side.has("person_identifier"):
                side.cut("person_identifier", named)


def _persons(table: str) -> str:
    """FROM text of the full keys of a table's records with their ``person_key``."""
    columns = table_contract(table).silver_columns
    keys = ", ".join(f"s.{name(k)}" for k in table_contract(table).full_key)
    further, join = prepare.resident_columns(columns)
    return f"(SELECT {keys}, {further} FROM silver.{name(table)} AS s {join})"
