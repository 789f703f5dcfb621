"""What a parent takes: each chunk once, in order, from whom it may come; forks and gaps by number."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingestion.edge import chunk as chunks
from ingestion.edge import pki
from ingestion.edge.centre import Centre
from ingestion.edge.chunk import Chunk, Deframer, frame
from ingestion.edge.clock import measured
from ingestion.edge.forward import Contact
from ingestion.edge.identity import sign
from ingestion.edge.link import Backoff, Bucket
from ingestion.edge.relay import Relay
from lake.errors import MedlakeError
from tests.edge_world import AT, Bench, issue


@pytest.fixture
def authority(lake_home: Path) -> pki.Authority:
    return pki.init()


@pytest.fixture
def centre(authority: pki.Authority) -> Centre:
    return Centre(authority)


@pytest.fixture
def node(authority: pki.Authority, tmp_path: Path) -> Bench:
    return Bench(issue(authority, tmp_path, "C201"))


def told(node: Bench) -> list[dict[str, object]]:
    s = node.spool.stream(node.home.config.node, node.chain.epoch)
    first = node.spool.first(node.home.config.node, node.chain.epoch)
    return [
        {
            "node": node.home.config.node,
            "epoch": node.chain.epoch,
            "first": first,
            "last": s.last_seq if s else 0,
            "digest": s.last_digest if s else "",
        }
    ]


def test_chunks_are_numbered_chained_and_signed(centre: Centre, node: Bench) -> None:
    node.add(b"a", b"b", b"c")
    found = node.chunks()
    assert [c.seq for c in found] == [1, 2, 3]
    assert [c.fields["previous"] for c in found] == [chunks.GENESIS, found[0].digest, found[1].digest]
    done = centre.intake.take(node.peer, found)
    assert (done.kept, done.again, done.problem) == (3, 0, None)
    assert centre.store.stream("C201", 1).last_seq == 3  # type: ignore[union-attr]


def test_sending_again_is_acknowledged_and_changes_nothing(centre: Centre, node: Bench) -> None:
    node.add(b"a", b"b")
    centre.intake.take(node.peer, node.chunks())
    node.add(b"c")
    done = centre.intake.take(node.peer, node.chunks())
    assert (done.kept, done.again, done.problem) == (1, 2, None)


def test_a_chunk_that_skips_ahead_is_not_kept(centre: Centre, node: Bench) -> None:
    node.add(b"a", b"b", b"c")
    first, _, third = node.chunks()
    done = centre.intake.take(node.peer, [first, third])
    assert done.kept == 1 and done.problem is not None and done.problem.code == "E299"
    assert centre.intake.positions("C201", told(node))[0]["have"] == 1


@pytest.mark.parametrize("part", ["payload", "signature", "header"])
def test_a_damaged_chunk_is_refused_and_what_came_before_is_kept(
    centre: Centre, node: Bench, part: str
) -> None:
    node.add(b"a", b"b")
    good, bad = node.chunks()
    if part == "header":
        text = bad.header.replace(b'"records":1', b'"records":2')
        bad = replace(bad, header=text)
    else:
        value = bytearray(getattr(bad, part))
        value[-1] ^= 1
        bad = replace(bad, **{part: bytes(value)})
    done = centre.intake.take(node.peer, [good, bad])
    assert done.kept == 1 and done.problem is not None and done.problem.code == "E284"


def test_nobody_speaks_for_another(
    authority: pki.Authority, centre: Centre, node: Bench, tmp_path: Path
) -> None:
    other = Bench(issue(authority, tmp_path, "C202"))
    node.add(b"a")
    done = centre.intake.take(other.peer, node.chunks())
    assert done.problem is not None and done.problem.code == "E285"
    forged = node.chunks()[0]
    forged = replace(forged, signature=sign(other.home.key, forged.header))
    done = centre.intake.take(node.peer, [forged])
    assert done.problem is not None and done.problem.code == "E284"


def test_a_chain_may_not_begin_an_epoch_by_itself(
    authority: pki.Authority, centre: Centre, node: Bench
) -> None:
    node.add(b"a")
    node.chain.begin_again(2)
    done = centre.intake.take(node.peer, node.chunks())
    assert done.problem is not None and done.problem.code == "E285"
    authority.register.readmit("C201")
    assert centre.intake.take(node.peer, node.chunks()).kept == 1


def image(node: Bench, target: Path) -> Bench:
    """A copy of the node's disk as it is now."""
    import shutil

    node.spool.reading().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    shutil.copytree(node.home.folder, target)
    from ingestion.edge import config

    return Bench(config.load(target))


