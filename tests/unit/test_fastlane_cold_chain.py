"""Cold chain: five minutes out of range, once an episode, over restarts, late readings and wrong clocks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from ingestion import fastlane
from ingestion.fastlane import rules
from lake import ops
from tests.worklist_world import home

AT = datetime(2026, 11, 18, 2, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def site(tmp_path: Path) -> Iterator[Path]:
    with home(tmp_path / "var") as folder:
        (folder / "parameters").mkdir(parents=True)
        rules._load.cache_clear()
        yield folder
    rules._load.cache_clear()


def reading(
    minute: float, temp: float, *, sensor: str = "S1", seq: int | None = None, **more: str
) -> dict[str, str]:
    at = AT + timedelta(minutes=minute)
    return {
        "sensor_id": sensor,
        "seq": str(int(minute * 60) if seq is None else seq),
        "device_at": at.isoformat(),
        "temp_c": str(temp),
    } | more


def offer(*readings: dict[str, str], received: datetime | None = None, org: str = "C201") -> int:
    """Offer readings as received when the last of them was measured."""
    last = max(datetime.fromisoformat(r["device_at"]) for r in readings)
    return fastlane.offer("cold_chain_reading", list(readings), org, received or last)


def alarms() -> list[tuple[str, datetime]]:
    t = ops.work_request.c
    with ops.engine().begin() as connection:
        found = connection.execute(select(t.subject, t.occurred_at).order_by(t.occurred_at, t.subject)).all()
    return [(r.subject, r.occurred_at.replace(tzinfo=UTC)) for r in found]


def test_out_for_five_minutes_is_one_alarm() -> None:
    assert [offer(reading(m, 9.0)) for m in range(5)] == [0] * 5
    assert offer(reading(5, 9.0)) == 1
    assert [offer(reading(m, 12.0)) for m in range(6, 30)] == [0] * 24
    assert alarms() == [("cold_chain_reading/C201/S1", AT)]


def test_the_limits_themselves_are_within_the_range() -> None:
    assert sum(offer(reading(m, 8.0 if m % 2 else 2.0)) for m in range(12)) == 0
    assert sum(offer(reading(m, 1.9)) for m in range(20, 26)) == 1


def test_a_reading_within_range_ends_the_episode_and_the_next_is_another() -> None:
    for m in range(4):
        offer(reading(m, 9.0))
    offer(reading(4, 5.0))
    assert sum(offer(reading(m, 9.0)) for m in range(5, 10)) == 0  # 5 to 9: four minutes
    assert offer(reading(10, 9.0)) == 1
    offer(reading(11, 5.0))
    assert sum(offer(reading(m, -3.0)) for m in range(30, 36)) == 1
    assert [at for _, at in alarms()] == [AT + timedelta(minutes=5), AT + timedelta(minutes=30)]


def test_a_restart_in_the_middle_keeps_the_clock_running(site: Path) -> None:
    from tests.worklist_world import _forget

    for m in range(4):
        offer(reading(m, 9.0))
    _forget()
    rules._load.cache_clear()
    assert offer(reading(5, 9.0)) == 1
    assert (site / "fastlane").stat().st_mode & 0o777 == 0o700
    assert (site / "fastlane" / "state.db").stat().st_mode & 0o777 == 0o600


def test_the_same_reading_again_and_readings_out_of_order_change_nothing() -> None:
    order = [0, 2, 1, 1, 4, 3, 0, 5, 6, 5]
    assert sum(offer(reading(m, 9.0), received=AT + timedelta(minutes=7)) for m in order) == 1
    assert alarms() == [("cold_chain_reading/C201/S1", AT)]


def test_a_late_reading_within_range_splits_an_episode() -> None:
    for m in (0, 1, 2, 4):
        offer(reading(m, 9.0))
    offer(reading(3, 5.0), received=AT + timedelta(minutes=5))
    assert sum(offer(reading(m, 9.0)) for m in (5, 6, 7, 8)) == 0
    assert offer(reading(9, 9.0)) == 1
    assert alarms() == [("cold_chain_reading/C201/S1", AT + timedelta(minutes=4))]


def test_a_clock_that_is_wrong_is_not_believed() -> None:
    """The device says next year (or 1970): receipt counts, and five minutes are five minutes."""
    for sensor, shift in (("AHEAD", timedelta(days=365)), ("RESET", timedelta(days=-365 * 20))):
        for m in range(6):
            told = reading(
                m, 9.0, sensor=sensor, device_at=(AT + shift + timedelta(minutes=60 * m)).isoformat()
            )
            asked = offer(told, received=AT + timedelta(minutes=m))
            assert asked == (1 if m == 5 else 0), (sensor, m)
    assert {at for _, at in alarms()} == {AT}


def test_a_small_drift_is_believed() -> None:
    ahead = timedelta(minutes=3)
    told = [reading(m, 9.0, device_at=(AT + ahead + timedelta(minutes=m)).isoformat()) for m in range(6)]
    assert offer(*told, received=AT + timedelta(minutes=5)) == 1
    assert alarms()[0][1] == AT + ahead


def test_what_an_edge_sends_after_three_days_is_judged_by_its_own_time() -> None:
    late = AT + timedelta(hours=72)
    assert offer(*[reading(m, 9.0) for m in range(10)], received=late) == 1
    assert alarms() == [("cold_chain_reading/C201/S1", AT)]


def test_sensors_and_institutions_are_their_own() -> None:
    for m in range(6):
        offer(reading(m, 9.0 if m % 2 else 5.0), reading(m, 9.0 if not m % 2 else 5.0, sensor="S2"))
    assert alarms() == []
    for m in range(6):
        offer(reading(m, 9.0), org="C202" if m % 2 else "C203")
    assert alarms() == []


def test_a_sensor_has_its_own_range_from_a_day_on(site: Path) -> None:
    header = (
        (Path(rules.__file__).parent / "parameters" / "cold_chain.csv").read_text("utf-8").splitlines()[0]
    )
    lines = [header, "C201,FREEZER,-25,-15,10,,2026-01-01,,site,", "C201,FREEZER,2,8,5,,2027-01-01,,site,"]
    (site / "parameters" / "cold_chain.csv").write_text("\n".join(lines) + "\n")
    rules._load.cache_clear()
    assert sum(offer(reading(m, -20, sensor="FREEZER")) for m in range(15)) == 0
    assert sum(offer(reading(m, -10, sensor="FREEZER")) for m in range(20, 30)) == 0
    assert offer(reading(30, -10, sensor="FREEZER")) == 1


def test_a_freezer_has_no_range_until_its_institution_sets_one(site: Path) -> None:
    for kind in ("freezer", "冷冻柜"):
        assert offer(*[reading(m, -20.0, location_kind_code=kind) for m in range(9)]) == 0
    assert offer(*[reading(m, -20.0, sensor="S3", location_kind_code="fridge") for m in range(9)]) == 1


def test_readings_without_sense_are_passed_over() -> None:
    bad = [reading(m, 9.0, temp_c="n/a") for m in range(3)] + [reading(m, 9.0, sensor=" ") for m in range(9)]
    assert offer(*bad) == 0
    assert offer(*[reading(m, 99.0, quality_code="2") for m in range(9)]) == 0
