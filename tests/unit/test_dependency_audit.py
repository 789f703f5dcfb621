"""The audit of locked packages finds an old version, a strange source and a file without digest."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lake.settings import PROJECT_ROOT

_spec = importlib.util.spec_from_file_location(
    "audit_dependencies", PROJECT_ROOT / ".ci" / "audit_dependencies.py"
)
assert _spec and _spec.loader
audit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(audit)

LOCK = """
[[package]]
name = "Jinja2"
version = "{version}"
source = {{ {source} }}
wheels = [{{ url = "x", hash = "{digest}" }}]
"""


def told(
    folder: Path, version: str, source: str = 'registry = "https://pypi.org/simple"', digest: str = "sha256:0"
) -> str:
    lock = folder / "uv.lock"
    lock.write_text(LOCK.format(version=version, source=source, digest=digest), "utf-8")
    return " ".join(audit.problems(lock))


def test_what_is_wrong_with_a_lock_is_named(tmp_path: Path) -> None:
    assert told(tmp_path, "3.1.6") == ""
    assert "CVE-2025-27516" in told(tmp_path, "3.1.5")
    assert "source" in told(tmp_path, "3.1.6", 'git = "https://example.invalid/x"')
    assert "sha256" in told(tmp_path, "3.1.6", digest="md5:0")


def test_our_locks_hold_nothing_of_the_list() -> None:
    assert audit.main() == 0
