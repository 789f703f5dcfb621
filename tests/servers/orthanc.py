"""A real Orthanc (PACS) with its DICOMweb plugin on free loopback ports, one for the session."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.base import AS_NOBODY, folder_of_nobody, port_of_ours, until_it_answers

PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"


@dataclass
class Orthanc:
    """``rest`` speaks Orthanc's own interface, for the setting up of a test; Medlake uses DICOMweb and DIMSE."""

    folder: Path
    port: int
    dicom_port: int
    aet: str = "ORTHANC"
    user: str = "medlake"
    password: str = "loopback-only"
    process: subprocess.Popen[bytes] | None = field(default=None)
    _client: httpx.Client | None = field(default=None)

    @property
    def dicomweb(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    @property
    def rest(self) -> httpx.Client:
        if self._client is None:
            self._client = httpx.Client(
                base_url=f"http://127.0.0.1:{self.port}", auth=(self.user, self.password), trust_env=False
            )
        return self._client

    def start(self) -> None:
        config = {
            "Name": "medlake-test",
            "StorageDirectory": str(self.folder / "db"),
            "IndexDirectory": str(self.folder / "db"),
            "Plugins": [PLUGIN],
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {self.user: self.password},
            "DicomPort": self.dicom_port,
            "DicomAet": self.aet,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowStore": True,
            "UnknownSopClassAccepted": True,
            "DefaultEncoding": "Chinese",
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "QidoCaseSensitive": True},
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(config), "utf-8")
        program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin") or "Orthanc"
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [*AS_NOBODY, program, str(path)], cwd=self.folder, stdout=log, stderr=log
        )
        log.close()
        until_it_answers(self.process, self.port)
        until_it_answers(self.process, self.dicom_port)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
            self.process = None

    def store(self, data: bytes) -> dict[str, Any]:
        """Put one DICOM object in; Orthanc's answer (its own ids)."""
        answer = self.rest.post("/instances", content=data)
        answer.raise_for_status()
        return dict(answer.json())

    def delete(self, instance_uid: str) -> None:
        """Remove the study or series of a UID."""
        for item in self.rest.post("/tools/lookup", content=instance_uid).json():
            self.rest.delete(item["Path"]).raise_for_status()

    def clear(self) -> None:
        for patient in self.rest.get("/patients").json():
            self.rest.delete(f"/patients/{patient}").raise_for_status()


@pytest.fixture(scope="session")
def _orthanc_session() -> Iterator[Orthanc]:
    with folder_of_nobody("orthanc") as folder:
        server = Orthanc(folder, port_of_ours(), port_of_ours())
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def orthanc_server(_orthanc_session: Orthanc) -> Orthanc:
    """The session's Orthanc, empty, and running again if a test stopped it."""
    if _orthanc_session.process is None:
        _orthanc_session.start()
    _orthanc_session.clear()
    return _orthanc_session
