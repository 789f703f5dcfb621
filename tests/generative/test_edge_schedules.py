"""Random schedules of what goes wrong between a station, its institution and the centre, against a simple model.

Lost answers, lines cut in the middle of a stretch, power cuts at any step, old disk images with readmission, a new disk
at the institution, late and repeated requests. The model is a set of records: at the end each is in the drop, once.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.edge import config, pki
from ingestion.edge.centre import Centre
from ingestion.edge.forward import Contact
from ingestion.edge.intake import Intake
from ingestion.edge.relay import Relay
from lake.settings import settings as settings_of
from tests.edge_world import Bench, dropped, issue

OPERATIONS = (
    "take",
    "file",
    "up",
    "up",
    "up",
    "on",
    "on",
    "on",
    "apply",
    "restart",
    "image",
    "rewind",
    "new_disk",
    "replay",
)


class World:
    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root, self.rng = root, rng
        authority = pki.init()
        self.authority = authority
        issue(authority, root, "C201", listen="127.0.0.1:1")
        issue(authority, root, "C201S01", parent="C201")
        self.given: Counter[bytes] = Counter()
        self.images = 0
        self.restart()

    def restart(self) -> None:
        """All three processes end and start: what is in memory is gone."""
        self.station = Bench(config.load(self.root / "C201S01"))
        self.parent = Bench(config.load(self.root / "C201"))
        self.centre = Centre(self.authority)
        self.relay = Relay(self.parent.home, self.parent.spool, self.parent.chain, Contact(), lambda: None)

    def record(self) -> bytes:
        made = f"r{len(self.given)}".encode()
        self.given[made] += 1
        return made

    def take(self) -> None:
        self.station.add(*(self.record() for _ in range(self.rng.randint(1, 3))))

    def file(self) -> None:
        """A file of several chunks, one record a line."""
        rows = [self.record() + b" " * 400_000 for _ in range(self.rng.randint(1, 6))]
        self.station.drop(f"his/patient_{len(self.given)}.csv", b"\n".join(rows) + b"\n")
        self.station.scan()

    # ---- lines

    def _send(self, source: Bench, target: Intake, node: str, peer: Bench, *, whole: bool) -> None:
        """Say hello, send a stretch; ``whole`` or cut somewhere, with the answer lost or heard."""
        epochs = [
            s
            for s in source.spool.streams(node)
            if node != source.home.config.node or s.epoch == source.chain.epoch
        ]
        for stream in epochs:
            told = {
                "node": node,
                "epoch": stream.epoch,
                "first": source.spool.first(node, stream.epoch),
                "last": stream.last_seq,
                "digest": stream.last_digest,
            }
            (answer,) = target.positions(source.home.config.node, [told])
            if answer.get("trouble"):
                continue
            have = answer["have"]
            if whole or self.rng.random() < 0.8:
                source.spool.acknowledged(node, stream.epoch, have, answer["final"])
                source.spool.prune(pressed=False)
            chunks = source.spool.chunks(node, stream.epoch, have, 1 << 30)
            if not whole:
                chunks = chunks[: self.rng.randint(0, len(chunks))]
            target.take(peer.peer, chunks)

    def up(self, whole: bool = False) -> None:
        granted = self.centre.members()["C201S01"].epoch
        if whole or self.rng.random() < 0.5:
            self.station.chain.begin_again(granted)
        self._send(self.station, self.relay.intake, "C201S01", self.station, whole=whole)

    def on(self, whole: bool = False) -> None:
        self._send(self.parent, self.centre.intake, "C201S01", self.parent, whole=whole)

    def apply(self) -> None:
        self.centre.apply()

    # ---- what goes wrong

    def image(self) -> None:
        """Somebody makes an image of the station's disk."""
        self.station.spool.reading().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        shutil.rmtree(self.root / "image", ignore_errors=True)
        shutil.copytree(self.root / "C201S01", self.root / "image")
        self.images = sum(self.given.values())

    def rewind(self) -> None:
        """The image is put back. What was taken since and went no further is lost with the disk, so it is sent first."""
        if not (self.root / "image").exists():
            return
        self.station.chain.begin_again(self.centre.members()["C201S01"].epoch)
        self._send(self.station, self.relay.intake, "C201S01", self.station, whole=True)
        if any(
            s.trouble for s in self.parent.spool.streams("C201S01") if s.epoch == self.station.chain.epoch
        ):
            return
        self.station.close()
        shutil.rmtree(self.root / "C201S01")
        shutil.copytree(self.root / "image", self.root / "C201S01")
        self.authority.register.readmit("C201S01")
        self.restart()

    def new_disk(self) -> None:
        """The institution's disk is lost. The station has whatever the centre does not have yet, if it never rewound."""
        if (self.root / "image").exists():
            return
        self.parent.close()
        for path in (self.root / "C201").glob("spool.db*"):
            path.unlink()
        self.restart()

    def replay(self) -> None:
        """Old requests come once more, to the institution and to the centre."""
        for chunks, target, peer in (
            (self.station.chunks(), self.relay.intake, self.station),
            (self.parent.spool.chunks("C201S01", 1, 0, 1 << 30), self.centre.intake, self.parent),
        ):
            if chunks:
                at = self.rng.randrange(len(chunks))
                target.take(peer.peer, chunks[at : at + 3])

    def settle(self) -> None:
        for _ in range(4):
            self.up(whole=True)
            self.on(whole=True)
            self.apply()

    def arrived(self) -> Counter[bytes]:
        found = (
            line.strip()
            for content in dropped(settings_of().sources_dir).values()
            for line in content.splitlines()
        )
        return Counter(line for line in found if line)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(st.sampled_from(OPERATIONS), min_size=5, max_size=25), seed=st.integers(0, 2**32))
def test_every_record_arrives_once(steps: list[str], seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDLAKE_HOME", f"{folder}/var")
        settings_of.cache_clear()
        world = World(Path(folder), random.Random(seed))
        for step in steps:
            getattr(world, step)()
        world.settle()
        assert world.arrived() == world.given
    settings_of.cache_clear()
