"""DICOMweb QIDO-RS (PS3.18 10.6): studies of a day page by page, series of a study; metadata only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import date
from types import TracebackType
from typing import Any

import httpx

from ingestion.pull.pacs_sources import Archive
from lake.errors import MedlakeError

#: One answer: the DICOM JSON model (PS3.18 annex F), tag -> {"vr": .., "Value": [..]}.
Answer = dict[str, Any]

Query = list[tuple[str, str | int | float | bool | None]]

STUDY_UID, SERIES_UID = "0020000D", "0020000E"

#: What we ask for besides what an archive must return: description, counts, modalities; of a series also the
#: device, the body part and its start.
STUDY_FIELDS = (
    "00080061",
    "00081030",
    "00080050",
    "00100021",
    "00080080",
    "00201206",
    "00201208",
    "00080201",
)
SERIES_FIELDS = (
    "0008103E",
    "00180015",
    "00080070",
    "00081090",
    "00081010",
    "00080021",
    "00080031",
    "00181030",
    "00201209",
)

_AGAIN = frozenset([408, 425, 429, 500, 502, 503, 504])


class Passing(Exception):
    """A failure that may pass: it is tried again."""


def retried(archive: Archive, work: Callable[[], Any]) -> Any:
    """Do a piece of work again while it fails for reasons that may pass, with pauses that double.

    Raises:
        MedlakeError: E255, it failed as often as the register allows.
    """
    for attempt in range(1, archive.attempts + 1):
        try:
            return work()
        except Passing as error:
            if attempt == archive.attempts:
                raise MedlakeError(
                    "E255", source=archive.name, detail=f"{error} ({attempt} attempts)"
                ) from error
            time.sleep(min(archive.pause_seconds * 2 ** (attempt - 1), 30))
    raise AssertionError  # attempts is at least 1


def uid(answer: Answer, tag: str) -> str:
    """A UID of an answer; empty where it has none."""
    value = (answer.get(tag) or {}).get("Value") or [""]
    return str(value[0])


class Qido:
    """One archive over DICOMweb. Pages are asked for until one brings nothing new: archives cap a page's size."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        headers = {"Accept": "application/dicom+json"}
        if token := archive.secret(archive.token_file):
            headers["Authorization"] = f"Bearer {token}"
        password = archive.secret(archive.password_file)
        verify: Any = archive.ca_file or True
        self._client = httpx.Client(
            auth=(archive.user, password) if archive.user else None,
            headers=headers,
            timeout=archive.timeout_seconds,
            verify=verify,
            trust_env=False,
        )

    def __enter__(self) -> Qido:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._client.close()

    def _get(self, path: str, query: Query) -> list[Answer]:
        def once() -> list[Answer]:
            try:
                response = self._client.get(self.archive.url.rstrip("/") + path, params=query)
            except httpx.TransportError as error:
                raise Passing(type(error).__name__) from error
            if response.status_code in _AGAIN:
                raise Passing(f"HTTP {response.status_code}")
            if response.status_code == 204:
                return []
            if response.status_code != 200:
                raise MedlakeError("E255", source=self.archive.name, detail=f"HTTP {response.status_code}")
            try:
                found = response.json()
            except ValueError as error:  # a page that was cut off
                raise Passing("the answer is no JSON") from error
            if not isinstance(found, list):
                raise MedlakeError("E255", source=self.archive.name, detail="the answer is no list")
            return found

        return list(retried(self.archive, once))

    def _pages(self, path: str, query: Query, key: str) -> Iterator[Answer]:
        seen: set[str] = set()
        offset = 0
        while True:
            page = self._get(path, [*query, ("limit", str(self.archive.page)), ("offset", str(offset))])
            new = [a for a in page if uid(a, key) and uid(a, key) not in seen]
            seen.update(uid(a, key) for a in new)
            yield from new
            if not new:
                return
            offset += len(page)

    def studies(self, day: date | None) -> Iterator[Answer]:
        """Studies of one day; of all days, undated ones too, for None."""
        query: Query = [("includefield", f) for f in STUDY_FIELDS]
        if day is not None:
            query.append(("StudyDate", day.strftime("%Y%m%d")))
        return self._pages("/studies", query, STUDY_UID)

    def study(self, study_instance_uid: str) -> Answer | None:
        """One study, whatever its date; None when the archive does not hold it."""
        query: Query = [
            ("StudyInstanceUID", study_instance_uid),
            *(("includefield", f) for f in STUDY_FIELDS),
        ]
        found = self._get("/studies", query)
        return next((a for a in found if uid(a, STUDY_UID) == study_instance_uid), None)

    def series(self, study_instance_uid: str) -> list[Answer]:
        query: Query = [("includefield", f) for f in SERIES_FIELDS]
        return list(self._pages(f"/studies/{study_instance_uid}/series", query, SERIES_UID))
