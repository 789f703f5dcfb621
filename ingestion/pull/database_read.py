"""Reading a source database: read-only, with a time limit a statement, streamed as Arrow text in bounded memory.

PostgreSQL through ADBC, one repeatable-read transaction for all of a run. MariaDB and MySQL through connectorx page
by page (its stream would run ahead of us without bound), each page one consistent read; a whole snapshot through
one transaction ``WITH CONSISTENT SNAPSHOT``. Anything else that SQLAlchemy can reach (SQL Server, Oracle) through
its own driver.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, Protocol
from urllib.parse import quote

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.pool import NullPool

from ingestion.pull.database_sources import Extract, Source
from ingestion.pull.database_sql import KEY, WATERMARK, Frontier, Relation
from lake.errors import MedlakeError

#: Rows of one Arrow batch.
BATCH_ROWS = 5_000


class Reader(Protocol):
    """One run's view of a source."""

    def row(self, query: sa.Select[Any]) -> tuple[Any, ...]: ...

    def snapshot(self, relation: Relation) -> Iterator[pa.RecordBatch]:
        """Every row, of one moment."""

    def unmarked(self, relation: Relation) -> Iterator[pa.RecordBatch]: ...

    def since(
        self, relation: Relation, extract: Extract, frontier: Frontier | None, bound: Any
    ) -> Iterator[pa.RecordBatch]: ...


def engine_of(source: Source) -> sa.Engine:
    """A SQLAlchemy engine without a pool; every connection of it is told to read only."""
    options: dict[str, Any] = {}
    if source.kind in ("postgresql", "mysql"):
        options["connect_timeout"] = 10
    made = sa.create_engine(source.url, poolclass=NullPool, connect_args=options)
    settings = _session_settings(source)
    if settings:

        @sa.event.listens_for(made, "connect")
        def _prepare(connection: Any, _record: Any) -> None:
            with connection.cursor() as cursor:
                for statement in settings:
                    cursor.execute(statement)
            connection.commit()

    return made


def _session_settings(source: Source) -> list[str]:
    seconds = source.query_timeout_seconds
    if source.kind == "postgresql":
        return [
            f"SET statement_timeout = {seconds * 1000}",
            "SET default_transaction_read_only = on",
            "SET default_transaction_isolation = 'repeatable read'",
            "SET TimeZone = 'UTC'",
            "SET DateStyle = 'ISO'",
            "SET IntervalStyle = 'iso_8601'",
            "SET extra_float_digits = 1",
        ]
    if source.kind == "mysql":
        return [
            f"SET SESSION max_statement_time = {seconds}",
            "SET SESSION TRANSACTION READ ONLY",
            "SET time_zone = '+00:00'",
            "SET NAMES utf8mb4",
        ]
    return []


def sql_text(query: sa.Select[Any], kind: str) -> str:
    """The statement with its literals in it, for drivers that take no SQLAlchemy objects."""
    dialect = postgresql.dialect if kind == "postgresql" else mysql.dialect
    made = query.compile(dialect=dialect(paramstyle="named"), compile_kwargs={"literal_binds": True})  # type: ignore[no-untyped-call]
    return str(made)


def _plain(value: Any) -> str | None:
    """A driver's value as exact text. Databases other than the two cast on our side."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return value.isoformat(sep="T" if value.tzinfo else " ")
    if isinstance(value, bytes | memoryview):
        import base64

        return base64.b64encode(bytes(value)).decode()
    return value.isoformat() if isinstance(value, date) else str(value)


class _Generic:
    """Through SQLAlchemy and the database's own driver, with a server-side cursor."""

    def __init__(self, source: Source, engine: sa.Engine, connection: sa.Connection) -> None:
        self.source, self.engine, self.connection = source, engine, connection

    def row(self, query: sa.Select[Any]) -> tuple[Any, ...]:
        return tuple(self.connection.execute(query).one())

    def _stream(self, query: sa.Select[Any]) -> Iterator[pa.RecordBatch]:
        """The loop over values is the driver's price: it gives tuples, not Arrow."""
        names = [c.name for c in query.selected_columns]
        streaming = self.connection.execution_options(stream_results=True, max_row_buffer=BATCH_ROWS)
        with streaming.execute(query) as found:
            while rows := found.fetchmany(BATCH_ROWS):
                columns = [
                    pa.array([_plain(v) for v in column], pa.string()) for column in zip(*rows, strict=True)
                ]
                yield pa.record_batch(columns, names)

    def snapshot(self, relation: Relation) -> Iterator[pa.RecordBatch]:
        yield from self._stream(relation.everything())

    def unmarked(self, relation: Relation) -> Iterator[pa.RecordBatch]:
        yield from self._stream(relation.unmarked())

    def since(
        self, relation: Relation, extract: Extract, frontier: Frontier | None, bound: Any
    ) -> Iterator[pa.RecordBatch]:
        yield from self._stream(relation.since(frontier, bound))


