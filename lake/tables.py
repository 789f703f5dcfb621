"""Delta tables by name (``silver/person``, ``bronze/his/patient``): create, append, merge, and the one way DuckDB reads them.

Never deletion vectors, never column mapping, instants tz-aware UTC: then a table is exactly its Parquet files,
and DuckDB reads those without an extension. A write may carry ``txn=(app_id, number)``: a Delta application
transaction, so that a step which is killed and run again skips what it has already written.
"""

from __future__ import annotations

import errno
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from lake import amended, kill
from lake.errors import MedlakeError
from lake.settings import settings

Data: TypeAlias = pa.Table | pa.RecordBatchReader
Txn: TypeAlias = tuple[str, int]

_ATTEMPTS = 8
_STORAGE_ATTEMPTS = 4
#: Row groups of this many rows: a writer holds one in memory, and a reader skips by it.
_WRITER = WriterProperties(max_row_group_size=128 * 1024)
#: Files of an appended table: a merge reads whole files, and a smaller one is less to hold.
_FILE_BYTES = 32 * 1024 * 1024
#: Rows merged at once. The memory of a merge is that of these and of the files that hold their keys.
_MERGE_ROWS = 125_000
#: A table with more small files than this is compacted; a file of this size is not small.
_MANY_FILES = 48
_SMALL_BYTES = 8 * 1024 * 1024
_DUCK_TYPES = {
    "string": "VARCHAR",
    "long": "BIGINT",
    "integer": "INTEGER",
    "short": "SMALLINT",
    "byte": "TINYINT",
    "double": "DOUBLE",
    "float": "FLOAT",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMPTZ",
    "binary": "BLOB",
}


def path(name: str) -> Path:
    """Folder of a table."""
    return settings().lake_dir / name


def restrict() -> None:
    """The lake is the restricted zone: it lies below home, which is the service account's alone."""
    settings().folder("lake")


def exists(name: str) -> bool:
    return (path(name) / "_delta_log").is_dir()


def open_table(name: str, version: int | None = None) -> DeltaTable:
    """The Delta table itself.

    Raises:
        MedlakeError: E103, it does not exist.
    """
    if not exists(name):
        raise MedlakeError("E103", table=name)
    kill.storage("read", name)
    return DeltaTable(str(path(name)), version=version)


def version(name: str) -> int:
    """The table's newest version (committed by Delta; whether it is *visible* is the ledger's to say)."""
    return int(open_table(name).version())


def names(prefix: str = "") -> list[str]:
    """Names of all tables below a prefix such as ``silver/``."""
    root = settings().lake_dir
    logs = sorted((root / prefix).rglob("_delta_log")) if (root / prefix).is_dir() else []
    return [str(p.parent.relative_to(root)) for p in logs]


@lru_cache(maxsize=512)
def _columns(root: str, at: int) -> tuple[str, ...]:
    return tuple(f.name for f in DeltaTable(root, version=at).schema().fields if not amended.is_own(f.name))


def columns(name: str, at: int | None = None) -> tuple[str, ...]:
    """Names of a table's columns at a version (default: newest)."""
    return _columns(str(path(name)), version(name) if at is None else at)


def read(name: str, at: int | None = None) -> Any:
    """A pyarrow dataset of the table at a version (default: newest)."""
    return open_table(name, at).to_pyarrow_dataset()


def files(name: str, at: int | None = None) -> list[dict[str, Any]]:
    """Path, rows and bytes of each data file at a version."""
    actions = pa.table(open_table(name, at).get_add_actions(flatten=True))
    wanted = [c for c in ("path", "size_bytes", "num_records") if c in actions.column_names]
    return actions.select(wanted).to_pylist()


def bounds(name: str, column: str, at: int | None = None) -> pa.Table:
    """``path``, ``low`` and ``high``: what each data file announces of a column; nulls where it announces nothing."""
    actions = pa.table(open_table(name, at).get_add_actions(flatten=True))
    told = [f"{side}.{column}" for side in ("min", "max")]
    columns = [actions[c] if c in actions.column_names else pa.nulls(len(actions), pa.string()) for c in told]
    return pa.table([actions["path"], *columns], ["path", "low", "high"])


def column_types(name: str, at: int | None = None) -> dict[str, str]:
    """Columns of a table and their DuckDB types, at a version (default: newest)."""
    return _column_types(open_table(name, at))


def _column_types(table: DeltaTable) -> dict[str, str]:
    return {
        f.name: _DUCK_TYPES.get(getattr(f.type, "type", ""), "VARCHAR")
        for f in table.schema().fields
        if not amended.is_own(f.name)
    }


