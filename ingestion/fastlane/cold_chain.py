"""Cold chain: a sensor out of its range for so many minutes, reading by reading, its state kept over restarts.

Readings of one sensor may come in any order within ``reorder_minutes``; older ones are the batch's. The device's
clock counts while it is plausible against receipt, else receipt does. An episode is named by its first reading out
of range as the device told it (sequence, device time), so the batch finds the same name whatever the clock said.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingestion.codemaps import code_map
from ingestion.fastlane import state
from ingestion.fastlane.found import Episode
from ingestion.fastlane.rules import Range, Rules, valid
from ingestion.fastlane.text import instant, plain
from lake.local_time import SHANGHAI


@dataclass(frozen=True, order=True)
class Reading:
    """One reading; ``at`` (epoch seconds) is the instant that counts."""

    at: float
    seq: int
    device_at: str
    temp_c: float
    location_kind: str = ""


@dataclass(frozen=True)
class Start:
    """The first reading out of range of the running episode."""

    at: float
    seq: int
    device_at: str


def trusted(device_at: datetime | None, received_at: datetime, rules: Rules) -> datetime:
    """The instant that counts: the device's unless its clock is ahead of receipt or further behind than any edge."""
    if device_at is None:
        return received_at
    ahead = received_at + timedelta(minutes=rules.ahead_minutes)
    behind = received_at - timedelta(hours=rules.behind_hours)
    return device_at if behind <= device_at <= ahead else received_at


def range_of(rules: Rules, org_code: str, sensor_id: str, r: Reading) -> Range | None:
    """The sensor's own range, else its institution's, else the group's; the newest that is valid."""
    on = datetime.fromtimestamp(r.at, SHANGHAI).date()
    fitting = [
        x
        for x in rules.ranges
        if x.org_code in ("", org_code)
        and x.sensor_id in ("", sensor_id)
        and r.location_kind not in x.not_location_kinds
        and valid(x, on)
    ]
    return max(fitting, key=lambda x: (bool(x.sensor_id), bool(x.org_code), x.valid_from), default=None)


def fold(
    rules: Rules, org_code: str, sensor_id: str, start: Start | None, readings: Iterable[Reading]
) -> tuple[Start | None, list[Episode]]:
    """Go through readings in order. Returns the running episode's start and, for each episode that is long enough,
    its newest standing."""
    alarms: dict[tuple[int, str], Episode] = {}
    for r in readings:  # a state machine over one sensor's few recent readings
        span = range_of(rules, org_code, sensor_id, r)
        if span is None or span.low_c <= r.temp_c <= span.high_c:
            start = None
            continue
        start = start or Start(r.at, r.seq, r.device_at)
        if r.at - start.at >= span.minutes * 60:
            alarms[(start.seq, start.device_at)] = Episode(
                org_code=org_code,
                sensor_id=sensor_id,
                seq=start.seq,
                device_at=start.device_at,
                since=datetime.fromtimestamp(start.at, UTC),
                until=datetime.fromtimestamp(r.at, UTC),
                temp_c=r.temp_c,
                low_c=span.low_c,
                high_c=span.high_c,
            )
    return start, list(alarms.values())


def device_key(device_at: datetime | None) -> str:
    """The device's own time as part of a name: UTC, whole seconds; empty when it told none."""
    return device_at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ") if device_at else ""


def parse(row: Mapping[str, str | None], received_at: datetime, rules: Rules) -> tuple[str, Reading] | None:
    """(sensor, reading) of a row; None without sensor or temperature, or where the sensor calls it bad."""
    sensor = (row.get("sensor_id") or "").strip()
    try:
        temp = float(row.get("temp_c") or "")
        seq = int(float(row.get("seq") or 0))
    except ValueError:
        return None
    if not sensor or temp != temp or plain(row.get("quality_code")) in rules.ignored_quality:
        return None
    device_at = instant(row.get("device_at"))
    at = trusted(device_at, received_at, rules).timestamp()
    kind = (row.get("location_kind_code") or "").strip()
    kind = code_map("cold_chain_location").get(kind.lower(), kind)
    return sensor, Reading(at, seq, device_key(device_at), temp, kind)


def take(
    rows: Iterable[Mapping[str, str | None]], org_code: str, received_at: datetime, rules: Rules
) -> list[Episode]:
    """Take readings in, remember what is needed, return the episodes that nobody was told of yet."""
    by_sensor: dict[str, set[Reading]] = {}
    for row in rows:
        if parsed := parse(row, received_at, rules):
            by_sensor.setdefault(parsed[0], set()).add(parsed[1])
    told: list[Episode] = []
    if by_sensor:
        with state.begin() as connection:
            for sensor_id, readings in sorted(by_sensor.items()):
                told += _sensor(connection, rules, org_code, sensor_id, readings)
    return told


def _sensor(
    connection: sqlite3.Connection, rules: Rules, org_code: str, sensor_id: str, new: set[Reading]
) -> list[Episode]:
    where, key = "WHERE org_code = ? AND sensor_id = ?", (org_code, sensor_id)
    row = connection.execute(
        f"SELECT folded_to, since, since_seq, since_device_at, told_since FROM sensor {where}", key
    ).fetchone()
    folded_to, since, seq, device_at, told_since = row or (float("-inf"), None, 0, "", None)
    kept = connection.execute(
        f"SELECT at, seq, device_at, temp_c, location_kind FROM reading {where}", key
    ).fetchall()
    recent = {Reading(*r) for r in kept} | {r for r in new if r.at > folded_to}
    ordered = sorted(recent)
    if not ordered:
        return []
    base = Start(float(since), int(seq), str(device_at)) if since is not None else None
    _, alarms = fold(rules, org_code, sensor_id, base, ordered)
    horizon = max(ordered[-1].at - rules.reorder_minutes * 60, folded_to)
    settled = [r for r in ordered if r.at <= horizon]
    start, _ = fold(rules, org_code, sensor_id, base, settled)
    fresh = [
        e
        for e in alarms
        if told_since is None or not e.since.timestamp() <= told_since <= e.until.timestamp()
    ]
    told_since = max([e.since.timestamp() for e in fresh], default=told_since)
    connection.execute(f"DELETE FROM reading {where}", key)
    connection.executemany(
        "INSERT OR REPLACE INTO reading VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(*key, r.at, r.seq, r.device_at, r.temp_c, r.location_kind) for r in ordered if r.at > horizon],
    )
    connection.execute(
        "INSERT OR REPLACE INTO sensor VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            *key,
            horizon,
            *((start.at, start.seq, start.device_at) if start else (None, None, None)),
            told_since,
        ),
    )
    return fresh
