"""Publishing: write a new serving file, audit it, swap one symlink. Blocked products keep their last good version."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from lake import duck, lineage, runs, tables
from lake.errors import MedlakeError
from lake.kill import point
from lake.log import logger
from lake.settings import settings
from products import plan, serving_file, swap
from products.audit_file import audit
from products.paths import candidate_path, published_path, serving_path

_log = logger("products")


def _planned(
    run: runs.Run, gate: dict[str, tuple[str, str, str]]
) -> tuple[list[plan.Verdict], list[plan.Source]]:
    """Verdicts and table sources of this publication, read from the candidate and the published file."""
    con = duck.connect()
    try:
        serving_file.attach(con, candidate_path(), "cand")
        last = published_path()
        if last is not None:
            serving_file.attach(con, last, "last")
        views = con.execute(
            "SELECT 'gold.' || view_name FROM duckdb_views() WHERE database_name = 'cand' AND schema_name = 'gold'"
        ).fetchall()
        if views:
            raise MedlakeError("E605", tables=", ".join(sorted(row[0] for row in views)))
        plan.check_candidate(con, run)
        failed = plan.failed_models(con)
        history = plan.last_publication(con)
        verdicts = plan.judge(run, gate, failed, history, datetime.now(UTC))
        return verdicts, plan.choose(con, verdicts, failed)
    finally:
        con.close()


def _gold_to_delta(path: Path, sources: list[plan.Source], opened: list[str]) -> dict[str, int]:
    """Overwrite ``gold/<table>`` with what this run made; returns the new versions."""
    con = duck.connect(path, read_only=True)
    try:
        return {
            f"gold/{s.table}": tables.overwrite(
                f"gold/{s.table}", con.execute(f'FROM gold."{s.table}"').to_arrow_reader()
            )
            for s in sources
            if s.product is None or s.product in opened
        }
    finally:
        con.close()


@lineage.stepped("products.publish")
def publish(data_date: date) -> dict[str, Any]:
    """Publish the candidate of a date. Running it again, also after a SIGKILL, publishes the same tables.

    Returns:
        ``data_date, run_id, file, tables, rows, open, blocked`` (lists of products), ``gate`` (``closed`` when any
        product is blocked), ``published_at`` (UTC, ISO), ``seconds``.

    Raises:
        MedlakeError: E106 no run; E601 no candidate; E602 nothing judged; E603-E606, E611 the audit failed;
            E609 unknown product; E610 the candidate is another date's. In each case nothing was swapped.
    """
    started = time.monotonic()
    run = runs.get_run(data_date)
    directory = settings().serving_dir
    directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / ".publish.lock"):
        removed = swap.clean()
        if not candidate_path().exists():
            raise MedlakeError("E601", path=candidate_path().name, data_date=data_date)
        verdicts, sources = _planned(run, plan.read_gate(run))
        point("publish.planned")
        draft = directory / swap.DRAFT
        planned = serving_file.write(draft, candidate_path(), published_path(), run, verdicts, sources)
        point("publish.written")
        rows = audit(draft, planned)
        point("publish.audited")
        opened = [v.product for v in verdicts if v.is_open]
        versions = _gold_to_delta(draft, sources, opened)
        point("publish.gold")
        target = swap.swap(run.run_id)
        point("publish.swapped")
        removed += swap.prune()
        runs.record_output(run, versions)
    blocked = [v.product for v in verdicts if not v.is_open]
    seconds = round(time.monotonic() - started, 3)
    _log.info(
        "published",
        data_date=data_date,
        run_id=run.run_id,
        tables=len(sources),
        rows=rows,
        blocked=blocked,
        removed=removed,
        seconds=seconds,
    )
    newest = max((v.published_at for v in verdicts if v.published_at), default=None)
    return {
        "data_date": data_date.isoformat(),
        "run_id": run.run_id,
        "file": target.name,
        "tables": len(sources),
        "rows": rows,
        "open": opened,
        "blocked": blocked,
        "gate": "closed" if blocked else "open",
        "published_at": newest.astimezone(UTC).isoformat() if newest else None,
        "seconds": seconds,
    }


def publication() -> list[dict[str, Any]]:
    """The rows of ``ops.publication`` as published now.

    Raises:
        MedlakeError: E608, nothing was published yet.
    """
    con = duck.connect(serving_path(), read_only=True)
    try:
        return con.execute("FROM ops.publication").to_arrow_table().to_pylist()
    finally:
        con.close()


def assert_open(data_date: date) -> None:
    """The last task of a day: red when a product is blocked or the date is not what is published.

    Raises:
        MedlakeError: E607 names the products; E608 nothing was published.
    """
    blocked = [
        f"{row['label_zh']} ({row['product']})"
        for row in publication()
        if row["gate"] != "open" or row["data_date"] != data_date
    ]
    if blocked:
        raise MedlakeError("E607", place=data_date.isoformat(), products=", ".join(blocked))
