"""Reading the catalogue back: from the published serving file, else from the last candidate."""

from __future__ import annotations

from typing import Any

from lake import duck
from lake.errors import MedlakeError
from lake.settings import settings


def _rows(sql: str, values: list[Any]) -> list[dict[str, Any]]:
    s = settings()
    places = [s.serving_dir / "serving.duckdb", s.home / "build" / "candidate.duckdb"]
    found = next((p for p in places if p.exists()), None)
    if found is None:
        raise MedlakeError("E505", place=places[0].name)
    with duck.connect(found.resolve(), read_only=True) as con:  # the link itself may point elsewhere tomorrow
        return list(con.execute(sql, values).to_arrow_table().to_pylist())


def assets(layer: str | None = None) -> list[dict[str, Any]]:
    return _rows("SELECT * FROM gold.catalog_asset WHERE $1 IS NULL OR layer = $1 ORDER BY asset_id", [layer])


def fields(asset_id: str) -> list[dict[str, Any]]:
    found = _rows("SELECT * FROM gold.catalog_field WHERE asset_id = $1 ORDER BY ord", [asset_id])
    if not found:
        raise MedlakeError("E507", asset=asset_id, place=asset_id)
    return found
