"""What to ask a source database: its columns as exact text, rows after a frontier, in a defined order.

The database itself writes every value as text, so nothing is rounded on the way: decimals keep their digits,
instants come in UTC with a ``Z``, date-times without a zone as they stand, bytes in base64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.sql.elements import ColumnElement

from ingestion.pull.database_sources import Extract, Source
from lake.contracts import TableContract
from lake.errors import MedlakeError

#: Columns that travel along and are not the source's: the watermark, whether it is settled, the key's parts.
WATERMARK, SETTLED, KEY = "_watermark", "_settled", "_key_"

_BINARY = (sa.LargeBinary, sa.types._Binary)


@dataclass(frozen=True)
class Frontier:
    """Up to where everything is read: the watermark and, within it, the key. Both are the database's own text."""

    watermark: str
    key: tuple[str, ...]


@dataclass(frozen=True)
class Relation:
    """A table or view as found in the source. ``fields``: contract field -> column; ``others``: the rest."""

    kind: str
    contract: TableContract
    table: sa.Table
    fields: dict[str, str]
    others: tuple[str, ...]
    watermark: str | None
    zone_free: tuple[str, ...]  # output columns that hold date-times without a zone

    @property
    def columns(self) -> dict[str, str]:
        """Column -> type, as the database says."""
        return {c.name: str(c.type) for c in self.table.columns}

    @property
    def output(self) -> list[str]:
        """Names in the drop file: the contract's source names, then the unknown columns under their own."""
        return [self.contract.field(f).physical_name for f in self.fields] + list(self.others)

    @property
    def key_output(self) -> list[str]:
        return [self.contract.field(f).physical_name for f in self.contract.key]

    def _texts(self) -> list[ColumnElement[Any]]:
        pairs = [*zip(self.output, [*self.fields.values(), *self.others], strict=True)]
        return [text_of(self.table.c[column], self.kind).label(name) for name, column in pairs]

    def everything(self) -> sa.Select[Any]:
        return sa.select(*self._texts())

    def _keys(self) -> list[sa.Column[Any]]:
        return [self.table.c[self.fields[f]] for f in self.contract.key]

    def since(self, frontier: Frontier | None, bound: Any, limit: int | None = None) -> sa.Select[Any]:
        """Rows strictly after the frontier in the order of watermark and key.

        Args:
            bound: watermarks up to here are settled: no row with one can still be committed.
        """
        mark = self._mark()
        settled = sa.case((mark <= sa.literal(bound, mark.type), "1"), else_=sa.null()).label(SETTLED)
        hidden = [
            plain_text(column, self.kind).label(name)
            for name, column in [(WATERMARK, mark), *((f"{KEY}{i}", k) for i, k in enumerate(self._keys()))]
        ]
        order = [comparable(c, self.kind) for c in (mark, *self._keys())]
        query = sa.select(*self._texts(), *hidden, settled).where(mark.is_not(None)).order_by(*order)
        if frontier is not None:
            query = query.where(_after([mark, *self._keys()], [frontier.watermark, *frontier.key], self.kind))
        return query.limit(limit) if limit else query

    def unmarked(self) -> sa.Select[Any]:
        """Rows whose watermark is null: no frontier covers them, so they are read every time."""
        return sa.select(*self._texts()).where(self._mark().is_(None))

    def newest(self) -> sa.Select[Any]:
        """The largest watermark and the database's clock (``local_now`` reads it), in one row."""
        mark = self._mark()
        clock = sa.type_coerce(sa.func.current_timestamp(), sa.DateTime(timezone=self.kind == "postgresql"))
        return sa.select(sa.func.max(mark), clock if is_temporal(mark) else sa.null())

    def local_now(self, now: datetime | None, zone: str) -> Any:
        """The database's clock as its watermark counts: with or without a zone, or as a date; None if it is a number."""
        if now is None:
            return None
        if self.kind == "mysql":  # the session's zone is UTC, and so are its TIMESTAMPs
            now = now.replace(tzinfo=UTC)
            if _zoned(self._mark()):
                return now.replace(tzinfo=None)
        if now.tzinfo is not None and not _zoned(self._mark()):
            now = now.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        return now if isinstance(self._mark().type, sa.DateTime) else now.date()

    def _mark(self) -> sa.Column[Any]:
        assert self.watermark is not None
        return self.table.c[self.watermark]


def is_temporal(column: sa.Column[Any]) -> bool:
    return isinstance(column.type, sa.Date | sa.DateTime)


def _zoned(column: sa.Column[Any]) -> bool:
    return isinstance(column.type, mysql.TIMESTAMP) or bool(getattr(column.type, "timezone", False))


def plain_text(column: sa.Column[Any], kind: str) -> ColumnElement[Any]:
    """The value as the database writes it; ``native`` reads it back."""
    if kind == "postgresql":
        return sa.cast(column, sa.Text)
    return sa.cast(column, sa.CHAR) if kind == "mysql" else column


