"""How good an asset is: from the open findings of the silver tables it is made of."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from catalog.model import TableInfo


@dataclass(frozen=True)
class Judgement:
    """``score``: per cent of records without an open error, None where no rule judged; open findings of any severity."""

    score: float | None
    open_findings: int


@dataclass(frozen=True)
class Quality:
    """Judgements of the source tables, by asset id."""

    judged: dict[str, Judgement]

    def of(self, asset: str, edges: dict[str, set[str]]) -> Judgement:
        """An asset's judgement. One made from others is as good as the worst of them; their findings add up."""
        if asset in self.judged:
            return self.judged[asset]
        sources = [self.judged[s] for s in _sources(asset, edges) if s in self.judged]
        scores = [s.score for s in sources if s.score is not None]
        return Judgement(min(scores, default=None), sum(s.open_findings for s in sources))


def _sources(asset: str, edges: dict[str, set[str]]) -> set[str]:
    """Everything above an asset that is made from nothing else."""
    found: set[str] = set()
    open_, seen = list(edges.get(asset, ())), set()
    while open_:
        one = open_.pop()
        if one in seen:
            continue
        seen.add(one)
        if edges.get(one):
            open_.extend(edges[one])
        else:
            found.add(one)
    return found


def quality_of(con: duckdb.DuckDBPyConnection, infos: dict[str, TableInfo]) -> Quality:
    """Judge each silver table that the rules know (the register names it, or a finding does)."""
    columns = "org_code || '/' || record_key"
    rows = con.execute(
        "SELECT table_name, count(*) FILTER (WHERE state = 'open'),"
        f" count(DISTINCT {columns}) FILTER (WHERE state = 'open' AND severity = 'error')"
        " FROM quality.finding GROUP BY table_name"
    ).fetchall()
    known = {str(name): (int(found), int(bad)) for name, found, bad in rows}
    for (name,) in con.execute("SELECT DISTINCT table_name FROM quality.rule").fetchall():
        known.setdefault(str(name), (0, 0))  # judged, and nothing found
    judged = {}
    for name, (found, bad) in known.items():
        asset = f"silver.{name}"
        if asset not in infos:
            continue
        counted = con.execute(f"SELECT count(*) FROM {asset}").fetchone()
        total = int(counted[0]) if counted else 0
        judged[asset] = Judgement(round(100 * (1 - bad / total), 2) if total else None, found)
    return Quality(judged)
