"""An archive that runs (Orthanc): asked over QIDO-RS and C-FIND, page by page, day by day, until it agrees."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from ingestion.pull import pacs, pacs_sources
from ingestion.readers.dicom import answers
from lake.errors import MedlakeError
from lake.settings import PROJECT_ROOT, settings
from tests.ingestion_world import DAY, Collected, landed
from tests.servers.orthanc import Orthanc

CT = "1.2.840.10008.5.1.4.1.1.2"


def image(
    study: int, series: int, instance: int, *, day: date | None = DAY, patient: str = "P1", **more: Any
) -> bytes:
    """One CT object; texts are GB18030, whatever ``SpecificCharacterSet`` says."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    uid = UID(f"1.2.826.0.1.{study}.{series}.{instance}")
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UID(CT)
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = uid
    data.StudyInstanceUID, data.SeriesInstanceUID = f"1.2.826.0.1.{study}", f"1.2.826.0.1.{study}.{series}"
    data.SpecificCharacterSet = "GB18030"
    data.PatientID, data.PatientName, data.PatientSex = patient, "王^小东", "M"
    data.PatientBirthDate, data.AccessionNumber = "19580312", f"A{study}"
    data.StudyDate = data.SeriesDate = day.strftime("%Y%m%d") if day else ""
    data.StudyTime = data.SeriesTime = "081500"
    data.Modality, data.SeriesNumber, data.InstanceNumber = "CT", series, instance
    data.StudyDescription, data.BodyPartExamined = "胸部平扫", "CHEST"
    data.Rows = data.Columns = 2
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.SamplesPerPixel, data.PixelRepresentation = 7, 1, 0
    data.PhotometricInterpretation, data.PixelData = "MONOCHROME2", b"\0" * 4
    for name, value in more.items():
        setattr(data, name, value)
    written = BytesIO()
    data.save_as(written, enforce_file_format=True)
    return written.getvalue()


def register(*archives: dict[str, Any]) -> None:
    folder = settings().folder("secrets")
    for name, text in (
        ("sources.yaml", json.dumps({"archives": archives})),
        ("orthanc.password", "loopback-only"),
    ):
        (folder / name).write_text(text, "utf-8")
        (folder / name).chmod(0o600)


def qido(server: Orthanc, **more: Any) -> dict[str, Any]:
    return {
        "name": "main",
        "org_code": "H001",
        "protocol": "qido",
        "url": server.dicomweb,
        "user": server.user,
        "password_file": "orthanc.password",
        "page": 3,
        "pause_seconds": 0.01,
    } | more


def cfind(server: Orthanc, **more: Any) -> dict[str, Any]:
    return {
        "name": "dimse",
        "org_code": "H001",
        "protocol": "cfind",
        "host": "127.0.0.1",
        "port": server.dicom_port,
        "called_aet": server.aet,
        "pause_seconds": 0.01,
    } | more


def read(files: list[str]) -> Collected:
    """The rows of the drop's files, one file after the other."""
    sink = Collected()
    for number, name in enumerate(files):
        assert answers.is_answer(Path(name).read_bytes()[:512])
        answers.read(landed(Path(name), number=number, org="H001"), sink)
    return sink


@pytest.fixture
def archive(lake_home: Path, orthanc_server: Orthanc) -> Orthanc:
    """Eight studies of one day (two series, three objects), one of the day before, one without a date."""
    for study in range(1, 9):  # small numbers: what matters is several pages of three
        for series, instance in ((1, 1), (1, 2), (2, 1)):
            orthanc_server.store(image(study, series, instance))
    orthanc_server.store(image(20, 1, 1, day=DAY - timedelta(days=1)))
    orthanc_server.store(image(30, 1, 1, day=None, patient=""))
    register(qido(orthanc_server), cfind(orthanc_server))
    return orthanc_server