def text_of(column: sa.Column[Any], kind: str) -> ColumnElement[Any]:
    """The value as exact text for the drop file. Other databases than these two give values, not text."""
    if kind == "postgresql":
        if isinstance(column.type, sa.DateTime) and _zoned(column):
            utc = sa.func.to_char(column, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            return sa.case((sa.func.isfinite(column), utc), else_=sa.cast(column, sa.Text))
        if isinstance(column.type, _BINARY):
            return sa.func.translate(sa.func.encode(column, "base64"), "\n", "")
        if isinstance(column.type, postgresql.ARRAY):
            return sa.cast(sa.func.to_json(column), sa.Text)
    if kind == "mysql":
        if isinstance(column.type, mysql.TIMESTAMP):
            return sa.func.date_format(column, "%Y-%m-%dT%H:%i:%s.%fZ")
        if isinstance(column.type, mysql.BIT):
            return sa.cast(column + 0, sa.CHAR)
        if isinstance(column.type, _BINARY):
            return sa.func.replace(sa.func.to_base64(column), "\n", "")
    return plain_text(column, kind)


def native(column: sa.Column[Any], text: str) -> Any:
    """The Python value of a text that the database wrote for a column."""
    kind = column.type
    if isinstance(kind, sa.DateTime):
        return datetime.fromisoformat(text)
    if isinstance(kind, sa.Date):
        return date.fromisoformat(text[:10])
    if isinstance(kind, sa.Integer):
        return int(text)
    return Decimal(text) if isinstance(kind, sa.Numeric) else text


def comparable(column: sa.Column[Any], kind: str) -> ColumnElement[Any]:
    """The column in a form that can be ordered and compared with a literal."""
    known = (sa.DateTime, sa.Date, sa.Integer, sa.Numeric, sa.String)
    return column if isinstance(column.type, known) else plain_text(column, kind)


def _after(columns: Sequence[sa.Column[Any]], texts: Sequence[str], kind: str) -> ColumnElement[bool]:
    """``(a, b, c) > (x, y, z)`` written out, with ``a >= x`` in front so that an index on ``a`` serves."""
    sides = [
        (compared := comparable(c, kind), sa.literal(native(c, t) if compared is c else t, compared.type))
        for c, t in zip(columns, texts, strict=True)
    ]
    later: ColumnElement[bool] = sides[-1][0] > sides[-1][1]
    for left, right in reversed(sides[:-1]):
        later = sa.or_(left > right, sa.and_(left == right, later))
    return sa.and_(sides[0][0] >= sides[0][1], later)


def settled_bound(newest: Any, now: Any, overlap: float) -> Any:
    """Up to which watermark nothing can come any more.

    A row is committed at most ``overlap`` after its watermark, by the database's clock or, where a replica lags
    behind it, by the newest row. A watermark in the future (a wrong clock) moves nothing. A day is not over before
    the next one is.
    """
    last = newest if now is None else min(newest, now)
    if isinstance(last, datetime):
        return last - timedelta(seconds=overlap)
    if isinstance(last, date):
        return last - timedelta(days=1 + math.ceil(overlap / 86_400))
    return last - type(last)(overlap)


def find(engine: sa.Engine, source: Source, extract: Extract) -> Relation:
    """Look the relation up in the source and match its columns.

    Raises:
        MedlakeError: E276, the relation, a named column or a column of the key is not there.
    """
    place = f"{source.name}.{extract.table.name}"
    schema, _, name = extract.relation.rpartition(".")
    try:
        table = sa.Table(name, sa.MetaData(), schema=schema or None, autoload_with=engine, resolve_fks=False)
    except sa.exc.NoSuchTableError:
        raise MedlakeError("E276", place=place, gone=extract.relation, new="—") from None
    folded = {c.name.upper(): c.name for c in table.columns}
    fields: dict[str, str] = {}
    gone: list[str] = []
    for f in extract.table.fields:
        named = extract.columns.get(f.name) or extract.columns.get(f.physical_name)
        column = next(
            (folded[n.upper()] for n in (named or f.physical_name, named or f.name) if n.upper() in folded),
            "",
        )
        if column:
            fields[f.name] = column
        elif named or f.is_key:
            gone.append(named or f.physical_name)
    if extract.watermark and extract.watermark.upper() not in folded:
        gone.append(extract.watermark)
    others = tuple(c.name for c in table.columns if c.name not in fields.values())
    if gone:
        raise MedlakeError("E276", place=place, gone="、".join(gone), new="、".join(others) or "—")
    naive = [c for c in table.columns if isinstance(c.type, sa.DateTime) and not _zoned(c)]
    found = Relation(
        kind=source.kind,
        contract=extract.table,
        table=table,
        fields=fields,
        others=others,
        watermark=folded[extract.watermark.upper()] if extract.watermark else None,
        zone_free=(),
    )
    columns = dict(zip([*fields.values(), *others], found.output, strict=True))
    return Relation(**{**found.__dict__, "zone_free": tuple(columns[c.name] for c in naive)})
