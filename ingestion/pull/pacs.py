"""Pulling an archive's metadata: asked day by day, what changed goes to the drop, the batch takes it from there.

One file holds the answers of one study day as NDJSON: a head (``medlake: pacs-answers``, how many follow, when it
was asked), then one line a study or series in the DICOM JSON model. A study that the archive no longer has is
there with ``op: D``: only after every page of the day was read and a question for this very study found nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from ingestion.pull import pacs_sources
from ingestion.pull.pacs_qido import SERIES_UID, STUDY_UID, Answer, uid
from ingestion.pull.pacs_sources import Archive
from ingestion.pull.pacs_state import Known, State, canonical
from lake import kill
from lake.errors import MedlakeError
from lake.log import logger
from lake.settings import settings

_log = logger("ingestion")
_STUDY_DATE, _PATIENT_ID, _INSTANCES = "00080020", "00100020", "00201208"


class Client(Protocol):
    """How an archive is asked; ``Qido`` and ``CFind``."""

    def studies(self, day: date | None) -> Iterator[Answer]: ...

    def study(self, study_instance_uid: str) -> Answer | None: ...

    def series(self, study_instance_uid: str) -> list[Answer]: ...


@dataclass
class _Day:
    """What one day's answers come to. ``lines`` are those to deliver."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    studies: int = 0
    instances: int = 0
    changed: int = 0
    deleted: int = 0
    unidentified: int = 0


def _client(archive: Archive) -> Any:
    if archive.protocol == "qido":
        from ingestion.pull.pacs_qido import Qido

        return Qido(archive)
    from ingestion.pull.pacs_cfind import CFind

    return CFind(archive)


def _number(answer: Answer, tag: str) -> int:
    text = uid(answer, tag)
    return int(text) if text.isdigit() else 0


def _stable(answer: Answer) -> Answer:
    """An answer without what is not the study's: where to retrieve it, and whether it is online now."""
    return {k: v for k, v in answer.items() if k not in ("00081190", "00080056", "00080054")}


def _take(client: Client, state: State, answer: Answer, found: _Day) -> None:
    """One study of the archive: delivered with its series if any of it is new."""
    study = uid(answer, STUDY_UID)
    known = state.known(study)
    found.studies += 1
    found.instances += _number(answer, _INSTANCES)
    found.unidentified += not uid(answer, _PATIENT_ID)
    if known and canonical(known.answer) == canonical(answer):
        return
    series = [_stable(s) for s in client.series(study)]
    found.changed += 1
    found.lines.append({"level": "study", "op": "U", "answer": answer})
    found.lines += [{"level": "series", "op": "U", "answer": s} for s in series]
    held = {uid(s, SERIES_UID) for s in series}
    gone = [s for s in (known.series if known else []) if uid(s, SERIES_UID) not in held]
    found.lines += [{"level": "series", "op": "D", "answer": s} for s in gone]
    state.put(study, uid(answer, _STUDY_DATE), Known(answer, series))


def _remove(state: State, study: str, known: Known, found: _Day) -> None:
    found.deleted += 1
    found.lines.append({"level": "study", "op": "D", "answer": known.answer})
    found.lines += [{"level": "series", "op": "D", "answer": s} for s in known.series]
    state.remove(study)


def _ask(client: Client, state: State, day: date | None) -> _Day:
    """All studies of a day, what changed among them and what is gone."""
    found = _Day()
    missing = state.of_day(day)
    for answer in client.studies(day):
        missing.discard(uid(answer, STUDY_UID))
        _take(client, state, _stable(answer), found)
    for study in sorted(missing):
        answer_now = client.study(study)
        if answer_now is not None:  # it moved to another date, or the pages shifted while they were read
            _take(client, state, _stable(answer_now), found)
        elif known := state.known(study):
            _remove(state, study, known, found)
    return found


def _deliver(archive: Archive, day: date | None, data_date: date, found: _Day, asked_at: datetime) -> Path:
    """The file in the drop, durable before this returns; there whole or not at all."""
    folder = settings().sources_dir / data_date.isoformat() / "pacs" / archive.org_code
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    label = day.strftime("%Y%m%d") if day else "all"
    target = folder / f"{archive.protocol}_{archive.name}_{label}_{asked_at:%Y%m%dT%H%M%S%f}.json"
    head = {
        "medlake": "pacs-answers",
        "archive": archive.name,
        "asked_at": asked_at.isoformat(),
        "studies": sum(line["level"] == "study" for line in found.lines),
        "series": sum(line["level"] == "series" for line in found.lines),
    }
    draft = target.with_name(f".{target.name}.part")
    with os.fdopen(
        os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        for line in (head, *found.lines):
            file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(target)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return target


def _days(start: date, end: date) -> list[date]:
    return [start + timedelta(days=n) for n in range((end - start).days + 1)]


def pull(
    source: str,
    data_date: date,
    *,
    start: date | None = None,
    end: date | None = None,
    everything: bool = False,
) -> dict[str, Any]:
    """Ask an archive for its studies and put what changed into the drop of ``data_date``.

    Args:
        source: its name in the register.
        start, end: study dates to ask for; by default ``data_date`` and the days before it that the register says.
        everything: ask for all studies at once, without dates; finds studies that have none, and every deletion.

    Returns:
        archive, org_code, days, studies and instances (as announced), changed, deleted, unidentified (studies without
        a patient id), files (of the drop). A day that failed ends the pull; days before it are delivered, and the
        same pull goes on after them.

    Raises:
        MedlakeError: E255, the register is wrong, the archive does not answer, or another pull of it runs.
    """
    archive = pacs_sources.archive(source)
    last = end or data_date
    first = start or (last if end else data_date - timedelta(days=archive.lookback_days))
    days: list[date | None] = [None] if everything else list(_days(first, last))
    run = "all" if everything else f"{first}..{last}"
    total: dict[str, Any] = {"archive": source, "org_code": archive.org_code, "days": len(days)}
    counts = dict.fromkeys(("studies", "instances", "changed", "deleted", "unidentified"), 0)
    files: list[str] = []
    lock = FileLock(settings().folder("locks") / f"pull-pacs-{source}.lock", timeout=0)
    try:
        with lock, State(source) as state, _client(archive) as client:
            for day in days:
                label = day.isoformat() if day else "all"
                if state.is_finished(run, label):
                    continue
                asked_at = datetime.now(UTC)  # a receiver's clock: when the archive was asked
                found = _ask(client, state, day)
                if found.lines:
                    files.append(str(_deliver(archive, day, data_date, found, asked_at)))
                    kill.point("pull.pacs.delivered")
                state.finish(run, label)
                state.commit()
                for name in counts:
                    counts[name] += getattr(found, name)
            state.forget_run(run)
            state.commit()
    except Timeout:
        raise MedlakeError("E255", source=source, detail="another pull of it is running") from None
    _log.info("pacs_pulled", org_code=archive.org_code, records=counts["studies"], files=len(files))
    return total | counts | {"files": files}