def row_count(name: str, at: int | None = None) -> int:
    return sum(int(f.get("num_records") or 0) for f in files(name, at))


def _commit(txn: Txn | None) -> CommitProperties | None:
    return CommitProperties(app_transactions=[Transaction(txn[0], txn[1])]) if txn else None


def done(name: str, txn: Txn | None) -> bool:
    """Whether a write with this transaction is already in the table."""
    if txn is None or not exists(name):
        return False
    seen = open_table(name).transaction_version(txn[0])
    return seen is not None and seen >= txn[1]


def _is_conflict(error: Exception) -> bool:
    """Whether somebody else committed first (Delta says so in words only)."""
    text = str(error).lower()
    return not isinstance(error, OSError) and any(w in text for w in ("concurrent", "commit", "transaction"))


def storing(
    name: str, txn: Txn | None, write: Callable[[], Any], *, whole: bool = True, repeats: bool = False
) -> None:
    """One write to storage, tried again where storage failed or another writer came first.

    An error does not say that nothing landed (an answer may be lost on its way), so each one is first held against
    the table: a write that is found there by its transaction is done.

    Args:
        whole: its rows are at hand. Those of a reader are used up by the first attempt: a second one would put in
            nothing and call that done.
        repeats: doing it twice ends where doing it once does. Without this and without a transaction nobody could tell
            whether it landed, and a storage error is the caller's.

    Raises:
        MedlakeError: E108, others came first too often.
    """
    for attempt in range(_ATTEMPTS):
        try:
            kill.storage("before", name)
            write()
            kill.storage("after", name)
            return
        except (CommitFailedError, DeltaError, OSError) as error:
            conflict = _is_conflict(error)
            if not conflict and not isinstance(error, OSError):
                raise
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise
            if done(name, txn):
                return
            last = not whole or attempt + 1 >= (_ATTEMPTS if conflict else _STORAGE_ATTEMPTS)
            if conflict and last:
                raise MedlakeError("E108", table=name) from error
            if not conflict and (last or (txn is None and not repeats)):
                raise
            time.sleep((0.05 if conflict else 0.02) * 2**attempt * (0.5 + random.random()))


def append(name: str, data: Data, *, txn: Txn | None = None, partition_by: list[str] | None = None) -> int:
    """Append rows, creating the table at first; new columns are added to an old table. Returns the version."""
    if not done(name, txn):
        restrict()

        def write() -> None:
            write_deltalake(
                str(path(name)),
                data,
                mode="append",
                partition_by=partition_by,
                schema_mode="merge" if exists(name) else None,
                target_file_size=_FILE_BYTES,
                writer_properties=_WRITER,
                commit_properties=_commit(txn),
            )

        storing(name, txn, write, whole=not isinstance(data, pa.RecordBatchReader))
    return version(name)


def overwrite(name: str, data: Data, *, txn: Txn | None = None) -> int:
    """Replace the whole content in one commit. Returns the version."""
    if not done(name, txn):
        restrict()

        def write() -> None:
            write_deltalake(
                str(path(name)),
                data,
                mode="overwrite",
                schema_mode="overwrite" if exists(name) else None,
                commit_properties=_commit(txn),
            )

        storing(name, txn, write, whole=not isinstance(data, pa.RecordBatchReader), repeats=True)
    return version(name)


def merge(
    name: str, data: Data, *, key: Iterable[str], newer: str | None = None, txn: Txn | None = None
) -> int:
    """Upsert by key, creating the table at first. Returns the version.

    Args:
        key: columns that identify a row; ``data`` must hold each key once. Rows in the order of the key are merged
            cheapest: they go in by the hundred thousand, and each part reads only the files that its keys lie in.
        newer: predicate on ``s`` (new) and ``t`` (present) that must hold for an update, such as
            ``s.source_updated_at >= t.source_updated_at``; without it the new row always wins.
    """
    if done(name, txn):
        return version(name)
    if not exists(name):
        return append(name, data, txn=txn)
    predicate = " AND ".join(f't."{k}" = s."{k}"' for k in key)
    for chunk, last in _chunks(data):
        # only the last one carries the transaction: a merge that was killed runs again from the first, to the same end
        storing(name, txn, _merging(name, chunk, predicate, newer, txn if last else None), repeats=True)
    return version(name)


