"""What a publication will hold: per product this run's tables or its last good ones, and the reason why.

A product is blocked when its gate is closed, when it was not judged at all (fail closed), or when one of its
models failed to build. Its tables then come from the file that is published now, or start empty if it never was.
A table whose rows name a product each (the wall's cards, the indicators) is put together row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import duckdb

from lake import duck, registry, tables
from lake.errors import MedlakeError
from lake.runs import Run

#: What dbt (and our build) calls a node that is fine; anything else blocks its product.
GOOD_STATUS = frozenset({"success", "pass", "warn"})
#: Of a model that dbt did not build; after a failed test the table is there, only not to be trusted.
UNBUILT_STATUS = ("error", "runtime error", "skipped")

#: The product of the catalogue's own tables.
CATALOGUE = "catalog"


@dataclass(frozen=True)
class Verdict:
    """One row of ``ops.publication``. ``data_date`` is None while the product was never published."""

    product: str
    label_zh: str
    data_date: date | None
    gate: str
    reason_zh: str
    reason_en: str
    published_at: datetime | None
    run_id: str | None

    @property
    def is_open(self) -> bool:
        return self.gate == "open"


@dataclass(frozen=True)
class Source:
    """Where one gold table comes from: ``cand`` (this run), ``last`` (published file), ``empty``, or ``rows`` (each
    row from where its own product comes from)."""

    table: str
    product: str | None
    origin: str


def _has(con: duckdb.DuckDBPyConnection, database: str, schema: str, table: str) -> bool:
    found = con.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = ? AND schema_name = ? AND table_name = ?",
        [database, schema, table],
    ).fetchone()
    return bool(found and found[0])


def gold_tables(con: duckdb.DuckDBPyConnection, database: str) -> list[str]:
    """Base tables in the gold schema of an attached database."""
    rows = con.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = ? AND schema_name = 'gold' ORDER BY 1",
        [database],
    ).fetchall()
    return [row[0] for row in rows]


def asset_products(con: duckdb.DuckDBPyConnection, database: str) -> dict[str, str]:
    """Table -> product as ``ops.asset_product`` of an attached database says; empty if it has none."""
    if not _has(con, database, "ops", "asset_product"):
        return {}
    rows = con.execute(f"SELECT table_name, product FROM {database}.ops.asset_product WHERE product <> ''")
    return {str(name): str(product) for name, product in rows.fetchall()}


def failed_models(con: duckdb.DuckDBPyConnection) -> dict[str | None, list[str]]:
    """Models that did not build, by product (None: models that belong to none)."""
    if not _has(con, "cand", "ops", "build_result"):
        return {}
    rows = con.execute(
        "SELECT DISTINCT nullif(product, '') AS product, model, lower(status) FROM cand.ops.build_result ORDER BY 2"
    )
    failed: dict[str | None, list[str]] = {}
    for owner, model, status in rows.fetchall():  # one row per model and test: some hundred
        if status not in GOOD_STATUS and model not in failed.get(owner, []):
            failed.setdefault(owner, []).append(model)
    return failed


def check_candidate(con: duckdb.DuckDBPyConnection, run: Run) -> None:
    """The candidate must be this run's.

    Raises:
        MedlakeError: E610, it was built for another date or for another run of the date.
    """
    built = con.execute("SELECT data_date, run_id FROM cand.ops.build_info").fetchone()
    if built != (run.data_date, run.run_id):
        name = f"{built[0]} ({built[1]})" if built else "?"
        raise MedlakeError("E610", built=name, data_date=f"{run.data_date} ({run.run_id})")


def _names_products(con: duckdb.DuckDBPyConnection) -> set[str]:
    """Tables of the candidate or the published file whose rows name their product."""
    rows = con.execute(
        "SELECT DISTINCT table_name FROM duckdb_columns() WHERE database_name IN ('cand', 'last') "
        "AND schema_name = 'gold' AND column_name = 'product'"
    )
    return {row[0] for row in rows.fetchall()}


def _failed_tables(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Models with a product that failed, so that their table may not exist at all: name -> product."""
    rows = con.execute(
        "SELECT model, product FROM cand.ops.build_result WHERE product <> '' AND lower(status) IN ?",
        [list(UNBUILT_STATUS)],
    )
    return {str(model): str(product) for model, product in rows.fetchall()}


