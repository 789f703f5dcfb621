"""Networks for edge tests: each machine in a network namespace of its own when we may, else proxies that can be cut.

Either way the programs are real and the lines between them can be cut, restored and slowed down.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

_CLONE_NEWNET = 0x40000000


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def namespaces_work() -> bool:
    """Whether this process may make network namespaces and veth pairs."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    name = f"mlt{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("-n", name, "link", "add", "a0", "type", "veth", "peer", "name", "b0")
    except subprocess.CalledProcessError:
        return False
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    return True


class Namespaces:
    """Machines as namespaces; a line is a veth pair. Addresses are the same everywhere, nothing reaches outside."""

    def __init__(self) -> None:
        self._made: list[str] = []
        self._lines: dict[str, tuple[str, str, int]] = {}

    def _name(self, machine: str) -> str:
        return f"ml{os.getpid()}-{machine}"

    def machine(self, machine: str) -> None:
        name = self._name(machine)
        _ip("netns", "add", name)
        self._made.append(name)
        _ip("-n", name, "link", "set", "lo", "up")

    def line(self, child: str, parent: str, port: int) -> str:
        """Connect a machine to its parent; returns where the parent is reached."""
        number = len(self._lines) + 1
        ours, theirs = f"u{number}", f"d{number}"
        _ip(
            "-n",
            self._name(child),
            "link",
            "add",
            ours,
            "type",
            "veth",
            "peer",
            "name",
            theirs,
            "netns",
            self._name(parent),
        )
        for machine, device, host in ((child, ours, 2), (parent, theirs, 1)):
            _ip("-n", self._name(machine), "addr", "add", f"10.77.{number}.{host}/24", "dev", device)
            _ip("-n", self._name(machine), "link", "set", device, "up")
        self._lines[child] = (self._name(parent), theirs, number)
        return f"10.77.{number}.1:{port}"

    def listen_host(self) -> str:
        return "0.0.0.0"  # of a namespace that has no way out

    def port(self, wanted: int) -> int:
        return wanted

    def command(self, machine: str) -> list[str]:
        return ["ip", "netns", "exec", self._name(machine)]

    def cut(self, child: str) -> None:
        parent, device, _ = self._lines[child]
        _ip("-n", parent, "link", "set", device, "down")

    def restore(self, child: str) -> None:
        parent, device, _ = self._lines[child]
        _ip("-n", parent, "link", "set", device, "up")

    def slow(self, child: str, kilobytes_per_second: int) -> None:
        rate = f"{kilobytes_per_second * 8}kbit"
        words = [
            "tc",
            "qdisc",
            "add",
            "dev",
            f"u{self._lines[child][2]}",
            "root",
            "tbf",
            "rate",
            rate,
            "burst",
            "16kb",
            "latency",
            "200ms",
        ]
        subprocess.run([*self.command(child), *words], check=True, capture_output=True)

    def fast(self, child: str) -> None:
        words = ["tc", "qdisc", "del", "dev", f"u{self._lines[child][2]}", "root"]
        subprocess.run([*self.command(child), *words], check=True, capture_output=True)

    @contextmanager
    def _in(self, machine: str) -> Iterator[None]:
        libc = ctypes.CDLL(None, use_errno=True)
        with (
            Path("/proc/thread-self/ns/net").open() as home,
            Path(f"/run/netns/{self._name(machine)}").open() as there,
        ):
            if libc.setns(there.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                libc.setns(home.fileno(), _CLONE_NEWNET)

    def inside(self, machine: str) -> AbstractContextManager[Any]:
        """Sockets opened in this thread meanwhile are the machine's."""
        return self._in(machine)

    def close(self) -> None:
        for name in self._made:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


class Proxies:
    """All on loopback; a line is a proxy that stops passing bytes on, and lets nobody in, when it is cut."""

    def __init__(self) -> None:
        self._proxies: dict[str, _Proxy] = {}

    def machine(self, machine: str) -> None:
        return

    def line(self, child: str, parent: str, port: int) -> str:
        self._proxies[child] = _Proxy(port)
        return f"127.0.0.1:{self._proxies[child].port}"

    def listen_host(self) -> str:
        return "127.0.0.1"

    def port(self, wanted: int) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def command(self, machine: str) -> list[str]:
        return []

    def cut(self, child: str) -> None:
        self._proxies[child].cut()

    def restore(self, child: str) -> None:
        self._proxies[child].is_cut = False

    def slow(self, child: str, kilobytes_per_second: int) -> None:
        self._proxies[child].rate = kilobytes_per_second * 1000

    def fast(self, child: str) -> None:
        self._proxies[child].rate = 0

    def inside(self, machine: str) -> AbstractContextManager[Any]:
        return nullcontext()

    def close(self) -> None:
        for proxy in self._proxies.values():
            proxy.server.close()


class _Proxy:
    def __init__(self, to: int) -> None:
        self.to, self.is_cut, self.rate = to, False, 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.server.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_cut = True
        for one in self._open:
            one.close()
        self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self.server.accept()
            except OSError:
                return
            try:
                if self.is_cut:
                    raise OSError
                there = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                here.close()
                continue
            self._open += [here, there]
            for source, target in ((here, there), (there, here)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 14):
                if self.rate:
                    time.sleep(len(data) / self.rate)
                target.sendall(data)
        except OSError:
            pass
        finally:
            source.close()
            target.close()


Network = Namespaces | Proxies


def network() -> Network:
    """Namespaces where they may be made, else proxies."""
    return Namespaces() if namespaces_work() else Proxies()
