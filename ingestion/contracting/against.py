"""May the contracts go in as they are? Compared with an earlier version, and with what the lake holds.

A breaking change is refused until its feed has a new major version and a note under ``contracts/migrations`` that says
what deliverers and readers must do. An additive one wants a new minor version; the lake takes it with the next batch
(Delta's schema merge on append and on merge), old rows hold NULL.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from ingestion.contracting.change import Change, between
from lake import tables
from lake.contracts import CONTRACTS_DIR, ENVELOPE, FeedContract, contract, contracts, load_contract
from lake.errors import MedlakeError
from lake.settings import PROJECT_ROOT

MIGRATIONS = CONTRACTS_DIR / "migrations"

_VERSION = re.compile(r"^(\d+)\.(\d+)\.(\d+)$")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MedlakeError(
            "E235", place=" ".join(words), detail=done.stderr.strip().splitlines()[-1:] or "git"
        )
    return done.stdout


def _loaded(name: str, text: str) -> FeedContract:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text, "utf-8")
        return load_contract(path)


def earlier(against: str) -> dict[str, FeedContract]:
    """The contracts of a git revision, or the one of a file, by feed.

    Raises:
        MedlakeError: E235, there is no such revision or file.
    """
    path = Path(against)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise MedlakeError("E235", place=against, detail="no such file")
        old = load_contract(path)
        return {old.feed: old}
    folder = CONTRACTS_DIR.relative_to(PROJECT_ROOT).as_posix()
    names = _git("ls-tree", "--name-only", against, f"{folder}/").split()
    found = [_loaded(Path(n).name, _git("show", f"{against}:{n}")) for n in names if n.endswith(".odcs.yaml")]
    return {c.feed: c for c in found}


def lake_changes(new: FeedContract) -> list[Change]:
    """What the lake's silver tables hold, compared with what the contract says."""
    found: list[Change] = []
    for table in new.tables.values():
        name = f"silver/{table.name}"
        if not tables.exists(name):
            continue
        held, said = tables.column_types(name), table.silver_columns
        place = f"{new.feed}.{table.name}"
        for column, kind in held.items():
            if column not in said and column not in ENVELOPE:
                found.append(
                    Change(
                        "lake_column_left", True, f"{place}.{column}", "湖中仍有此列", "the lake still has it"
                    )
                )
            elif column in said and said[column] != kind:
                told = f"{kind} → {said[column]}"
                zh, en = f"湖中列的类型不同：{told}", f"the lake's column has another type: {told}"
                found.append(Change("lake_type_differs", True, f"{place}.{column}", zh, en))
        for column in said:
            if column not in held and column not in ENVELOPE:
                zh, en = (
                    "下一批写入时湖中加列，旧记录为空",
                    "the lake gains it with the next batch, old rows hold NULL",
                )
                found.append(Change("lake_column_missing", False, f"{place}.{column}", zh, en))
    return found


def _parts(version: str) -> tuple[int, int, int]:
    found = _VERSION.match(version)
    return (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)


def _migration(new: FeedContract) -> set[str]:
    """Places that the note of a major version covers; empty when there is none."""
    path = MIGRATIONS / f"{new.feed}-{_parts(new.version)[0]}.0.0.yaml"
    if not path.is_file():
        return set()
    return {str(c["place"]) for c in yaml.safe_load(path.read_text("utf-8"))["changes"]}


def _moves(old: dict[str, FeedContract], new: dict[str, FeedContract]) -> dict[str, str]:
    """Tables that went to another feed whole: name -> new feed."""
    where = {t: f for f, c in new.items() for t in c.tables}
    return {t: where[t] for f, c in old.items() for t in c.tables if t in where and where[t] != f}


def _told(change: Change, moves: dict[str, str]) -> Change:
    table = change.place.partition(".")[2]
    if change.kind in ("table_removed", "table_added") and table in moves:
        zh, en = f"表移到数据源 {moves[table]}", f"table moved to feed {moves[table]}"
        return Change("table_moved", change.breaking, change.place, zh, en)
    return change


def _remedy(feed: FeedContract | None, change: Change) -> tuple[str, str]:
    name = change.place.split(".")[0]
    major = _parts(feed.version)[0] if feed else 0
    note = f"ingestion/contracts/migrations/{name}-{major + 1}.0.0.yaml"
    return (
        f"版本升为 {major + 1}.0.0，写 {note} 说明交付方与使用方怎么办，并通知双方",
        f"raise the version to {major + 1}.0.0 and say in {note} what deliverers and readers do",
    )


def _refusals(
    old: FeedContract | None, new: FeedContract | None, changes: list[Change]
) -> list[dict[str, Any]]:
    """Changes of one feed that its version does not cover."""
    if new is None or old is None:
        return [asdict(c) | _texts(_remedy(old, c)) for c in changes if c.breaking]
    before, after = _parts(old.version), _parts(new.version)
    covered = _migration(new) if after[0] > before[0] else set()
    breaking = [c for c in changes if c.breaking and c.place not in covered]
    if breaking:
        return [asdict(c) | _texts(_remedy(old, c)) for c in breaking]
    grown = [
        c for c in changes if c.kind in ("field_added", "table_added", "required_dropped", "level_raised")
    ]
    if grown and after[:2] <= before[:2]:  # a tuple: 2.0 is after 1.9
        wanted = f"{before[0]}.{before[1] + 1}.0"
        remedy = (f"版本 {new.version} 升为 {wanted}", f"raise the version {new.version} to {wanted}")
        return [asdict(c) | _texts(remedy) for c in grown]
    return []


def _texts(remedy: tuple[str, str]) -> dict[str, str]:
    return {"remedy_zh": remedy[0], "remedy_en": remedy[1]}


def review(feed: str | None, against: str) -> dict[str, Any]:
    """See ``ingestion.contracting.review``."""
    if feed is not None:
        contract(feed)
    old, now = earlier(against), contracts()
    is_file = Path(against).suffix in (".yaml", ".yml")
    wanted = [feed] if feed else sorted(old) if is_file else sorted(set(old) | set(now))
    moves = _moves(old, now) if not is_file else {}
    changes: list[Change] = []
    refused: list[dict[str, Any]] = []
    for name in wanted:
        before, after = old.get(name), now.get(name)
        found = [_told(c, moves) for c in between(before, after)]
        held = lake_changes(after) if after else []
        changes += found + held
        refused += _refusals(before, after, found)
        refused += [asdict(c) | _texts(_remedy(after, c)) for c in held if c.breaking]
    return {
        "against": against,
        "feeds": len(wanted),
        "breaking": sum(c.breaking for c in changes),
        "additive": sum(not c.breaking for c in changes),
        "refused": refused,
        "changes": [asdict(c) for c in changes],
    }
