"""The chunked writer gives the same rows as the city in memory, whatever the chunk, and keeps the truth apart."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from simulator.people import make_city, write_registrations
from simulator.profile import Profile

AS_OF = date(2026, 11, 20)


@pytest.mark.parametrize("chunk_rows", [700, 10_000_000])
def test_chunks_change_nothing(tmp_path: Path, chunk_rows: int) -> None:
    done = write_registrations(
        Profile.load(), 3_000, 11, tmp_path, AS_OF, with_residents=True, chunk_rows=chunk_rows
    )
    city = make_city(Profile.load(), 3_000, 11, AS_OF)
    newest = city.delivered(None, AS_OF)
    written = pq.read_table(tmp_path / "registration.parquet")
    assert done["registrations"] == written.num_rows == newest.num_rows
    assert written.sort_by("registration_id").equals(newest.select(written.column_names).cast(written.schema))
    truth = pq.read_table(tmp_path / "truth" / "registration.parquet")
    assert truth["resident_id"].equals(city.registrations["resident_id"])
    assert pq.read_table(tmp_path / "truth" / "resident.parquet").equals(
        city.residents.cast(city.residents.schema)
    )


def test_what_systems_hold_does_not_name_the_resident(tmp_path: Path) -> None:
    write_registrations(Profile.load(), 1_000, 3, tmp_path, AS_OF)
    names = pq.read_schema(tmp_path / "registration.parquet").names
    assert not {"resident_id", "is_duplicate_archive"} & set(names)
    assert not (tmp_path / "truth" / "resident.parquet").exists()


def test_a_village_of_a_larger_city_is_another_city_of_the_same_kind() -> None:
    small, large = (make_city(Profile.load(), n, 5, AS_OF) for n in (2_000, 20_000))
    ratio = large.registrations.num_rows / small.registrations.num_rows
    assert 9 < ratio < 11
    assert isinstance(large.updates, pa.Table) and pc.all(pc.is_valid(large.updates["local_id"])).as_py()
