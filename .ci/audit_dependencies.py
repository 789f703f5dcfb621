"""Locked packages against a list of known advisories that is kept by hand, and each of them with a digest from the index.

This is no vulnerability database: ``advisories.csv`` names what its keepers knew on the day below, written down from
general knowledge (the index reached where it was made answers 404 to what pip-audit asks). Where there is a network, run
``uvx pip-audit -r`` over ``uv export`` besides. Nothing here asks the network, so nothing fails by it. Exit 1: a locked
version is older than a fix.
"""

from __future__ import annotations

import csv
import sys
import tomllib
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version

AS_OF = "2026-11-24"
HERE = Path(__file__).parent
ROOT = HERE.parent


def problems(lock: Path, advisories: Path = HERE / "advisories.csv") -> list[str]:
    """What is wrong with a lock, one line each: a known advisory, another source than the index, a file without digest."""
    with advisories.open(encoding="utf-8") as file:
        known = list(csv.DictReader(file))
    found = []
    for package in tomllib.loads(lock.read_text("utf-8"))["package"]:
        name, source = canonicalize_name(package["name"]), package["source"]
        if "editable" in source or "virtual" in source:
            continue  # this project
        if source.get("registry") != "https://pypi.org/simple":
            found.append(f"{name}: source {source}")
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        if not files or not all(str(f.get("hash", "")).startswith("sha256:") for f in files):
            found.append(f"{name}: a file without a sha256")
        for line in known:
            if canonicalize_name(line["package"]) == name and Version(package["version"]) < Version(
                line["fixed_in"]
            ):
                told = f"{line['advisory']} ({line['what']}), fixed in {line['fixed_in']}"
                found.append(f"{name} {package['version']}: {told}")
    return found


def main() -> int:
    locks = [ROOT / "uv.lock", *sorted((ROOT / "dashboards").glob("uv.lock"))]
    found = [f"{lock.relative_to(ROOT)}: {line}" for lock in locks for line in problems(lock)]
    print("\n".join(found) or f"dependencies: {len(locks)} locks, nothing of the list of {AS_OF}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