def _merging(
    name: str, source: pa.Table, predicate: str, newer: str | None, txn: Txn | None
) -> Callable[[], None]:
    def write() -> None:
        merger = open_table(name).merge(
            source,
            predicate,
            source_alias="s",
            target_alias="t",
            merge_schema=True,  # a contract may have gained a column
            streamed_exec=False,  # the chunk's bounds then tell which files to read at all
            writer_properties=_WRITER,
            commit_properties=_commit(txn),
        )
        merger.when_matched_update_all(predicate=newer).when_not_matched_insert_all().execute()

    return write


def _chunks(data: Data) -> Iterator[tuple[pa.Table, bool]]:
    """Rows in tables of at most ``_MERGE_ROWS``, each with whether it is the last one."""
    batches = data if isinstance(data, pa.RecordBatchReader) else iter(data.to_batches(_MERGE_ROWS))
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if waiting and rows + batch.num_rows > _MERGE_ROWS:
            yield pa.Table.from_batches(waiting), False
            waiting, rows = [], 0
        waiting.append(batch)
        rows += batch.num_rows
    yield pa.Table.from_batches(waiting, data.schema), True


def compact(name: str) -> bool:
    """Rewrite a table's many small files as few; the content stays, and old versions stay readable.

    Files of the size that ``append`` makes are left as they are: each row is rewritten a few times in its life.
    Returns whether there was anything to do.
    """
    small = sum(int(f.get("size_bytes") or 0) < _SMALL_BYTES for f in files(name))
    if small <= _MANY_FILES:
        return False
    storing(name, None, lambda: open_table(name).optimize.compact(target_size=_FILE_BYTES), repeats=True)
    return True


def restore(name: str, to_version: int) -> int:
    """Bring the content of an older version back as a new version. Doing it again ends at the same content."""
    if version(name) != to_version:
        storing(name, None, lambda: open_table(name).restore(to_version), repeats=True)
    return version(name)


def drop(name: str) -> None:
    """Remove a table that was created by a batch which failed. Nothing else may call it.

    Its log goes first: half a removal is no table. What was read of it is forgotten, since its versions start anew.
    """

    def remove() -> None:
        shutil.rmtree(path(name) / "_delta_log", ignore_errors=True)
        shutil.rmtree(path(name), ignore_errors=True)
        _scan.cache_clear()
        _columns.cache_clear()

    storing(name, None, remove, repeats=True)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@lru_cache(maxsize=512)
def _scan(root: str, at: int) -> str:
    table = DeltaTable(root, version=at)
    protocol = table.protocol()
    features = set(protocol.reader_features or []) | set(protocol.writer_features or [])
    mapped = table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none"
    if bad := (features & {"deletionVectors"}) | ({"columnMapping"} if mapped else set()):
        raise MedlakeError("E104", table=root, features=", ".join(sorted(bad)))
    columns = _column_types(table)
    uris = table.file_uris()
    if not uris:
        empty = ", ".join(f'NULL::{kind} AS "{column}"' for column, kind in columns.items())
        return f"(SELECT {empty} WHERE false)"
    if (key := amended.key_of(table.metadata().partition_columns)) is not None:
        return amended.scan(uris, key, columns)
    listed = ", ".join(_quote(u) for u in uris)
    if not table.metadata().partition_columns:
        return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
    picked = ", ".join(f'"{column}"::{kind} AS "{column}"' for column, kind in columns.items())
    scan = f"read_parquet([{listed}], union_by_name = true, hive_partitioning = true, hive_types_autocast = false)"
    return f"(SELECT {picked} FROM {scan})"


def changes_sql(name: str, old: int, new: int) -> tuple[str, str] | None:
    """FROM texts of the data files that only version ``new`` has, and of those that only ``old`` had ("" for none).

    A row that differs between the versions lies in one of them; a row that was merely rewritten lies in both. None
    where they cannot be told apart so: other columns, partitions, or a file of ``old`` that is no longer on disk.
    """
    before, after = open_table(name, old), open_table(name, new)
    if before.metadata().partition_columns or columns(name, old) != columns(name, new):
        return None
    old_files, new_files = set(before.file_uris()), set(after.file_uris())
    gone = sorted(old_files - new_files)
    if not all(Path(uri.removeprefix("file://")).exists() for uri in gone):
        return None
    texts = []
    for uris in (sorted(new_files - old_files), gone):
        listed = ", ".join(_quote(u) for u in uris)
        texts.append(
            f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)" if uris else ""
        )
    return texts[0], texts[1]


def scan_sql(name: str, at: int | None = None) -> str:
    """SQL text that stands for the table in a FROM clause, at a version (default: newest).

    Raises:
        MedlakeError: E103 no such table; E104 its protocol cannot be read as plain files.
    """
    return _scan(str(path(name)), version(name) if at is None else at)
