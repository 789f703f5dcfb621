"""The gate of each data product: open, or closed by integrity or by too large a share of excluded records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb

from lake.registry import Product
from quality.compile import name, text
from quality.integrity import Check
from quality.rule import RuleBook

_NAMED_RULES = 3


@dataclass(frozen=True)
class Gate:
    """``eligible``: records of the tables whose rules can exclude from the product; ``excluded``: those left out."""

    data_date: date
    product: str
    gate: str
    reason_zh: str
    reason_en: str
    excluded: int
    eligible: int
    excluded_pct: float


def _shares(
    connection: duckdb.DuckDBPyConnection, book: RuleBook, product: str, data_date: date
) -> tuple[int, int, list[tuple[str, str, int]]]:
    """Excluded and eligible records, and (rule, title, records) of the rules that exclude most."""
    settled = [r for r in book.rules if not r.observing(data_date)]  # a rule in observation moves no gate
    exclude = {(r.id, t.table) for r in settled for t in r.targets if t.products.get(product) == "exclude"}
    if not exclude:
        return 0, 0, []
    judged = sorted({table for _, table in exclude})
    eligible = connection.execute(
        "SELECT sum(n) FROM ("
        + " UNION ALL ".join(f"SELECT count(*) AS n FROM {name(t)}" for t in judged)
        + ")"
    ).fetchone()
    excluded = connection.execute(
        f"SELECT count(*) FROM exclusion WHERE product = {text(product)}"
    ).fetchone()
    pairs = ", ".join(f"({text(r)}, {text(t)})" for r, t in sorted(exclude))
    top = connection.execute(f"""
        SELECT f.rule_id, any_value(r.title_zh), count(*) AS records
        FROM finding AS f
        INNER JOIN rule_register AS r ON r.rule_id = f.rule_id AND r.table_name = f.table_name
        WHERE f.state = 'open' AND f.effect = 'exclude' AND (f.rule_id, f.table_name) IN ({pairs})
        GROUP BY f.rule_id ORDER BY records DESC, f.rule_id LIMIT {_NAMED_RULES}
    """).fetchall()
    assert eligible and excluded
    return int(excluded[0]), int(eligible[0] or 0), top


def gates(
    connection: duckdb.DuckDBPyConnection,
    book: RuleBook,
    products: Sequence[Product],
    checks: Sequence[Check],
    data_date: date,
) -> list[Gate]:
    """One gate per product of the register, from the tables that the evaluation left in the connection."""
    made = []
    for product in products:
        excluded, eligible, top = _shares(connection, book, product.product, data_date)
        share = round(100 * excluded / eligible, 2) if eligible else 0.0
        broken = [c for c in checks if c.passed is False and product.product in c.products]
        reasons_zh = [f"完整性检查未通过 {c.id} {c.title_zh}：{c.message_zh}" for c in broken]
        reasons_en = [f"integrity check {c.id} failed: {c.message_en}" for c in broken]
        if share > product.exclude_limit_pct:
            limit = f"{product.exclude_limit_pct:g}%"
            parts_zh = "、".join(f"{r} {title}（{n}条，{100 * n / eligible:.1f}%）" for r, title, n in top)
            parts_en = ", ".join(f"{r} ({n} records, {100 * n / eligible:.1f}%)" for r, _, n in top)
            reasons_zh.append(f"剔除记录占{share:g}%，超过上限{limit}，主要规则：{parts_zh}")
            reasons_en.append(f"{share:g}% of records excluded, limit {limit}, mainly by {parts_en}")
        made.append(
            Gate(
                data_date,
                product.product,
                "closed" if reasons_zh else "open",
                "；".join(reasons_zh),
                "; ".join(reasons_en),
                excluded,
                eligible,
                share,
            )
        )
    return made
