"""Rules of this installation: a steward proposes, a dry run shows what would change, a second person publishes.

The shipped rules (``quality/rules``) are never written to. Public: ``propose``, ``dry_run``, ``publish``, ``reject``,
``log``, and ``drafts`` to look at proposals.
"""

from __future__ import annotations

from quality.authoring.changes import draft
from quality.authoring.dryrun import dry_run
from quality.authoring.flow import get, log, proposals, propose, publish, reject

__all__ = ["draft", "dry_run", "get", "log", "proposals", "propose", "publish", "reject"]
