"""A real ``medlake serve`` on a free port, and a client system that uploads to it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import MEDLAKE, free_port

JPEG = b"\xff\xd8\xff\xe0" + b"photo" * 50
PNG = b"\x89PNG\r\n\x1a\n" + b"ultrasound" * 20
PDF = b"%PDF-1.7\n" + b"ecg " * 60
DICOM = b"\0" * 128 + b"DICM" + b"image" * 20


@dataclass
class Server:
    base: str
    process: subprocess.Popen[bytes]
    word: str

    def post(self, feed: str, *, word: str | None = None, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.word if word is None else word}"} | more.pop("headers", {})
        return httpx.post(f"{self.base}/ingest/{feed}", headers=headers, timeout=60, **more)

    def receipt(self, receipt_id: str, *, word: str | None = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.word if word is None else word}"}
        return httpx.get(f"{self.base}/ingest/receipts/{receipt_id}", headers=headers, timeout=60)

    def stop(self) -> None:
        """In good order: what was received is handed over."""
        self.process.terminate()
        self.process.wait()


@contextmanager
def serving(home: Path, word: str, **settings: str) -> Iterator[Server]:
    port = free_port()
    env = {k: v for k, v in os.environ.items() if not k.startswith("MEDLAKE_")}
    env |= {"MEDLAKE_HOME": str(home), "MEDLAKE_PORTAL_PORT": str(port)}
    env |= {f"MEDLAKE_{k.upper()}": v for k, v in settings.items()}
    process = subprocess.Popen([str(MEDLAKE), "serve"], env=env)
    base = f"http://127.0.0.1:{port}"
    try:
        while True:  # ends by an answer or by the server's own end
            assert process.poll() is None, "the server ended before it answered"
            try:
                assert httpx.get(base + "/healthz").status_code == 200
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield Server(base, process, word)
    finally:
        process.kill()
        process.wait()


def visit(number: int, **more: Any) -> dict[str, Any]:
    """A hypertension visit as a mobile application sends it: keys are the contract's English or source names."""
    return {
        "visit_id": f"V{number}",
        "档案ID": f"A{number}",
        "visited_on": "2026-11-18",
        "recorded_at": "2026-11-18 09:30:00",
        "sbp_mmhg": 150,
    } | more
