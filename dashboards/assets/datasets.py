"""Datasets: one SQL file each, over the gold and ops schemas of the serving file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboards.assets.identity import VERSION, identity

SQL = Path(__file__).with_name("sql")
DATABASE = "serving"

# Names the published file in each query's cache key: a swap of the serving file shows at the next refresh, and
# until then every wall shares one answer.
_VERSION_MARK = "/* {{ cache_key_wrapper(serving_version()) }} */\n"


@dataclass(frozen=True)
class Column:
    """`label_zh` is what a table's head shows; drawn tiles need none."""

    name: str
    type: str = "VARCHAR"
    label_zh: str | None = None

    @property
    def is_time(self) -> bool:
        return self.type in {"DATE", "TIMESTAMP"}


@dataclass(frozen=True)
class Dataset:
    """A SELECT and its columns; the file's first line declares them as `-- columns: name TYPE LABEL, name, ...`."""

    name: str
    sql: str
    columns: list[Column]

    @property
    def uuid(self) -> str:
        return identity("dataset", self.name)


def dataset(name: str) -> Dataset:
    """Read one SQL file; a column without a type is text."""
    sql = (SQL / f"{name}.sql").read_text("utf-8")
    declared = sql.splitlines()[0].removeprefix("-- columns:").split(",")
    columns = [Column(*text.split()) for text in declared]
    return Dataset(name, sql, columns)


def names() -> list[str]:
    return sorted(path.stem for path in SQL.glob("*.sql"))


def document(data: Dataset) -> dict[str, Any]:
    """Superset's import document of a dataset."""
    time = next((column.name for column in data.columns if column.is_time), None)
    return {
        "table_name": data.name,
        "main_dttm_col": time,
        "schema": "gold",
        "sql": _VERSION_MARK + data.sql,
        "filter_select_enabled": True,
        "uuid": data.uuid,
        "metrics": [{"metric_name": f"sum_{c.name}", "expression": f"SUM({c.name})", "verbose_name": None}
                    for c in data.columns if c.type in {"BIGINT", "DOUBLE"}],
        "columns": [{"column_name": c.name, "verbose_name": c.label_zh, "type": c.type, "is_dttm": c.is_time, "is_active": True,
                     "groupby": True, "filterable": True} for c in data.columns],
        "version": VERSION,
        "database_uuid": identity("database", DATABASE),
    }  # fmt: skip


def database_document(uri: str, connect_args: dict[str, Any]) -> dict[str, Any]:
    return {
        "database_name": "医湖服务库",
        "sqlalchemy_uri": uri,
        "cache_timeout": None,
        "expose_in_sqllab": True,
        "allow_run_async": False,
        "allow_ctas": False,
        "allow_cvas": False,
        "allow_dml": False,
        "allow_csv_upload": False,
        "extra": {
            "allows_virtual_table_explore": True,
            "metadata_cache_timeout": {},
            "engine_params": {"connect_args": connect_args},
        },
        "uuid": identity("database", DATABASE),
        "version": VERSION,
    }
