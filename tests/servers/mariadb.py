"""A real MariaDB on a free loopback port, one for the whole session, from Debian's package."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.base import AS_NOBODY, folder_of_nobody, port_of_ours, until_it_answers

PASSWORD = "r0ot p@ss/w:rd%"


@dataclass(frozen=True)
class MariaDB:
    """``reader`` may read every database and nothing else; its password needs quoting in a URL, on purpose."""

    host: str
    port: int

    def connect(self, database: str | None = None) -> Any:
        """An autocommitting connection of the administrator."""
        import pymysql

        return pymysql.connect(
            host=self.host,
            port=self.port,
            user="admin",
            password=PASSWORD,
            database=database,
            autocommit=True,
        )

    def create(self, database: str) -> str:
        """Make an empty database and return the reader's SQLAlchemy URL."""
        from sqlalchemy import URL

        with self.connect() as c, c.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS `{database}`")
            cursor.execute(f"CREATE DATABASE `{database}` CHARACTER SET utf8mb4")
        made = URL.create("mysql+pymysql", "reader", PASSWORD, self.host, self.port, database)
        return made.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDB]:
    with folder_of_nobody("mariadb") as folder:
        yield from _running(folder)


def _running(folder: Path) -> Iterator[MariaDB]:
    data, port = folder / "data", port_of_ours()
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db",
               "--auth-root-authentication-method=normal"]  # fmt: skip
    subprocess.run([*AS_NOBODY, *install], check=True, capture_output=True, cwd=folder)
    users = folder / "users.sql"
    users.write_text(
        f"CREATE USER 'admin'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
        "GRANT ALL ON *.* TO 'admin'@'127.0.0.1' WITH GRANT OPTION;\n"
        f"CREATE USER 'reader'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
        "GRANT SELECT, SHOW VIEW ON *.* TO 'reader'@'127.0.0.1';\n",
        "utf-8",
    )
    users.chmod(0o644)
    command = ["mariadbd", "--no-defaults", f"--datadir={data}", "--bind-address=127.0.0.1", f"--port={port}",
               f"--socket={folder / 'sock'}", f"--init-file={users}", "--innodb-flush-log-at-trx-commit=0",
               f"--pid-file={folder / 'pid'}", "--character-set-server=utf8mb4", "--skip-name-resolve",
               "--innodb-buffer-pool-size=64M"]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*AS_NOBODY, *command], cwd=folder, stdout=log, stderr=log)
    try:
        until_it_answers(process, port)
        yield MariaDB("127.0.0.1", port)
    finally:
        process.terminate()
        process.wait()
