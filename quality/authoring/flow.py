"""From proposal to rule: who proposed what, what the dry run said, and who else let it hold. Every step is audited.

A proposal is a file (``home/quality/rules/proposals``). The changelog is the audit log of the operational database
(actions ``quality_rule_*``), whose entries are chained by hash: scores move with rules, so who moved them is kept.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import yaml
from filelock import FileLock
from sqlalchemy import select

from lake import audit, ops
from lake.crypto import sm3_hex
from lake.errors import MedlakeError
from lake.settings import settings
from quality.authoring import changes, overlay
from quality.authoring.changes import Draft
from quality.authoring.dryrun import dry_run

_ID = re.compile(r"P[0-9a-f]{10}")
_WHO = re.compile(r"[\w.@\-]{2,64}")
_ACTIONS = "quality_rule_"


@dataclass(frozen=True)
class Proposal:
    """A change that waits for a second person, was published, or was rejected."""

    proposal_id: str
    action: str
    rule_id: str
    base_version: int
    by: str
    at: str
    note: str
    state: str
    file: dict[str, Any] | None
    dry_run: dict[str, Any]
    decided_by: str = ""
    decided_at: str = ""
    reason: str = ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _named(by: str, rule_id: str) -> str:
    if not _WHO.fullmatch(by):
        raise MedlakeError("E448", rule_id=rule_id, detail="--by")
    return by


@contextmanager
def _alone() -> Iterator[None]:
    """One step at a time, over processes."""
    folder = settings().folder("quality", "rules")
    with FileLock(folder / ".lock"):
        yield


def _save(proposal: Proposal) -> None:
    path = overlay.folder() / "proposals" / f"{proposal.proposal_id}.json"
    overlay.write(path, json.dumps(asdict(proposal), ensure_ascii=False, indent=1))


def _audit(proposal: Proposal, step: str, by: str, **more: Any) -> None:
    content = json.dumps(proposal.file, ensure_ascii=False, sort_keys=True).encode()
    told = {
        k: proposal.dry_run.get(k) for k in ("data_date", "newly_failing", "no_longer_failing", "failing")
    }
    audit.record(
        f"{_ACTIONS}{step}",
        actor=by,
        purpose="quality rules",
        tables=["quality/rule"],
        fields=[],
        rows=0,
        result="ok",
        proposal_id=proposal.proposal_id,
        rule_id=proposal.rule_id,
        change=proposal.action,
        base_version=proposal.base_version,
        content_sm3=sm3_hex(content),
        note=proposal.note,
        dry_run=told,
        **more,
    )


def get(proposal_id: str) -> Proposal:
    """A proposal.

    Raises:
        MedlakeError: E449, there is none of that number.
    """
    path = overlay.folder() / "proposals" / f"{proposal_id}.json"
    if not _ID.fullmatch(proposal_id) or not path.is_file():
        raise MedlakeError("E449", what=proposal_id[:20])
    return Proposal(**json.loads(path.read_text("utf-8")))


def proposals(state: str | None = None) -> list[Proposal]:
    """All proposals, oldest first."""
    folder = overlay.folder() / "proposals"
    found = [Proposal(**json.loads(p.read_text("utf-8"))) for p in sorted(folder.glob("P*.json"))]
    return sorted((p for p in found if state in (None, p.state)), key=lambda p: (p.at, p.proposal_id))


def propose(draft: Draft, *, by: str, note: str = "", samples: int = 10) -> Proposal:
    """Keep a change for a second person, with its dry run.

    Raises:
        MedlakeError: E448 nobody is named; E423 there is no checked run to try it on.
    """
    _named(by, draft.rule_id)
    tried = dry_run(draft, samples=samples)
    made = Proposal(
        f"P{secrets.token_hex(5)}", draft.action, draft.rule_id, draft.base_version, by, _now(), note[:500],
        "open", draft.file, tried,
    )  # fmt: skip
    with _alone():
        _save(made)
        _audit(made, "proposed", by)
    return made


def _decided(proposal_id: str, by: str) -> Proposal:
    found = get(proposal_id)
    _named(by, found.rule_id)
    if found.state != "open":
        raise MedlakeError("E448", rule_id=found.rule_id, detail=f"{found.proposal_id}: {found.state}")
    return found


def publish(proposal_id: str, *, by: str, on: date, note: str = "") -> dict[str, Any]:
    """Let a proposal hold from ``on``: version + 1; the rule only observes for 30 days from then.

    It is made again on the rules as they are now, so what was published meanwhile is not undone.

    Returns:
        rule_id, version, action, introduced_on, observes_until.

    Raises:
        MedlakeError: E448 by who proposed it, not open any more, or the rule was changed meanwhile; E447 it does not hold
            together any more.
    """
    from quality.rule import OBSERVATION_DAYS

    with _alone():
        found = _decided(proposal_id, by)
        if by == found.by:
            raise MedlakeError(
                "E448", rule_id=found.rule_id, detail="提出人本人 / by the one who proposed it"
            )
        again = changes.draft(found.action, found.rule_id, on=on, file=found.file)
        if again.base_version != found.base_version:
            detail = f"v{found.base_version} → v{again.base_version}"
            raise MedlakeError("E448", rule_id=found.rule_id, detail=detail)
        version = again.base_version + 1
        file = ""
        if again.file is not None:
            version = int(again.file["rules"][0]["version"])
            file = f"{found.rule_id}.v{version}.yaml"
            content = yaml.safe_dump(again.file, allow_unicode=True, sort_keys=False, width=120)
            overlay.write(overlay.folder() / "published" / file, content)
        done = replace(found, state="published", decided_by=by, decided_at=_now(), reason=note[:500])
        _audit(
            done,
            "retired" if again.file is None else "published",
            by,
            version=version,
            introduced_on=on.isoformat(),
        )
        overlay.hold(found.rule_id, version, "active" if file else "retired", file)
        _save(done)
    until = date.fromordinal(on.toordinal() + OBSERVATION_DAYS)
    return {
        "proposal_id": found.proposal_id,
        "rule_id": found.rule_id,
        "action": found.action,
        "version": version,
        "introduced_on": on.isoformat(),
        "observes_until": until.isoformat() if file else None,
    }


def reject(proposal_id: str, *, by: str, note: str) -> dict[str, Any]:
    """Close a proposal; whoever proposed it may take it back.

    Raises:
        MedlakeError: E448, no reason, or not open any more.
    """
    with _alone():
        found = _decided(proposal_id, by)
        if not note.strip():
            raise MedlakeError("E448", rule_id=found.rule_id, detail="--note")
        done = replace(found, state="rejected", decided_by=by, decided_at=_now(), reason=note[:500])
        _audit(done, "rejected", by)
        _save(done)
    return {"proposal_id": found.proposal_id, "rule_id": found.rule_id, "state": "rejected"}


def log(rule_id: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """The changelog, newest first: when, who, which rule and version, what the dry run had said."""
    entries = ops.audit_entry
    query = select(entries).where(entries.c.entry.like(f'%"{_ACTIONS}%')).order_by(entries.c.seq.desc())
    found: list[dict[str, Any]] = []
    with ops.engine().begin() as connection:
        for row in connection.execute(query):
            entry = json.loads(row.entry)
            if str(entry["action"]).startswith(_ACTIONS) and rule_id in (None, entry.get("rule_id")):
                found.append(
                    {
                        "seq": row.seq,
                        "at": row.at,
                        "step": entry["action"].removeprefix(_ACTIONS),
                        **{k: entry.get(k) for k in ("rule_id", "version", "change", "actor", "proposal_id", "note",
                                                     "introduced_on", "dry_run", "content_sm3")},
                        "hash": row.hash,
                    }
                )  # fmt: skip
            if len(found) == limit:
                break
    return found
