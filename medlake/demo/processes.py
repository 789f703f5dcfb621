"""Servers and steps of the demo as processes: started in sessions of their own, stopped by pid, measured."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from lake.errors import MedlakeError
from lake.settings import settings


def _run_dir() -> Path:
    return settings().folder("run")


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment and more, with bytecode kept: some forty processes import the same libraries."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | dict(extra)


def log_path(name: str) -> Path:
    return settings().folder("logs") / f"{name}.log"


def _recorded(name: str) -> psutil.Process | None:
    """The living process that the pid file names; the start time guards against a pid that was given again."""
    try:
        note = json.loads((_run_dir() / f"{name}.pid").read_text())
        process = psutil.Process(note["pid"])
        if abs(process.create_time() - note["create_time"]) < 2 and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except (OSError, ValueError, KeyError, psutil.Error):
        pass
    return None


def is_running(name: str) -> bool:
    return _recorded(name) is not None


def running() -> dict[str, psutil.Process]:
    """All living processes of the demo, by name."""
    names = [p.stem for p in sorted(_run_dir().glob("*.pid"))]
    return {name: process for name in names if (process := _recorded(name))}


def start(name: str, argv: Sequence[str | Path], env: Mapping[str, str], *, nice: int = 0) -> None:
    """Start a process that outlives this one, unless it already runs. Its output goes to its log."""
    if is_running(name):
        return
    with log_path(name).open("ab") as log:
        process = subprocess.Popen(
            [str(a) for a in argv],
            env=_environment(env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=settings().home,
            start_new_session=True,
            preexec_fn=(lambda: os.nice(nice) and None) if nice else None,
        )
    note = {"pid": process.pid, "create_time": psutil.Process(process.pid).create_time()}
    (_run_dir() / f"{name}.pid").write_text(json.dumps(note))


def stop_all(patience: float = 10.0) -> list[str]:
    """Stop everything the demo started, by pid; returns the names. Stubborn ones are killed."""
    found = running()
    tree = [p for process in found.values() for p in [process, *process.children(recursive=True)]]
    for process in tree:
        try:
            process.send_signal(signal.SIGTERM)
        except psutil.Error:
            pass
    _, alive = psutil.wait_procs(tree, timeout=patience)
    for process in alive:
        try:
            process.kill()
        except psutil.Error:
            pass
    psutil.wait_procs(alive, timeout=5)
    for file in _run_dir().glob("*.pid"):
        file.unlink()
    return sorted(found)


def port_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings().host, port))
        except OSError:
            return False
    return True


def _owner(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                return f"（{process.name()}, pid {connection.pid}）"
    except psutil.Error:
        pass
    return ""


def claim_port(port: int, name: str, setting: str) -> None:
    """Make sure a port can be had.

    Raises:
        MedlakeError: E702, something else listens there; names it and the setting that changes the port.
    """
    if not port_free(port):
        raise MedlakeError("E702", port=port, name=name, owner=_owner(port), setting=setting)


@dataclass
class Peaks:
    """Largest single process and largest sum over the demo's processes, resident megabytes."""

    process_mb: float = 0.0
    process_name: str = ""
    tree_mb: float = 0.0


class Sampler:
    """Samples the memory of this process, its children and the demo's servers every half second."""

    def __init__(self) -> None:
        self.peaks = Peaks()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _loop(self) -> None:
        while not self._stop.wait(0.5):
            self._sample()

    def _sample(self) -> None:
        seen: dict[int, tuple[float, str]] = {}
        for root in [psutil.Process(), *running().values()]:
            try:
                for process in [root, *root.children(recursive=True)]:
                    rss = process.memory_info().rss / 2**20
                    seen[process.pid] = (rss, process.name())
            except psutil.Error:
                continue
        if not seen:
            return
        largest, name = max(seen.values())
        if largest > self.peaks.process_mb:
            self.peaks.process_mb, self.peaks.process_name = largest, name
        self.peaks.tree_mb = max(self.peaks.tree_mb, sum(rss for rss, _ in seen.values()))


def run_step(
    name: str, argv: Sequence[str | Path], env: Mapping[str, str], *, nice: int = 0
) -> subprocess.Popen[bytes]:
    """Start a step that this process waits for; its output goes to its log."""
    log = log_path(name).open("ab")
    return subprocess.Popen(
        [str(a) for a in argv],
        env=_environment(env),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=settings().home,
        preexec_fn=(lambda: os.nice(nice) and None) if nice else None,
    )


def finish(process: subprocess.Popen[bytes], name: str) -> None:
    """Wait for a step.

    Raises:
        MedlakeError: E703, it ended with an error; names its log.
    """
    if process.wait() != 0:
        raise MedlakeError("E703", name=name, log=log_path(name))


def wait_for(check: Callable[[], bool], name: str, *, seconds: float = 180.0) -> None:
    """Wait until a server answers.

    Raises:
        MedlakeError: E703, it died or did not answer in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return
        if not is_running(name):
            break
        time.sleep(0.3)
    raise MedlakeError("E703", name=name, log=log_path(name))
