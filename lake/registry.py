"""The group's own registers: institutions and data products, as reviewed CSV files under ``dbt/seeds``."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
from pyarrow import csv as pa_csv

from lake.settings import PROJECT_ROOT

_SEEDS = PROJECT_ROOT / "dbt" / "seeds"


@dataclass(frozen=True)
class Product:
    """A data product and the share of excluded records (per cent) above which its gate closes."""

    product: str
    label_zh: str
    label_en: str
    owner: str
    exclude_limit_pct: float


@lru_cache(maxsize=1)
def orgs() -> pa.Table:
    """All institutions: lead hospital, 23 edge institutions, 200 stations. All columns are text."""
    names = next(csv.reader((_SEEDS / "org.csv").open(encoding="utf-8")))
    options = pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True)
    return pa_csv.read_csv(_SEEDS / "org.csv", convert_options=options)


def orgs_sql() -> str:
    """SELECT text of the same, for a connection that holds no Arrow (whose registering loads pandas: 60 MB)."""
    path = str(_SEEDS / "org.csv").replace("'", "''")
    return f"SELECT * FROM read_csv('{path}', header = true, all_varchar = true)"


@lru_cache(maxsize=1)
def org_codes() -> frozenset[str]:
    return frozenset(orgs()["org_code"].to_pylist())


@lru_cache(maxsize=1)
def products() -> list[Product]:
    """All data products, in the order of the register."""
    with (_SEEDS / "data_product.csv").open(encoding="utf-8") as file:
        return [
            Product(r["product"], r["label_zh"], r["label_en"], r["owner"], float(r["exclude_limit_pct"]))
            for r in csv.DictReader(file)
        ]
