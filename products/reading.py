"""How exports and cohorts read what is published: one connection on the serving file, and its data dates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import duckdb

from lake import duck, registry
from lake.errors import MedlakeError
from products.paths import serving_path
from products.serving_file import attach


@contextmanager
def published() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the published file attached read-only as ``served``; a swap meanwhile changes nothing.

    Raises:
        MedlakeError: E608, nothing was published yet.
    """
    con = duck.connect()
    try:
        attach(con, serving_path(), "served")
        yield con
    finally:
        con.close()


def data_dates(
    con: duckdb.DuckDBPyConnection, products: Iterable[str], wanted: date | None
) -> dict[str, tuple[date, str]]:
    """Product -> (data date, run id) as published.

    Raises:
        MedlakeError: E623, a product is published as of another date than the one wanted, or never was.
    """
    found: dict[str, tuple[date, str]] = {}
    for product in sorted(set(products)):  # a handful
        row = con.execute(
            "SELECT data_date, run_id FROM served.ops.publication WHERE product = ?", [product]
        ).fetchone()
        if row is None or row[0] is None or (wanted is not None and row[0] != wanted):
            shown = row[0] if row and row[0] else "—"
            raise MedlakeError(
                "E623", place=product, product=product, published=shown, data_date=wanted or "—"
            )
        found[product] = (row[0], row[1])
    return found


def below(org_codes: Iterable[str]) -> list[str]:
    """Institutions and everything under them in the institution tree.

    Raises:
        MedlakeError: E625, there is no such institution.
    """
    table = registry.orgs()
    parent_of = dict(zip(table["org_code"].to_pylist(), table["parent_org_code"].to_pylist(), strict=True))
    wanted = set(org_codes)
    for code in sorted(wanted):
        if code not in parent_of:
            raise MedlakeError("E625", org_code=code)

    def is_below(code: str | None) -> bool:
        return code is not None and (code in wanted or is_below(parent_of.get(code)))

    return sorted(code for code in parent_of if is_below(code))


def find_yaml(given: str | Path, folder: Path) -> Path | None:
    """A file by its path, or by its name among the shipped ones."""
    path = Path(given)
    if path.is_file():
        return path
    shipped = folder / f"{path.stem}.yaml"
    return shipped if str(given) in (path.stem, path.name) and shipped.is_file() else None


def names_in(folder: Path) -> str:
    return ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
