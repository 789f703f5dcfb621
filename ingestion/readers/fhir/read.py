"""The files of one delivery, read together: resources refer to each other across files."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath

from ingestion.readers.base import LandedFile, Reject, Sink, reject_file
from ingestion.readers.fhir import manifest, typed
from ingestion.readers.fhir.collect import TABLE, Collector
from ingestion.readers.fhir.manifest import Listed, Manifest
from ingestion.readers.fhir.split import WINDOW
from ingestion.readers.ndjson import windows
from lake import duck
from lake.contracts import TableContract
from lake.settings import settings


def read(file: LandedFile, table: TableContract, sink: Sink) -> None:
    """Read one file (``fhir_resource`` is the table, whichever is given)."""
    read_many([file], sink)


def read_many(files: list[LandedFile], sink: Sink, *, window: int = WINDOW) -> None:
    """Read FHIR files together. Their resources lie in a folder of their own meanwhile, which is removed."""
    listed, data = _listed(files, sink)
    with (
        tempfile.TemporaryDirectory(prefix="fhir-", dir=settings().folder("tmp")) as made,
        duck.connect() as con,
    ):
        con.execute("SET preserve_insertion_order = true")
        collector = Collector(con, Path(made), sink, window)
        for file in data:
            entry = listed.get(file.number)
            if entry is not None and entry.role == "error":
                _errors(file, entry, sink)
            else:
                collector.read(file)
                _reconcile(file, entry, collector, sink)
        typed.hand_over(con, data, collector.found, sink)


def _folder(file: LandedFile) -> tuple[str, str]:
    return file.org_code, str(PurePosixPath(file.name).parent)


def _listed(files: list[LandedFile], sink: Sink) -> tuple[dict[int, Listed], list[LandedFile]]:
    """What manifests say of each file by its number, and the files that are no manifests.

    A delivery that is split into batches may have its manifest in another batch: then it is looked up where the
    file was delivered.
    """
    manifests: dict[tuple[str, str], Manifest] = {}
    data: list[LandedFile] = []
    for file in files:
        found = manifest.parse(file.path)
        if found is None:
            data.append(file)
            continue
        manifests[_folder(file)] = found
        here = {PurePosixPath(f.name).name for f in files if _folder(f) == _folder(file)}
        elsewhere = Path(file.origin).parent
        problems = list(found.problems)
        problems += [
            f"{n} is missing" for n in found.files if n not in here and not (elsewhere / n).is_file()
        ]
        for problem in problems:
            reject_file(sink, file, "E258", detail=problem)
    listed: dict[int, Listed] = {}
    for file in data:
        known = manifests.get(_folder(file))
        if known is None and Path(file.origin).parent.is_dir():
            beside = manifest.beside(Path(file.origin).parent)
            known = beside[1] if beside else None
        entry = known.files.get(PurePosixPath(file.name).name) if known else None
        if entry is not None:
            listed[file.number] = entry
    return listed, data


def _errors(file: LandedFile, entry: Listed, sink: Sink) -> None:
    """What the exporting server could not export, line by line: each is a record that is not there."""
    number = 0
    for piece in windows(file.path):
        for line in piece.decode("utf-8", "replace").splitlines():
            number += 1
            if line.strip():
                sink.reject(Reject(file, TABLE, "E259", line, number))
    _announce(file, entry, sink)


def _reconcile(file: LandedFile, entry: Listed | None, collector: Collector, sink: Sink) -> None:
    """Hold the file against what the manifest announces: how many, and of which type."""
    if entry is None:
        return
    if entry.role != "output":  # a deleted file's count is of its Bundles, a record is each deletion in them
        return
    _announce(file, entry, sink)
    others = sorted(set(collector.found.counts.get(file.number, {})) - {entry.resource_type})
    if entry.resource_type and others:
        detail = f"{PurePosixPath(file.name).name}: {', '.join(others)} in a file of {entry.resource_type}"
        sink.notice(file, "E258", detail=detail)


def _announce(file: LandedFile, entry: Listed, sink: Sink) -> None:
    if entry.count is not None:
        sink.announce(file, TABLE, entry.count, f"{entry.role}.count")
