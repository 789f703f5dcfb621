"""INT-002: keys are unique or not by themselves, never by a hash of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from lake import duck, tables
from lake.contracts import table_contract
from quality.integrity import key_checks


def _encounters(*keys: tuple[str, str]) -> None:
    schema = table_contract("encounter").silver_schema()
    given = {"org_code": [k[0] for k in keys], "encounter_id": [k[1] for k in keys]}
    columns = [pa.array(given.get(f.name, [None] * len(keys)), f.type) for f in schema]
    tables.overwrite("silver/encounter", pa.table(columns, schema=schema))


def _failed() -> int:
    checks = key_checks(duck.connect(), {"silver/encounter": tables.version("silver/encounter")})
    return {c.subject: c.failed for c in checks}["encounter"]


def test_two_keys_whose_hashes_collide_are_two_keys(lake_home: Path) -> None:
    """Met in a simulated city: DuckDB 1.5 gives both pairs the same hash(org_code, encounter_id)."""
    _encounters(("C209", "MZ202401190000006"), ("C209", "MZ202408190000056"))
    assert _failed() == 0


def test_a_key_that_stands_twice_is_found(lake_home: Path) -> None:
    _encounters(("C209", "MZ1"), ("C209", "MZ1"), ("C210", "MZ1"))
    assert _failed() == 1


def test_an_empty_table_has_no_double_key(lake_home: Path) -> None:
    _encounters()
    assert _failed() == 0