def read_gate(run: Run) -> dict[str, tuple[str, str, str]]:
    """Product -> (gate, reason_zh, reason_en) of the run's date; a product judged twice is as its worst.

    Raises:
        MedlakeError: E602, nothing was judged for the date.
    """
    rows = []
    if tables.exists("quality/gate"):
        sql = tables.scan_sql("quality/gate", run.versions.get("quality/gate"))
        con = duck.connect()
        try:
            query = f"SELECT product, gate, reason_zh, reason_en FROM {sql} WHERE data_date = ? ORDER BY gate DESC"
            rows = con.execute(query, [run.data_date]).fetchall()
        finally:
            con.close()
    if not rows:
        raise MedlakeError("E602", data_date=run.data_date)
    # 'closed' sorts before 'open', so in descending order it comes last and wins
    return {product: (gate, zh or "", en or "") for product, gate, zh, en in rows}


def last_publication(con: duckdb.DuckDBPyConnection) -> dict[str, Verdict]:
    """The verdicts in the file that is published now; empty before the first publication."""
    if not _has(con, "last", "ops", "publication"):
        return {}
    columns = "product, label_zh, data_date, gate, reason_zh, reason_en, published_at, run_id"
    rows = con.execute(f"SELECT {columns} FROM last.ops.publication").fetchall()
    return {row[0]: Verdict(*row) for row in rows}


def judge(
    run: Run,
    gate: dict[str, tuple[str, str, str]],
    failed: dict[str | None, list[str]],
    last: dict[str, Verdict],
    now: datetime,
) -> list[Verdict]:
    """One verdict per registered product. A blocked one keeps date, instant and run of its last good version."""
    verdicts = []
    for entry in registry.products():
        state, zh, en = gate.get(
            entry.product, ("closed", "质控尚未判定该产品", "the product was not judged by quality control")
        )
        if broken := failed.get(entry.product):
            listed = ", ".join(broken)
            zh = "；".join(t for t in (zh if state != "open" else "", f"模型构建失败：{listed}") if t)
            en = "; ".join(
                t for t in (en if state != "open" else "", f"models failed to build: {listed}") if t
            )
            state = "closed"
        if state == "open":
            verdict = Verdict(entry.product, entry.label_zh, run.data_date, "open", zh, en, now, run.run_id)
        else:
            good = last.get(entry.product)
            if good is None or good.data_date is None:
                zh, en = f"{zh}；尚无合格版本", f"{en}; no good version exists yet"
            kept = (good.data_date, good.published_at, good.run_id) if good else (None, None, None)
            verdict = Verdict(entry.product, entry.label_zh, kept[0], "closed", zh, en, kept[1], kept[2])
        verdicts.append(verdict)
    return verdicts


def choose(
    con: duckdb.DuckDBPyConnection,
    verdicts: list[Verdict],
    failed: dict[str | None, list[str]],
) -> list[Source]:
    """Where each gold table comes from.

    Raises:
        MedlakeError: E609, a table names a product that the register does not know.
    """
    of_candidate = _failed_tables(con) | asset_products(con, "cand")
    in_candidate = set(gold_tables(con, "cand"))
    of_last = asset_products(con, "last")
    in_last = set(gold_tables(con, "last"))
    is_open = {v.product: v.is_open for v in verdicts}
    ever_good = {v.product for v in verdicts if v.data_date is not None}
    for table, named in of_candidate.items():
        if named not in is_open:
            raise MedlakeError("E609", table=table, product=named)
    # a table moves with its product; a blocked product keeps the tables it had, under the name they had
    product_of = of_last | of_candidate
    broken = {
        model for models in failed.values() for model in models
    }  # in the candidate only as they were before
    # the catalogue's rows name products too, but it describes assets and moves as a whole
    by_row = {t for t in _names_products(con) if product_of.get(t, CATALOGUE) != CATALOGUE}
    sources = []
    kept = {t for t, p in of_last.items() if not is_open.get(p, True)}
    for table in sorted(in_candidate | set(of_candidate) | kept):
        product = product_of.get(table)
        is_good = table not in broken and (product is None or is_open[product])
        if table in by_row and table in in_candidate and table not in broken:
            origin = "rows"
        elif is_good:
            origin = "cand"
        else:
            origin = "last" if table in in_last and (product is None or product in ever_good) else "empty"
        sources.append(Source(table, product, origin))
    return sources
