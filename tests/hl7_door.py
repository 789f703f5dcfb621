"""A real MLLP listener process and senders, for tests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

_CODE = "import sys; from medlake.commands.listen import app; app(sys.argv[1:])"


class Door:
    """``medlake listen mllp`` in a process of its own, on a free port."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-c", _CODE, "mllp", "--port", "0", "--json", *options]
        self.process = subprocess.Popen(
            command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line.startswith("MLLP "), line + self.process.stderr.read()
        self.port = int(line.split()[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self) -> dict[str, Any]:
        """SIGTERM; returns what the command printed as its last line."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate()
        assert self.process.returncode == 0, err
        return dict(json.loads(out.strip().splitlines()[-1]))

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


@dataclass
class Sender:
    """One connection; ``acked`` are the control ids that were answered with AA."""

    port: int
    acked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self._rest = b""

    def write(self, message: str | bytes) -> None:
        body = message.encode() if isinstance(message, str) else message
        self.socket.sendall(b"\x0b" + body + b"\x1c\r")

    def read(self) -> bytes | None:
        """The next answer; None when the other side has closed."""
        while b"\x1c\r" not in self._rest:
            data = self.socket.recv(65536)
            if not data:
                return None
            self._rest += data
        answer, self._rest = self._rest.split(b"\x1c\r", 1)
        return answer.removeprefix(b"\x0b")

    def send(self, message: str | bytes) -> str:
        """Send one message, wait for its answer, return MSA-1."""
        self.write(message)
        answer = self.read()
        assert answer is not None, "closed"
        msa = next(s for s in answer.decode("latin-1").split("\r") if s.startswith("MSA")).split("|")
        if msa[1] == "AA":
            self.acked.append(msa[2])
        return msa[1]

    def close(self) -> None:
        self.socket.close()
