"""A file of any origin as the DuckDB table ``given``: its wanted columns, their types kept, and ``row_no``.

CSV is read as text by Arrow in batches, so the file is never in memory as a whole; a row with too many or too few columns is
left out and counted. No value of a row enters an error.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from empi.trial.mapping import Mapping
from lake.errors import MedlakeError

_PARQUET = (".parquet", ".pq")
_DELIMITERS = ",\t;|"
_BLOCK_BYTES = 16 << 20
#: Types that hold no single value.
_NO_VALUE = ("STRUCT", "MAP", "UNION", "BLOB", "BIT", "INTERVAL", "VARIANT")
#: So many rows with too many or too few columns are bad luck, more are another format.
_SKIP_ROWS, _SKIP_SHARE = 10, 0.01
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def _unreadable(path: Path, detail: str) -> MedlakeError:
    return MedlakeError("E370", place=str(path), detail=detail)


def encoding(path: Path) -> str:
    """``utf-8``, ``utf-16`` by its mark, else ``gb18030`` (which has GBK and GB2312 in it).

    Raises:
        MedlakeError: E370, the bytes are neither.
    """
    with path.open("rb") as file:
        start = file.read(4)
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    for name in ("utf-8", "gb18030"):
        decoder = codecs.getincrementaldecoder(name)()
        try:
            with path.open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    decoder.decode(block)
                decoder.decode(b"", True)
        except UnicodeDecodeError:
            continue
        return name
    raise _unreadable(path, "UTF-8, UTF-16, GB18030: ✗")


def _header(path: Path, code: str, delimiter: str, wanted: Sequence[str]) -> tuple[list[str], str]:
    """The header's names and the delimiter: the one that splits it into the most wanted names, then the most names."""
    with path.open(encoding=f"{code}-sig" if code == "utf-8" else code, newline="") as file:
        start = file.read(1 << 20)
    if not start.strip():
        raise _unreadable(path, "0 bytes, no header")
    best: tuple[int, int, list[str], str] | None = None
    for one in delimiter or _DELIMITERS:
        try:
            names = [n.strip() for n in next(csv.reader(io.StringIO(start), delimiter=one))]
        except (csv.Error, StopIteration):
            continue
        found = (sum(w in names for w in wanted), len(names), names, one)
        if best is None or found[:2] > best[:2]:
            best = found
    if best is None:
        raise _unreadable(path, "header")
    return best[2], best[3]


def _check(path: Path, present: Sequence[str], wanted: dict[str, str]) -> None:
    """Each wanted column (name -> key) is there, once."""
    for name, key in wanted.items():
        if (times := list(present).count(name)) != 1:
            named = name if not times else f"{name} ×{times}"
            raise MedlakeError(
                "E372", place=str(path), file=path.name, column=named, key=key, columns=", ".join(present)
            )


@dataclass(frozen=True)
class Column:
    """A column of ``given``: its own name there (no two files' names can clash with ours) and its DuckDB type."""

    name: str
    type: str


@dataclass
class Skipped:
    """Rows of a CSV file that have too many or too few columns: left out and told."""

    rows: int = 0

    def count(self, row: arrow_csv.InvalidRow) -> str:
        self.rows += max(1, row.text.count("\n"))  # a quote that is never closed swallows many
        return "skip"


def _csv(path: Path, mapping: Mapping, wanted: dict[str, str], skipped: Skipped) -> pa.RecordBatchReader:
    code = mapping.encoding or encoding(path)
    try:
        names, delimiter = _header(path, code, mapping.delimiter, list(wanted))
    except (LookupError, UnicodeError) as error:
        raise _unreadable(path, f"encoding {code}") from error
    _check(path, names, wanted)
    # a name may stand twice among the columns nobody asked for: columns go by their place
    places = [f"c{i}" for i in range(len(names))]
    chosen = {w: places[names.index(w)] for w in wanted}
    schema = pa.schema([("row_no", pa.int64()), *[(own, pa.string()) for own in _own(wanted).values()]])
    nulls = ["", *mapping.null_values]

    def batches() -> Iterator[pa.RecordBatch]:
        row = 2  # as a person counts who sees the header as line 1
        try:
            reader = arrow_csv.open_csv(
                path,
                arrow_csv.ReadOptions(
                    encoding=code, column_names=places, skip_rows_after_names=1, block_size=_BLOCK_BYTES
                ),
                arrow_csv.ParseOptions(
                    delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skipped.count
                ),
                arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(places, pa.string()),
                    include_columns=list(chosen.values()),
                    strings_can_be_null=True,
                    null_values=nulls,
                ),
            )
            for batch in reader:
                numbers = pa.array(np.arange(row, row + len(batch)))
                row += len(batch)
                yield pa.RecordBatch.from_arrays([numbers, *batch.columns], schema=schema)
        except (pa.ArrowException, UnicodeError) as error:  # their texts quote the row
            raise _unreadable(path, f"CSV, after row {row - 1}") from error

    return pa.RecordBatchReader.from_batches(schema, batches())


