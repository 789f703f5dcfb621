"""The floor of ``make bench-mllp``: the same frames answered with fixed bytes after one shared sync, nothing parsed.

``python -m bench.mllp_floor FILE`` prints its port to standard error and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys


class _File:
    """Frames appended with one ``fdatasync`` for all that wait."""

    def __init__(self, path: str) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._busy = False

    async def append(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[None] = loop.create_future()
        self._waiting.append((data, told))
        if not self._busy:
            self._busy = True
            while self._waiting:
                group, self._waiting = self._waiting, []
                await loop.run_in_executor(None, self._write, b"".join(d for d, _ in group))
                for _, done in group:
                    done.set_result(None)
            self._busy = False
        await told

    def _write(self, data: bytes) -> None:
        os.write(self._handle, data)
        os.fdatasync(self._handle)


async def main(path: str) -> None:
    file = _File(path)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                frame = await reader.readuntil(b"\x1c\r")
                await file.append(frame)
                name = frame.split(b"|", 10)[9]
                writer.write(b"\x0bMSH|^~\\&|\rMSA|AA|" + name + b"\r\x1c\r")
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(f"MLLP {server.sockets[0].getsockname()[1]}", file=sys.stderr, flush=True)
    await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
