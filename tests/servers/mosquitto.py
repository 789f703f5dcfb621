"""A real mosquitto on a free loopback port: persistent sessions on disk, so that it can be killed and come back."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers.base import AS_NOBODY, folder_of_nobody, port_of_ours, until_it_answers


@dataclass
class Mosquitto:
    """``start`` and ``stop`` may be called in turn; what is queued for absent subscribers survives."""

    folder: Path
    port: int
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        config = self.folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            *(self.options or ("allow_anonymous true",)),
            "persistence true",
            f"persistence_location {self.folder}/",
            "max_queued_messages 0",  # the default drops what an absent subscriber has not fetched beyond 1,000
            "log_dest none",
        ]
        config.write_text("\n".join(lines) + "\n", "utf-8")
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin") or "mosquitto"
        self.process = subprocess.Popen([*AS_NOBODY, program, "-c", str(config)], cwd=self.folder)
        until_it_answers(self.process, self.port)

    def stop(self) -> None:
        """End it in good order: mosquitto writes its database when it ends."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
            self.process = None


@contextmanager
def a_broker(
    options: tuple[str, ...] = (), prepare: Callable[[Path], None] | None = None
) -> Iterator[Mosquitto]:
    """A broker of one's own. ``options`` may name ``{folder}``, which ``prepare`` can fill before the start."""
    with folder_of_nobody("mosquitto") as folder:
        if prepare:
            prepare(folder)
        server = Mosquitto(folder, port_of_ours(), tuple(o.format(folder=folder) for o in options))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def _mosquitto_session() -> Iterator[Mosquitto]:
    with a_broker() as server:
        yield server


@pytest.fixture
def mosquitto_server(_mosquitto_session: Mosquitto) -> Mosquitto:
    """The session's broker, running again if a test stopped it."""
    if _mosquitto_session.process is None:
        _mosquitto_session.start()
    return _mosquitto_session
