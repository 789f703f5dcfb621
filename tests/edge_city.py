"""A small city of edge nodes for tests: real processes of centre, institutions and stations, on a network to cut."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingestion.edge.pki import Authority
from tests.edge_net import Network

PROGRAM = [sys.executable, "-c", "from medlake.commands.edge import app; app()"]
PASSPHRASE = "医湖测试"


class City:
    """``home`` is the centre's. Machines are called by their node's name; ``centre`` is the centre."""

    def __init__(self, home: Path, authority: Authority, net: Network) -> None:
        self.home, self._authority, self.net = home, authority, net
        self._root = home.parent / "nodes"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[str, int] = {}
        self._page: dict[str, int] = {}
        self._mllp: dict[str, int] = {}
        net.machine("centre")
        self._ports["centre"] = net.port(8443)

    def folder(self, node: str) -> Path:
        return self._root / node

    def add(
        self,
        node: str,
        parent: str = "centre",
        *,
        listens: bool = False,
        mllp: bool = False,
        **settings: object,
    ) -> None:
        self.net.machine(node)
        address = self.net.line(node, parent, self._ports[parent])
        self._ports[node], self._page[node] = self.net.port(8444), self.net.port(8310)
        self._mllp[node] = self.net.port(2575) if mllp else 0
        told: dict[str, object] = {
            "page_port": self._page[node], "settle_seconds": 0.1, "heartbeat_seconds": 0.5, "most_backoff_seconds": 0.5,
            "timeout_seconds": 3.0, "mllp_port": self._mllp[node],
            "listen": f"{self.net.listen_host()}:{self._ports[node]}" if listens else "",
        }  # fmt: skip
        self._authority.issue(
            node,
            node,
            parent,
            out=self.folder(node),
            parent_address=address,
            passphrase=PASSPHRASE,
            settings_of_node=told | settings,
        )

    # ---- processes

    def _start(self, name: str, words: list[str], home: Path, env: dict[str, str]) -> None:
        whole = (
            {k: v for k, v in os.environ.items() if not k.startswith("MEDLAKE_")}
            | {"MEDLAKE_HOME": str(home)}
            | env
        )
        with (self.home.parent / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*self.net.command(name), *PROGRAM, *words], env=whole, stdout=log, stderr=log
            )

    def start_centre(self, **env: str) -> None:
        words = ["centre", "--host", self.net.listen_host(), "--port", str(self._ports["centre"])]
        self._start("centre", words, self.home, env)

    def start(self, *nodes: str, **env: str) -> None:
        for node in nodes:
            self._start(node, ["run", "--dir", str(self.folder(node))], self.folder(node) / "home", env)

    def started(self, *nodes: str) -> None:
        """Wait until they answer."""
        for node in nodes:
            self.until(lambda node=node: self.status(node) is not None, node)  # type: ignore[misc]

    def power_off(self, name: str) -> None:
        """SIGKILL: nothing is written any more."""
        self._processes[name].kill()
        self._processes.pop(name).wait()

    def died(self, name: str) -> None:
        """Wait until a process that has a kill point reached it."""
        assert self._processes.pop(name).wait() == -signal.SIGKILL

    def stop(self) -> None:
        """The end of a test: what is on disk is safe without any good-bye."""
        for name in list(self._processes):
            self.power_off(name)
        self.net.close()

    def end(self, name: str) -> int:
        """SIGTERM; returns how it ended."""
        self._processes[name].terminate()
        return self._processes.pop(name).wait()

    def until(self, holds: Callable[[], bool], *alive: str) -> None:
        """Wait for something that must come; ends early only when one of these processes ends."""
        while not holds():
            for name in alive:
                code = self._processes[name].poll()
                assert code is None, (
                    f"{name} ended with {code}: {(self.home.parent / f'{name}.log').read_text()[-2000:]}"
                )
            time.sleep(0.05)

    # ---- a node's local door

    def _open(self, node: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        told = {"Content-Type": "application/json"} | (headers or {})
        request = urllib.request.Request(f"http://127.0.0.1:{self._page[node]}{path}", data, told)
        with self.net.inside(node), urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())

    def page_port(self, node: str) -> int:
        return self._page[node]

    def status(self, node: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._open(node, "/status.json")
            return found
        except OSError:
            return None

    def ask(self, node: str, path: str, body: Any = None) -> Any:
        """As a program at the institution does, with the local token. Refusals come back as ``(status, code)``."""
        token = (self.folder(node) / "local.token").read_text()
        try:
            return self._open(node, path, body, {"Authorization": f"Bearer {token}"})
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())["error"]["code"]

    def say_hl7(self, node: str, message: bytes) -> bytes:
        with self.net.inside(node), socket.create_connection(("127.0.0.1", self._mllp[node])) as line:
            line.sendall(b"\x0b" + message + b"\x1c\r")
            answer = b""
            while not answer.endswith(b"\x1c\r"):
                answer += line.recv(4096)
            return answer

    def drop(self, node: str, name: str, content: bytes) -> None:
        target = self.folder(node) / "drop" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(target.name + ".part")
        draft.write_bytes(content)
        draft.rename(target)

    def waits(self, node: str) -> int:
        """Chunks that wait at a node, its stations' included; -1 while it does not answer."""
        found = self.status(node)
        return found["waiting_chunks"] + found["relayed_chunks"] if found else -1
