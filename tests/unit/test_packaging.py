"""The wheel has what the rooms read at run time: every file of a room that git tracks, not only Python."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Of each kind of data one place where its absence would show late.
READ_AT_RUN_TIME = (
    "quality/scorecards/parameters.yaml", "quality/forensics/measures.sql", "quality/forensics/parameters.yaml",
    "quality/tickets/parameters.yaml", "quality/rules/rule.schema.json", "quality/macros.sql", "lake/access.yaml",
    "portal/templates/frame.html", "portal/static/portal.css", "worklist/kinds/quality_ticket.yaml",
)  # fmt: skip


def git(*words: str, stdin: str = "") -> list[str]:
    done = subprocess.run(["git", *words], cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        pytest.skip(f"git answers: {done.stderr.strip()[:80]}")
    return done.stdout.splitlines()


def test_every_tracked_file_of_a_room_is_in_the_wheel() -> None:
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    wheel = hatch["targets"]["wheel"]
    # hatchling takes whole folders but for what git ignores; any other choice of files would have to be held here
    assert set(wheel) == {"packages"} and set(hatch) <= {"targets", "dev-mode-dirs"}
    tracked = git("ls-files")
    # dashboards has an environment of its own
    rooms = {f.split("/")[0] for f in tracked if f.count("/") == 1 and f.endswith("/__init__.py")}
    assert rooms - {"tests", "dashboards"} == set(wheel["packages"])
    packed = [f for f in tracked if f.split("/")[0] in wheel["packages"]]
    assert git("check-ignore", "--no-index", "--stdin", stdin="\n".join(packed)) == []
    assert set(READ_AT_RUN_TIME) <= set(packed)
    assert {Path(f).parts[2] for f in packed if f.startswith("products/exports/templates/")}