def test_an_old_disk_image_is_a_fork_until_it_is_readmitted(
    authority: pki.Authority, centre: Centre, node: Bench, tmp_path: Path
) -> None:
    node.add(b"a")
    old = image(node, tmp_path / "image")
    node.add(b"b", b"c")
    centre.intake.take(node.peer, node.chunks())
    assert centre.intake.positions("C201", told(old))[0]["trouble"]["code"] == "E286"  # behind what we have
    old.add(b"d", b"e", b"f")
    done = centre.intake.take(old.peer, old.chunks())
    assert done.kept == 0 and done.problem is not None and done.problem.code == "E286"
    assert (
        centre.intake.positions("C201", told(old))[0]["trouble"]["code"] == "E286"
    )  # stays, until a person says otherwise
    assert old.chain.begin_again(authority.register.readmit("C201")) == 4
    assert centre.intake.take(old.peer, old.chunks()).kept == 4
    assert "trouble" not in centre.intake.positions("C201", told(old))[0]


def test_a_clone_is_a_fork_even_when_it_is_ahead(centre: Centre, node: Bench, tmp_path: Path) -> None:
    node.add(b"a")
    clone = image(node, tmp_path / "clone")
    node.add(b"b")
    centre.intake.take(node.peer, node.chunks())
    clone.add(b"x", b"y")
    done = centre.intake.take(clone.peer, clone.chunks(1))
    assert done.problem is not None and done.problem.code == "E286"


def test_a_gap_that_the_node_cannot_fill_is_told(centre: Centre, node: Bench) -> None:
    node.add(b"a", b"b", b"c")
    centre.intake.take(node.peer, node.chunks()[:1])
    with node.spool.writing() as db:
        db.execute("DELETE FROM chunk WHERE seq = 2")
    node.spool.acknowledged("C201", 1, 1, 1)
    node.spool.prune(pressed=False)
    found = centre.intake.positions("C201", told(node))[0]
    assert found["trouble"]["code"] == "E287" and "2" in found["trouble"]["en"]
    assert centre.store.stream("C201", 1).trouble == "E287"  # type: ignore[union-attr]


def test_revoked_nodes_are_refused_but_not_what_their_institution_had_before(
    authority: pki.Authority, centre: Centre, tmp_path: Path
) -> None:
    parent = Bench(issue(authority, tmp_path, "C201", listen="127.0.0.1:0"))
    station = Bench(issue(authority, tmp_path, "C201S01", parent="C201"))
    station.add(b"a", b"b")
    relay = Relay(parent.home, parent.spool, parent.chain, Contact(), lambda: None)
    relay.admit(station.peer)
    relay.intake.positions("C201S01", told(station))
    assert relay.intake.take(station.peer, station.chunks()[:1]).kept == 1
    late = datetime.now(UTC) + timedelta(minutes=1)
    authority.revoke("C201S01")
    before = parent.spool.chunks("C201S01", 1, 0, 1 << 20)
    assert before[0].via.startswith("C201 ")
    after = replace(station.chunks()[1], via=f"C201 {late.isoformat()}")
    done = centre.intake.take(parent.peer, [*before, after])
    assert done.kept == 1 and done.problem is not None and done.problem.code == "E281"
    (parent.home.folder / "crl.pem").write_bytes(authority.crl())
    with pytest.raises(MedlakeError) as error:
        relay.admit(station.peer)
    assert error.value.code == "E281"
    with pytest.raises(MedlakeError) as error:
        authority.revoke("C201")
        centre.admit(parent.peer)
    assert error.value.code == "E281"


