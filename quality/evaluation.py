"""How good the rules are against the simulated city's truth. Only this module of quality opens ``truth_dir``.

The truth names every fault that was put in (``origin`` injected) and the registration errors that the simulated
world has by itself (natural). Recall is over all of them; precision counts a finding as right when the truth names
that rule for that record. What the truth does not claim to know (``unexplained``) is printed, not hidden.
"""

from __future__ import annotations

import json
import time
from typing import Any

from lake import duck, tables
from lake.errors import MedlakeError
from lake.truth import truth_dir
from quality.compile import day, text
from quality.page_facts import newest_checked
from quality.rule import RuleBook, rulebook

_COLUMNS = {"data_date", "table_name", "org_code", "record_key", "rule_id"}


def evaluate(book: RuleBook | None = None) -> dict[str, Any]:
    """Hold the newest check's findings against ``truth/fault.parquet``.

    Returns:
        ``residents`` of the city, ``rules``, ``rules_hit`` (with at least one true finding),
        ``rules_not_hit`` (the others' ids), ``precision``,
        ``recall``, ``worst_rules`` and
        ``by_rule`` (injected, found, missed, unexplained, precision, recall), ``without_truth`` (rules in observation
        that found something and that the truth has no fault for), ``seconds``.

    Raises:
        MedlakeError: E406, there is no truth or it has other columns; E103, nothing was checked yet.
    """
    began = time.monotonic()
    book = book or rulebook()
    path = truth_dir() / "fault.parquet"
    if not path.is_file():
        raise MedlakeError("E406", place=str(path), detail="fault.parquet")
    run = newest_checked()
    if run is None:
        raise MedlakeError("E103", table="quality/finding")
    with duck.connect() as connection:
        columns = {
            r[0]
            for r in connection.execute(f"DESCRIBE SELECT * FROM read_parquet({text(str(path))})").fetchall()
        }
        if not columns >= _COLUMNS:
            raise MedlakeError("E406", place=str(path), detail=", ".join(sorted(_COLUMNS - columns)))
        found = tables.scan_sql("quality/finding", run.versions["quality/finding"])
        key = "rule_id, table_name, org_code, record_key"
        rows = (
            connection.sql(f"""
            WITH truth AS (
                SELECT DISTINCT {key} FROM read_parquet({text(str(path))})
                WHERE rule_id IS NOT NULL AND data_date <= {day(run.data_date)}
            ),
            finding AS (SELECT DISTINCT {key} FROM {found} WHERE state <> 'closed'),
            joined AS (
                SELECT
                    coalesce(t.rule_id, f.rule_id) AS rule_id,
                    t.rule_id IS NOT NULL AS is_true,
                    f.rule_id IS NOT NULL AS is_found
                FROM truth AS t FULL OUTER JOIN finding AS f USING ({key})
            )
            SELECT
                rule_id,
                count(*) FILTER (is_true) AS faults,
                count(*) FILTER (is_true AND is_found) AS found,
                count(*) FILTER (is_true AND NOT is_found) AS missed,
                count(*) FILTER (is_found AND NOT is_true) AS unexplained
            FROM joined GROUP BY rule_id ORDER BY rule_id
        """)
            .to_arrow_table()
            .to_pylist()
        )
    known = {r.id for r in book.rules}
    by_rule = [_measured(r) for r in rows if r["rule_id"] in known]
    watching = {r.id for r in book.rules if r.observing(run.data_date)}
    # A rule in observation without a fault in the truth says nothing about precision: it is counted apart.
    apart = [r["rule_id"] for r in by_rule if r["rule_id"] in watching and not r["faults"]]
    by_rule = [r for r in by_rule if r["rule_id"] not in apart]
    total = _measured({k: sum(r[k] for r in by_rule) for k in ("faults", "found", "missed", "unexplained")})
    worst = sorted(by_rule, key=lambda r: min(r["recall"] or 0, r["precision"] or 0) if r["faults"] else 1)
    parameters = truth_dir() / "simulation.json"
    city = json.loads(parameters.read_text(encoding="utf-8")) if parameters.is_file() else {}
    return {
        "data_date": str(run.data_date),
        "residents": city.get("residents"),
        "rules": len(book.rules),
        "rules_hit": sum(r["found"] > 0 for r in by_rule),
        "precision": total["precision"],
        "recall": total["recall"],
        "faults": total["faults"],
        "rules_not_hit": sorted(known - {r["rule_id"] for r in by_rule if r["found"]}),
        "worst_rules": [r["rule_id"] for r in worst[:5]],
        "by_rule": by_rule,
        "without_truth": apart,
        "seconds": round(time.monotonic() - began, 3),
    }


def _measured(counts: dict[str, Any]) -> dict[str, Any]:
    right, named, shown = counts["found"], counts["faults"], counts["found"] + counts["unexplained"]
    return {
        **counts,
        "recall": round(right / named, 4) if named else None,
        "precision": round(right / shown, 4) if shown else None,
    }


def page(result: dict[str, Any], book: RuleBook | None = None) -> str:
    """The result as a page of ``docs/``: one line per rule, in the order of their ids."""
    titles = {r.id: r.title_zh for r in (book or rulebook()).rules}

    def share(value: float | None) -> str:
        return "—" if value is None else f"{value:.4f}"

    lines = [
        "# Each rule against the simulator's faults", "",
        "Generated by `medlake quality evaluate --out docs/rules-evaluation.md` after a checked day; do not edit. Truth is",
        "what the simulator put in or broke by itself; *unexplained* are findings that the truth does not name.", "",
        f"City of {result['residents']} residents, day {result['data_date']}: "
        f"{result['rules_hit']} of {result['rules']} rules hit, {result['faults']:,} faults, "
        f"precision {share(result['precision'])}, recall {share(result['recall'])}.", "",
        "| Rule | | Faults | Found | Missed | Unexplained | Recall | Precision |", "|---|---|--:|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    held = {r["rule_id"]: r for r in result["by_rule"]}
    for rule, title in sorted(titles.items()):
        r = held.get(rule) or _measured({"faults": 0, "found": 0, "missed": 0, "unexplained": 0})
        lines.append(
            f"| {rule} | {title} | {r['faults']} | {r['found']} | {r['missed']} | {r['unexplained']} | "
            f"{share(r['recall'])} | {share(r['precision'])} |"
        )
    return "\n".join(lines) + "\n"


def table_text(result: dict[str, Any]) -> str:
    """The result as a table for a terminal."""

    def share(value: float | None) -> str:
        return "     —" if value is None else f"{value:6.4f}"

    lines = ["rule       faults   found  missed  unexplained  recall  precision"]
    lines += [
        f"{r['rule_id']:8} {r['faults']:8} {r['found']:7} {r['missed']:7} {r['unexplained']:12}  {share(r['recall'])}  "
        f"{share(r['precision'])}"
        for r in result["by_rule"]
    ]
    lines.append(f"all: recall {share(result['recall'])}, precision {share(result['precision'])}, "
                 f"rules hit {result['rules_hit']}/{result['rules']}")  # fmt: skip
    return "\n".join(lines)
