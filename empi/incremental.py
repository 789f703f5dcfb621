"""A day's new, changed and deleted registrations against the kept state: the same persons as a full run, for less.

What a record's columns and a pair's weight take from the whole set is frozen (``empi.calibration``), so only the day's
records are standardised, only their pairs are scored, and only the components they touch are joined anew. The order
of a run (``empi.linking``):

1. ``plan = incremental.plan(connection, run, crosswalk_version, mode=mode)``: ``plan.mode`` and ``plan.reason``. The
   table ``decided(source_system_l, org_code_l, identifier_value_l, ..._r, decision)`` must be there: people's active
   decisions on pairs of record keys.
2. full: collect and ``linking.resolve``, as without a state. incremental: ``records = incremental.draw(...)`` leaves
   ``source_record, record, linkable, birth, pair, decision`` with the records of affected persons only; ``rec_no``
   counts from 0 in the order of the key, so that every tie falls as in a full run. Also ``touched_person(empi_id)``:
   each person of the crosswalk that one of them, or a registration that went away, belongs to; no such person has a
   record outside. ``core(rec_id)`` with ``local(rec_no, rec_id)``: the records whose pairs may have changed; the
   others came along so that these pairs are whole (pairs for review: replace those with a side in ``core``).
   Both modes then ``linking.settle``.
3. :func:`recall`, then ``registry.create_previous(connection, incremental.previous_of(before))``: the whole history of
   touched persons.
   ``assigned, now, crosswalk, event, person`` are those persons' alone. How many ids were ever issued, and whether a
   new one clashes, is asked of the whole crosswalk ``before``.
4. ``empi.day_writes`` puts the touched persons in the place of what the visible tables say of them.
5. after ``runs.record_output``: :func:`keep`. Killed before it, the next run finds a state of another crosswalk (or the
   older versions it belongs to) and does what it must.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import yaml

from empi import affected, calibration, day, scoring, sources, state
from lake.errors import MedlakeError
from lake.runs import Run

MODES = ("auto", "full", "incremental")
#: Reasons that speak against an incremental run without making it impossible.
_ADVICE = {"new_month", "many_changes"}


@dataclass(frozen=True)
class Plan:
    """How a run links, and why. ``about`` is the state it starts from; the counts are registrations."""

    mode: str
    reason: str
    about: state.About | None = None
    arrived: int = 0
    changed: int = 0
    gone: int = 0

    @property
    def is_incremental(self) -> bool:
        return self.mode == "incremental"


@lru_cache(maxsize=1)
def _parameters() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
    return sorted(found, key=lambda p: str(p["valid_from"]))


def parameters(data_date: date) -> dict[str, Any]:
    """The parameters in force on a date (``incremental.yaml``); before the first, the first."""
    valid = [p for p in _parameters() if p["valid_from"] <= data_date]
    return (valid or _parameters()[:1])[-1]


def plan(
    connection: duckdb.DuckDBPyConnection, run: Run, crosswalk_version: int | None, *, mode: str = "auto"
) -> Plan:
    """Decide how to link; for an incremental run find and standardise the day's registrations too.

    ``connection``: as :func:`empi.sources.connect` gives it. ``crosswalk_version``: the visible version of
    ``silver/person_identifier``, None if there is none.

    Raises:
        MedlakeError: E315, another process is linking; E316, ``mode`` is incremental and that is not possible.
    """
    if mode == "full":
        return Plan("full", "asked")
    about = state.attach(connection)
    reason = _unusable(about, run, crosswalk_version)
    if about is None or (reason and (mode == "auto" or reason not in _ADVICE)):
        return _full(connection, mode, run, reason or "no_state")
    calibration.use(connection, state.STATISTICS)
    found = _find(connection, run, about)
    if isinstance(found, str):
        return _full(connection, mode, run, found)
    arrived, changed, gone = found
    limits = parameters(run.data_date)
    if mode == "auto" and arrived + changed + gone > limits["max_changed_share"] * about.records:
        return _full(connection, mode, run, "many_changes")
    day.make_records(connection, run)
    if affected.is_crowded(connection, int(limits["max_day_block"])):
        return _full(connection, mode, run, "crowded")
    return Plan("incremental", reason or "valid_state", about, arrived, changed, gone)


def _unusable(about: state.About | None, run: Run, crosswalk_version: int | None) -> str:
    """Why a state is no ground for a run; empty if it is."""
    if about is None:
        return "no_state"
    if about.crosswalk_version != crosswalk_version:
        return "other_crosswalk"
    if about.fingerprint != state.fingerprint():
        return "other_model_or_software"
    if run.data_date < about.data_date:
        return "earlier_date"
    if {n for n in run.versions if n in day.READ} != set(about.versions):
        return "other_sources"
    if (about.full_date.year, about.full_date.month) != (run.data_date.year, run.data_date.month):
        return "new_month"
    return ""


def _find(connection: duckdb.DuckDBPyConnection, run: Run, about: state.About) -> tuple[int, int, int] | str:
    day.create_macros(connection)
    if not day.find_keys(connection, run, about) or not day.find_deaths(connection, run, about):
        return "source_rewritten"
    return day.find_changes(connection, run, about)


def _full(connection: duckdb.DuckDBPyConnection, mode: str, run: Run, reason: str) -> Plan:
    calibration.forget(connection)
    day.forget(connection)
    state.detach(connection)
    if mode == "incremental":
        raise MedlakeError("E316", data_date=run.data_date, reason=reason)
    return Plan("full", reason)


def draw(connection: duckdb.DuckDBPyConnection, run: Run, replayed: str | None = None) -> dict[str, int]:
    """Score the day's pairs and make the working tables of everybody they may move (see the head of this module).

    Args:
        replayed: SELECT text of ``(empi_id, source_system, org_code, identifier_value)``: the open records, after the
            replay, of every person whom people merged or parted online since the last run. None if there is none.

    Returns ``records`` (drawn in), ``candidates`` and ``core``.
    """
    candidates = affected.score(connection)
    affected.spread(connection, replayed)
    records = affected.draw(connection, run)
    scoring.create_birth(connection)
    sources.match_decisions(connection)
    core = connection.execute("SELECT count(*) FROM core").fetchall()[0][0]
    return {"records": records, "candidates": candidates, "core": int(core)}


def recall(connection: duckdb.DuckDBPyConnection, before: str) -> None:
    """Add to ``touched_person`` whoever a registration was, that went away and is back, if nobody has the id by now.

    ``before``: FROM text of the crosswalk.
    """
    connection.execute(
        f"""INSERT INTO touched_person
        SELECT DISTINCT p.empi_id FROM {before} p SEMI JOIN (
            SELECT {day.KEY} FROM day_arrived ANTI JOIN day_known USING ({day.KEY})) USING ({day.KEY})
        ANTI JOIN {state.KEPT}.person o ON o.empi_id = p.empi_id
        ANTI JOIN touched_person t ON t.empi_id = p.empi_id
        WHERE p.identifier_type = 'MR' AND p.valid_to IS NOT NULL"""
    )


def previous_of(before: str) -> str:
    """FROM text of the crosswalk rows, old and open, of touched persons; ``before`` is that of all rows."""
    return f"(SELECT p.* FROM {before} p SEMI JOIN touched_person USING (empi_id))"


def keep(connection: duckdb.DuckDBPyConnection, made: Plan, run: Run, crosswalk_version: int) -> int:
    """Keep this run's working tables for the next one. Returns the number of records in the state.

    Reads ``now`` (``rec_no, cluster_no, empi_id``), ``edge``, ``cluster`` and ``decided`` besides those of the linking.
    """
    versions = {n: v for n, v in run.versions.items() if n in day.READ}
    count = "SELECT count(*) FROM source_record"
    if not made.is_incremental:
        records = int(connection.execute(count).fetchall()[0][0])
        about = state.About(
            run.run_id,
            run.data_date,
            run.data_date,
            run.run_id,
            crosswalk_version,
            state.fingerprint(),
            versions,
            records,
        )
        state.write(connection, about)
        return records
    assert made.about is not None
    records = made.about.records + made.arrived - made.gone
    state.update(
        connection,
        state.About(
            run.run_id,
            run.data_date,
            made.about.full_date,
            made.about.calibration_id,
            crosswalk_version,
            made.about.fingerprint,
            versions,
            records,
        ),
    )
    return records