def test_a_relay_passes_chunks_on_unchanged_and_takes_up_a_chain_anywhere(
    authority: pki.Authority, centre: Centre, tmp_path: Path
) -> None:
    parent = Bench(issue(authority, tmp_path, "C201"))
    station = Bench(issue(authority, tmp_path, "C201S01", parent="C201"))
    station.add(b"a", b"b", b"c")
    centre.intake.take(parent.peer, station.chunks()[:1])  # by an earlier disk of the institution
    relay = Relay(parent.home, parent.spool, parent.chain, Contact(), lambda: None)
    with station.spool.writing() as db:
        db.execute("DELETE FROM chunk WHERE seq = 1")
    late = relay.intake.take(
        station.peer, station.chunks(2)
    )  # a request that was still under way to the old disk
    assert late.kept == 0 and late.problem is not None and late.problem.code == "E299"
    assert relay.intake.positions("C201S01", told(station))[0]["have"] == 1
    assert relay.intake.take(station.peer, station.chunks(1)).kept == 2
    sent = parent.spool.chunks("C201S01", 1, 1, 1 << 20)
    assert [(c.header, c.signature, c.payload) for c in sent] == [
        (c.header, c.signature, c.payload) for c in station.chunks(1)
    ]
    assert centre.intake.take(parent.peer, sent).kept == 2
    other = Bench(issue(authority, tmp_path, "C202S01", parent="C201"))
    with pytest.raises(MedlakeError) as error:
        relay.key_for(station.peer, replace(station.chunks(1)[0], node=other.home.config.node))
    assert error.value.code == "E285"
    stranger = Bench(issue(authority, tmp_path, "C202"))
    with pytest.raises(MedlakeError):
        relay.admit(stranger.peer)


def test_frames_survive_any_cut(node: Bench) -> None:
    node.add(*(bytes([n]) * n for n in range(1, 40)))
    found = [replace(c, via="C201 2026") for c in node.chunks()]
    data = b"".join(frame(c) for c in found)
    for size in (1, 7, 64, 1000, len(data)):
        deframer = Deframer()
        back: list[Chunk] = [
            c for at in range(0, len(data), size) for c in deframer.feed(data[at : at + size])
        ]
        assert back == found and deframer.rest == 0


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n" + b"x" * 50,
        b"MLE1\xff\xff" + b"\xff" * 40,
        b"MLE1\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00{}",
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(MedlakeError) as error:
        list(Deframer().feed(data))
    assert error.value.code == "E299"


def test_a_clock_that_is_hours_off_is_measured() -> None:
    sent = AT + timedelta(hours=5)
    offset = measured(sent, sent + timedelta(seconds=4), AT + timedelta(seconds=2))
    assert offset.milliseconds == -5 * 3600 * 1000
    assert offset.measured_at == sent + timedelta(seconds=4)


def test_the_bucket_holds_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [0.0], []
    monkeypatch.setattr("ingestion.edge.link.time.monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("ingestion.edge.link.time.sleep", sleep)
    bucket = Bucket(100_000)
    for _ in range(100):
        bucket.take(32_768)
    assert now[0] == pytest.approx((100 * 32_768 - 100_000) / 100_000)
    Bucket(0).take(1 << 30)
    assert now[0] == pytest.approx(sum(slept))


def test_back_off_grows_to_its_limit_and_is_never_the_same() -> None:
    backoff = Backoff(30)
    waits = [backoff.failed() for _ in range(200)]
    assert all(0 <= w <= 30 for w in waits) and max(waits) > 20 and len(set(waits)) == 200
    assert max(waits[:3]) <= 4
    backoff.worked()
    assert backoff.failed() <= 1