@pytest.mark.parametrize("source", ["main", "dimse"])
def test_studies_and_series_of_a_day_come_with_their_counts_and_charset(
    archive: Orthanc, source: str
) -> None:
    found = pacs.pull(source, DAY, start=DAY, end=DAY)
    assert (found["studies"], found["instances"], found["changed"], found["days"]) == (8, 24, 8, 1)
    (path,) = found["files"]
    assert Path(path).parent == settings().sources_dir / DAY.isoformat() / "pacs" / "H001"
    assert Path(path).stat().st_mode & 0o077 == 0
    sink = read(found["files"])
    studies = {r["study_instance_uid"]: r for r in sink.tables["imaging_study"]}
    assert len(studies) == 8 and not sink.rejects
    study = studies["1.2.826.0.1.4"]
    assert (study["name"], study["study_description"], study["patient_local_id"]) == (
        "王小东",
        "胸部平扫",
        "P1",
    )
    assert (study["series_count"], study["instance_count"], study["modalities"]) == ("2", "3", "CT")
    assert (study["study_at"], study["accession_no"], study["_op"]) == ("20261118081500", "A4", "U")
    series = sorted((r["series_instance_uid"], r["instance_count"]) for r in sink.tables["imaging_series"])
    assert series[:2] == [("1.2.826.0.1.1.1", "2"), ("1.2.826.0.1.1.2", "1")] and len(series) == 16


@pytest.mark.parametrize("source", ["main", "dimse"])
def test_only_what_changed_is_delivered_again(archive: Orthanc, source: str) -> None:
    pacs.pull(source, DAY)
    assert pacs.pull(source, DAY)["files"] == []
    archive.store(image(4, 2, 9))
    found = pacs.pull(source, DAY)
    assert (found["changed"], found["instances"], found["days"]) == (1, 26, 4)
    sink = read(found["files"])
    assert [(r["study_instance_uid"], r["instance_count"]) for r in sink.tables["imaging_study"]] == [
        ("1.2.826.0.1.4", "4")
    ]


@pytest.mark.parametrize("source", ["main", "dimse"])
def test_a_study_that_is_gone_becomes_a_tombstone_with_its_series(archive: Orthanc, source: str) -> None:
    pacs.pull(source, DAY)
    archive.delete("1.2.826.0.1.4")
    found = pacs.pull(source, DAY)
    assert (found["deleted"], found["changed"], found["studies"]) == (1, 0, 8)
    sink = read(found["files"])
    assert [(r["study_instance_uid"], r["_op"]) for r in sink.tables["imaging_study"]] == [
        ("1.2.826.0.1.4", "D")
    ]
    assert [r["_op"] for r in sink.tables["imaging_series"]] == ["D", "D"]
    assert pacs.pull(source, DAY)["files"] == []


def test_a_series_that_is_gone_becomes_a_tombstone(archive: Orthanc) -> None:
    pacs.pull("main", DAY)
    archive.delete("1.2.826.0.1.4.2")
    sink = read(pacs.pull("main", DAY)["files"])
    found = {r["series_instance_uid"]: r["_op"] for r in sink.tables["imaging_series"]}
    assert found == {"1.2.826.0.1.4.1": "U", "1.2.826.0.1.4.2": "D"}


def test_a_study_whose_date_was_corrected_is_not_deleted(archive: Orthanc) -> None:
    pacs.pull("main", DAY)
    archive.delete("1.2.826.0.1.4")
    archive.store(image(4, 1, 1, day=DAY - timedelta(days=30)))
    found = pacs.pull("main", DAY, start=DAY, end=DAY)
    assert (found["deleted"], found["changed"]) == (0, 1)
    (row,) = read(found["files"]).tables["imaging_study"]
    assert (row["study_at"], row["instance_count"], row["_op"]) == ("20261019081500", "1", "U")
    assert pacs.pull("main", DAY, start=DAY, end=DAY)["files"] == []


