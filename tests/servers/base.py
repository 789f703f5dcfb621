"""What the servers of Debian's packages share: daemons that refuse root, folders that ``nobody`` may pass."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Runs a command as ``nobody`` when we are root.
AS_NOBODY: tuple[str, ...] = (
    ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups") if os.geteuid() == 0 else ()
)


def give_to_nobody(folder: Path) -> None:
    """Hand a folder to ``nobody``; pytest's folders are for the owner alone, and nobody must pass through."""
    if os.geteuid() != 0:
        return
    shutil.chown(folder, "nobody", "nogroup")
    for parent in folder.parents:
        if parent == Path(parent.anchor) or parent.stat().st_mode & 0o001:
            break
        parent.chmod(parent.stat().st_mode | 0o011)


@contextmanager
def folder_of_nobody(name: str) -> Iterator[Path]:
    """A folder of the server's own, for ``nobody`` when we are root; removed at the end.

    Not below pytest's folder: every session that begins closes that to all but its owner, also to servers that run.
    """
    made = Path(tempfile.mkdtemp(prefix=f"medlake-{name}-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(made, "nobody", "nogroup")
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def port_of_ours() -> int:
    """A free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait for a server to take connections; ends by its first answer or by its own end."""
    while True:
        assert process.poll() is None, f"the server ended with {process.returncode} before it answered"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
