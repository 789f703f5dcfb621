"""What an unknown code may mean: the same text elsewhere, a name that contains it, a name that is written alike."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ingestion import codemaps, units
from ingestion.codes.backlog import inbox
from lake import duck

_BEST = 3
#: A name less alike than this is no proposal.
_LEAST = 0.6


def _candidates(systems: list[str]) -> pa.Table:
    """Texts that mean a code: names of the standard, maps of any scope; for ``ucum`` the spellings of units."""
    rows: list[tuple[str, str, str, str, str]] = []
    for system in systems:
        if system == "ucum":
            rows += [(system, code, code, spelled, "spelling") for spelled, code in units.spellings().items()]
            continue
        standard = codemaps.standard_codes(system)
        names = {r["code"]: r.get("name_zh", "") for r in standard}
        rows += [
            (system, r["code"], names[r["code"]], r[n], "name")
            for r in standard
            for n in ("name_zh", "name_en")
            if r.get(n)
        ]
        rows += [
            (system, code, names.get(code, ""), key, "map")
            for feed, org, key, _, _, code in codemaps.entries(system)
            if (feed, org) != codemaps.GENERAL or key not in names
        ]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 5
    names_ = ("code_system", "code", "name_zh", "text", "because")
    return pa.table({n: pa.array(c, pa.string()) for n, c in zip(names_, columns, strict=True)})


def propose(code_system: str, limit: int) -> list[dict[str, Any]]:
    waiting = inbox(code_system, "", limit)
    if not waiting:
        return []
    with duck.connect() as con:
        con.register("waiting", pa.Table.from_pylist(waiting))
        con.register("candidate", _candidates(sorted({w["code_system"] for w in waiting})))
        rows: list[dict[str, Any]] = (
            con.execute(f"""
            WITH scored AS (
                SELECT w.code_system, w.source_code, w.records, c.code, c.name_zh, c.because, greatest(
                    CASE WHEN lower(c.text) = lower(w.source_code) THEN 1.0 ELSE 0 END,
                    CASE WHEN contains(lower(c.text), lower(w.source_code)) OR contains(lower(w.source_code), lower(c.text))
                         THEN 0.7 + 0.25 * least(length(c.text), length(w.source_code))
                              / greatest(length(c.text), length(w.source_code)) ELSE 0 END,
                    0.9 * jaro_winkler_similarity(lower(c.text), lower(w.source_code))) AS score
                FROM waiting w JOIN candidate c USING (code_system) WHERE c.text <> ''
            ), best AS (
                SELECT *, row_number() OVER (PARTITION BY code_system, source_code, code ORDER BY score DESC, because) AS n
                FROM scored
            )
            SELECT code_system, source_code, records, code, name_zh, round(score, 3) AS score, because FROM best
            WHERE n = 1 AND score >= {_LEAST}
            QUALIFY row_number() OVER (PARTITION BY code_system, source_code ORDER BY score DESC, code) <= {_BEST}
            ORDER BY records DESC, code_system, source_code, score DESC, code""")
            .to_arrow_table()
            .to_pylist()
        )
    return rows