def test_without_dates_everything_comes_undated_studies_too(archive: Orthanc) -> None:
    found = pacs.pull("main", DAY, everything=True)
    assert (found["studies"], found["instances"], found["unidentified"]) == (10, 26, 1)
    undated = [r for r in read(found["files"]).tables["imaging_study"] if r["study_at"] is None]
    assert [r["study_instance_uid"] for r in undated] == ["1.2.826.0.1.30"]


def test_both_ways_of_asking_give_the_same_rows(archive: Orthanc) -> None:
    archive.store(image(50, 1, 1, day=DAY, PatientName="Zhang^San=张^三"))
    both = [read(pacs.pull(s, DAY, start=DAY, end=DAY)["files"]).tables for s in ("main", "dimse")]
    for table in ("imaging_study", "imaging_series"):
        known = [{k for k in r if any(x[k] for x in t[table])} for t in both for r in t[table][:1]]
        shared = sorted((known[0] & known[1]) - {"source_line", "source_updated_at"})
        assert {"study_instance_uid"} < set(shared)
        rows = [sorted(tuple(r[k] for k in shared) for r in t[table]) for t in both]
        assert rows[0] == rows[1]
    assert "张三" in {r["name"] for r in both[0]["imaging_study"]}


class _Proxy:
    """Between Medlake and the archive: answers as told for the first requests, then passes them on."""

    def __init__(self, server: Orthanc, faults: list[str], cap: int | None = None) -> None:
        self.faults, self.asked = list(faults), 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy.asked += 1
                fault = proxy.faults.pop(0) if proxy.faults else ""
                if fault == "hang up":
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return None
                if fault.isdigit():
                    self.send_response(int(fault))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return None
                headers = {"Authorization": self.headers["Authorization"], "Accept": "application/dicom+json"}
                url = f"http://127.0.0.1:{server.port}{self.path}"
                content = httpx.get(url, headers=headers).content
                if cap is not None:
                    content = json.dumps(json.loads(content)[:cap]).encode()
                self.send_response(200)
                if fault == "half":
                    content = content[: len(content) // 2]
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/dicom-web"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def __enter__(self) -> _Proxy:
        return self

    def __exit__(self, *error: object) -> None:
        self.http.shutdown()
        self.http.server_close()


def test_an_archive_that_stumbles_is_asked_again(archive: Orthanc) -> None:
    with _Proxy(archive, ["503", "hang up", "half", "", "429", "half"]) as proxy:
        register(qido(archive, url=proxy.url))
        found = pacs.pull("main", DAY, start=DAY, end=DAY)
        assert (found["studies"], found["instances"]) == (8, 24) and not proxy.faults


def test_pages_smaller_than_asked_for_are_followed_to_the_end(archive: Orthanc) -> None:
    with _Proxy(archive, [], cap=2) as proxy:
        register(qido(archive, url=proxy.url, page=100))
        assert pacs.pull("main", DAY, start=DAY, end=DAY)["studies"] == 8


def test_a_day_that_cannot_be_read_whole_deletes_nothing_and_is_resumed(archive: Orthanc) -> None:
    pacs.pull("main", DAY, start=DAY - timedelta(days=1), end=DAY)
    archive.delete("1.2.826.0.1.4")
    archive.store(image(20, 1, 2, day=DAY - timedelta(days=1)))
    with _Proxy(archive, ["", "", "", "", "500", "500"]) as proxy:  # the day before: two pages, series twice
        register(qido(archive, url=proxy.url, attempts=2))
        with pytest.raises(MedlakeError) as caught:
            pacs.pull("main", DAY, start=DAY - timedelta(days=1), end=DAY)
    assert caught.value.code == "E255" and "HTTP 500 (2 attempts)" in caught.value.zh
    drop = settings().sources_dir / DAY.isoformat() / "pacs" / "H001"
    delivered = sorted(
        drop.glob("*.json"), key=lambda p: p.stem.rsplit("_", 1)[1]
    )  # by the instant of asking
    sink = read([str(delivered[-1])])
    assert len(delivered) == 3 and [r["_op"] for r in sink.tables["imaging_study"]] == ["U"]
    with _Proxy(archive, []) as proxy:
        register(qido(archive, url=proxy.url))
        found = pacs.pull("main", DAY, start=DAY - timedelta(days=1), end=DAY)
        assert (found["studies"], found["deleted"]) == (7, 1)  # the day before was through already


def test_a_wrong_password_and_a_wrong_ae_title_end_at_once(archive: Orthanc) -> None:
    with _Proxy(archive, ["401"]) as proxy:
        register(qido(archive, url=proxy.url))
        with pytest.raises(MedlakeError, match="HTTP 401"):
            pacs.pull("main", DAY)
        assert proxy.asked == 1
    register(cfind(archive, called_aet="NOBODY"))
    with pytest.raises(MedlakeError, match="rejected"):
        pacs.pull("dimse", DAY)


def test_an_archive_that_is_down_is_told_and_the_next_pull_goes_on(archive: Orthanc) -> None:
    archive.stop()
    for source in ("main", "dimse"):
        register(qido(archive, attempts=2), cfind(archive, attempts=2))
        with pytest.raises(MedlakeError, match=r"2 attempts"):
            pacs.pull(source, DAY)
    archive.start()
    for source in ("main", "dimse"):
        assert pacs.pull(source, DAY)["studies"] == 9


def test_killed_after_the_file_is_there_the_next_pull_delivers_the_same_again(archive: Orthanc) -> None:
    from os import environ

    script = f"from datetime import date; from ingestion.pull import pacs; pacs.pull('main', date({DAY:%Y, %-m, %-d}))"
    env = environ | {"MEDLAKE_KILL_AT": "pull.pacs.delivered"}
    done = subprocess.run([sys.executable, "-c", script], env=env, cwd=PROJECT_ROOT, check=False)
    assert done.returncode == -9
    drop = settings().sources_dir / DAY.isoformat() / "pacs" / "H001"
    (first,) = drop.glob("*.json")
    found = pacs.pull("main", DAY)
    assert found["changed"] == 9 and len(list(drop.glob("*.json"))) == 3
    again = next(f for f in found["files"] if "_20261117_" in f)
    assert Path(again).read_text().splitlines()[1:] == first.read_text().splitlines()[1:]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"org_code": "X999"}, "no institution"),
        ({"url": "ftp://x"}, "qido needs url"),
        ({"name": "../x"}, "name"),
        ({"password": "hunter2"}, "password"),
        ({"password_file": "absent"}, "absent does not exist"),
    ],
)
def test_a_register_that_is_wrong_says_so_and_shows_no_secret(
    lake_home: Path, change: dict[str, Any], detail: str
) -> None:
    base = qido(Orthanc(lake_home, 1, 1)) | change
    register(base)
    with pytest.raises(MedlakeError) as caught:
        pacs.pull(base["name"], DAY)
    assert caught.value.code == "E255" and detail in caught.value.zh and "hunter2" not in str(caught.value)


def test_a_register_that_others_may_read_is_refused(lake_home: Path) -> None:
    register(qido(Orthanc(lake_home, 1, 1)))
    pacs_sources.register().chmod(0o644)
    with pytest.raises(MedlakeError, match="0600"):
        pacs_sources.load()


def test_the_template_is_a_valid_register(lake_home: Path) -> None:
    path = settings().folder("secrets") / "sources.yaml"
    path.write_text(pacs_sources.TEMPLATE, "utf-8")
    path.chmod(0o600)
    assert [(a.name, a.protocol) for a in pacs_sources.load()] == [("main", "qido"), ("township", "cfind")]


@pytest.fixture
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    yield


def test_the_environments_proxy_is_not_asked(archive: Orthanc, _no_proxy: None) -> None:
    assert pacs.pull("main", DAY)["studies"] == 9