class _MySQL(_Generic):
    def _uri(self) -> str:
        url = self.source.url
        user, word = quote(url.username or "", safe=""), quote(str(url.password or ""), safe="")
        return f"mysql://{user}:{word}@{url.host}:{url.port or 3306}/{quote(url.database or '', safe='')}"

    def since(
        self, relation: Relation, extract: Extract, frontier: Frontier | None, bound: Any
    ) -> Iterator[pa.RecordBatch]:
        """Pages by keyset: each begins after the last row of the one before."""
        import connectorx

        keys = len(relation.contract.key)
        while True:
            query = sql_text(relation.since(frontier, bound, extract.chunk_rows), "mysql")
            page = connectorx.read_sql(
                self._uri(), query, return_type="arrow", pre_execution_query=_session_settings(self.source)
            )
            yield from page.to_batches(max_chunksize=BATCH_ROWS)
            if page.num_rows < extract.chunk_rows:
                return
            last = page.slice(page.num_rows - 1).to_pylist()[0]
            frontier = Frontier(last[WATERMARK], tuple(last[f"{KEY}{i}"] for i in range(keys)))


class _PostgreSQL(_Generic):
    def __init__(self, source: Source, engine: sa.Engine, connection: sa.Connection, cursor: Any) -> None:
        super().__init__(source, engine, connection)
        self.cursor = cursor

    def _stream(self, query: sa.Select[Any]) -> Iterator[pa.RecordBatch]:
        self.cursor.execute(sql_text(query, "postgresql"))
        yield from self.cursor.fetch_record_batch()


@contextmanager
def _adbc(source: Source) -> Iterator[Any]:
    from adbc_driver_postgresql import dbapi

    uri = source.url.set(drivername="postgresql").update_query_dict({"connect_timeout": "10"})
    with (
        dbapi.connect(uri.render_as_string(hide_password=False)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(8 << 20)})
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for statement in _session_settings(source):
            if "default_transaction" not in statement:
                cursor.execute(statement)
        yield cursor


@contextmanager
def opened(source: Source) -> Iterator[tuple[Reader, sa.Engine]]:
    """A reader of the source and the engine to look its relations up with.

    Raises:
        MedlakeError: E275, the source cannot be reached or a statement failed. What a driver says is not passed on:
            it may quote a value or the password.
    """
    engine = engine_of(source)
    try:
        with engine.connect() as connection:
            if source.kind == "postgresql":
                with _adbc(source) as cursor:
                    yield _PostgreSQL(source, engine, connection, cursor), engine
            elif source.kind == "mysql":
                connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT")
                yield _MySQL(source, engine, connection), engine
            else:
                yield _Generic(source, engine, connection), engine
    except (MedlakeError, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # connectorx raises a panic that is no Exception
        if not is_database_error(error):
            raise
        raise MedlakeError("E275", place=source.name, detail=_kind_of(error)) from None
    finally:
        engine.dispose()


def is_database_error(error: BaseException) -> bool:
    """Whether an exception comes from a driver."""
    module = type(error).__module__
    return module.startswith(("sqlalchemy", "adbc_driver", "pyo3_runtime", "psycopg", "pymysql")) or (
        (isinstance(error, OSError) and "libpq" in str(error)) or "MySqlError" in str(error)
    )


def _kind_of(error: BaseException) -> str:
    """What went wrong in words of ours: a driver's message may quote values."""
    text = str(error).lower()
    for kind, signs in (
        ("query timeout", ("timeout", "max_statement_time", "timed out")),
        ("login refused", ("access denied", "authentication failed", "no pg_hba")),
        (
            "not reachable",
            (
                "connection refused",
                "can't connect",
                "could not translate",
                "unknown mysql server",
                "connect to",
            ),
        ),
        ("no permission", ("permission denied", "command denied")),
        ("no such database", ("does not exist", "unknown database")),
        ("replica conflict", ("conflict with recovery",)),
        (
            "connection lost",
            ("lost connection", "server closed", "terminating connection", "gone away", "broken pipe"),
        ),
    ):
        if any(sign in text for sign in signs):
            return kind
    return type(error).__name__
