"""A real PostgreSQL on a free loopback port, one for the whole session, from Debian's package."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.base import AS_NOBODY, folder_of_nobody


@dataclass(frozen=True)
class Postgres:
    """``url(database)`` is for SQLAlchemy with psycopg; the superuser ``postgres`` needs no password on loopback."""

    host: str
    port: int

    def url(self, database: str = "postgres", driver: str = "postgresql+psycopg") -> str:
        return f"{driver}://postgres@{self.host}:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database and return its URL. A session that an earlier test left open on it is ended."""
        import psycopg

        with psycopg.connect(f"postgresql://postgres@{self.host}:{self.port}/postgres", autocommit=True) as c:
            c.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
            c.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)


def _bin() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not found:
        raise RuntimeError("PostgreSQL is not installed; tests/install_deps.sh installs it")
    return found[-1].parent


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """PostgreSQL refuses to run as root, so root hands its folder to ``nobody``."""
    with folder_of_nobody("postgres") as folder:
        yield from _running(folder)


def _running(folder: Path) -> Iterator[Postgres]:
    prefix = list(AS_NOBODY)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    env = os.environ | {"LC_ALL": "C.UTF-8", "HOME": str(folder)}
    data, bin_ = folder / "data", _bin()
    quiet = {"check": True, "capture_output": True, "cwd": folder, "env": env}
    init = [bin_ / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run([*prefix, *map(str, init)], **quiet)  # type: ignore[call-overload]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    start = [bin_ / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"]
    subprocess.run([*prefix, *map(str, start)], check=True, cwd=folder, env=env, stdout=subprocess.DEVNULL)
    try:
        yield Postgres("127.0.0.1", port)
    finally:
        stop = [bin_ / "pg_ctl", "-D", data, "-m", "immediate", "stop"]
        subprocess.run([*prefix, *map(str, stop)], check=False, capture_output=True, cwd=folder, env=env)