def _own(wanted: dict[str, str]) -> dict[str, str]:
    return {name: f"g{i}" for i, name in enumerate(wanted)}


def _parquet(
    connection: duckdb.DuckDBPyConnection, path: Path, mapping: Mapping, wanted: dict[str, str]
) -> str:
    source = "read_parquet(" + "'" + str(path).replace("'", "''") + "', file_row_number = true)"
    try:
        found = connection.execute(f"DESCRIBE SELECT * EXCLUDE (file_row_number) FROM {source}").fetchall()
    except duckdb.Error as error:
        raise _unreadable(path, "Parquet") from error
    _check(path, [row[0] for row in found], wanted)
    types = {row[0]: str(row[1]) for row in found}
    bad = next((w for w in wanted if types[w].endswith("]") or types[w].startswith(_NO_VALUE)), None)
    if bad is not None:
        raise MedlakeError(
            "E374", place=str(path), column=bad, key=wanted[bad], type=types[bad].split("(")[0]
        )
    listed = ", ".join(
        f"{_without_nulls(name, types[name], mapping.null_values)} AS {own}"
        for name, own in _own(wanted).items()
    )
    return f"SELECT file_row_number + 1 AS row_no, {listed} FROM {source}"


def _without_nulls(name: str, kind: str, nulls: tuple[str, ...]) -> str:
    column = '"' + name.replace('"', '""') + '"'
    if kind != "VARCHAR" or not nulls:
        return column
    given = ", ".join("'" + n.replace("'", "''") + "'" for n in nulls)
    return f"CASE WHEN {column} NOT IN ({given}) THEN {column} END"


def read(
    connection: duckdb.DuckDBPyConnection, path: Path, mapping: Mapping, truth: str | None
) -> tuple[dict[str, Column], int]:
    """Make ``given``: ``row_no`` and the columns that the mapping and ``truth`` name.

    Returns:
        The columns by their names in the file, and how many rows were skipped for having too many or too few columns.

    Raises:
        MedlakeError: E370, E372, E374.
    """
    wanted = {name: key for key, names in mapping.columns.items() for name in names}
    if truth is not None:
        wanted.setdefault(truth, "--truth")
    if not path.is_file():
        raise _unreadable(path, "没有这个文件 / no such file")
    skipped = Skipped()
    try:
        if path.suffix.lower() in _PARQUET:
            connection.execute(f"CREATE TABLE given AS {_parquet(connection, path, mapping, wanted)}")
        else:
            connection.register("given_arrow", _csv(path, mapping, wanted, skipped))
            connection.execute("CREATE TABLE given AS SELECT * FROM given_arrow")
            connection.unregister("given_arrow")
    except OSError as error:
        raise _unreadable(path, error.strerror or type(error).__name__) from error
    except duckdb.Error as error:
        # an error of the reader comes through DuckDB as text
        raise _unreadable(path, type(error).__name__) from error
    rows = int(connection.execute("SELECT count(*) FROM given").fetchall()[0][0])
    if skipped.rows > max(_SKIP_ROWS, _SKIP_SHARE * (rows + skipped.rows)):
        raise _unreadable(path, f"{skipped.rows} rows: columns ≠ header")
    types = {str(r[0]): str(r[1]) for r in connection.execute("DESCRIBE given").fetchall()}
    return {name: Column(own, types[own]) for name, own in _own(wanted).items()}, skipped.rows
