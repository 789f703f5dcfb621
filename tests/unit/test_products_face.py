"""The room's face: importing it is cheap, and a verb stays a verb after its module was imported."""

from __future__ import annotations

import subprocess
import sys


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_no_engine() -> None:
    loaded = python(
        "import sys, products, portal\n"
        "print([m for m in ('duckdb', 'pyarrow', 'deltalake', 'fastapi', 'dbt') if m in sys.modules])"
    )
    assert loaded == "[]"


def test_a_verb_is_the_function_whatever_was_imported_first() -> None:
    out = python(
        "from products.publish import publish as direct\n"
        "import products.export\n"
        "import products\n"
        "from products import publish, export, cohort\n"
        "assert products.publish is publish is direct\n"
        "print(publish.__name__, export.__name__, cohort.__name__)"
    )
    assert out == "publish export cohort"
