"""MLLP framing: however TCP cuts the bytes, the same messages come out; nothing grows beyond its limit."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.receive.mllp_frame import Frame, Framer

_BODY = st.binary(max_size=40).map(lambda b: bytes(c for c in b if c not in (0x0B, 0x1C)))
_END = st.sampled_from([b"\x1c\r", b"\x1c", b"\x1c\n", b"\x1c\r\n"])
_BETWEEN = st.sampled_from([b"", b"\r\n", b"  ", b"\x00"])
_NOISE = st.sampled_from([b"GET / HTTP/1.1", "垃圾".encode(), b"abc"])


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Pieces of ``data`` as a network might bring them."""
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def fed(framer: Framer, pieces: list[bytes]) -> list[Frame]:
    return [frame for piece in pieces for frame in framer.feed(piece)]


@given(
    st.lists(st.tuples(_BETWEEN, _BODY, _END), max_size=5),
    st.lists(st.integers(0, 500), max_size=12),
)
@settings(max_examples=200, deadline=None)
def test_frames_are_the_same_however_they_are_cut(
    sent: list[tuple[bytes, bytes, bytes]], cuts: list[int]
) -> None:
    framer = Framer(1000)
    data = b"".join(between + b"\x0b" + body + end for between, body, end in sent)
    assert fed(framer, cut(data, cuts)) == [Frame(body) for _, body, _ in sent]
    assert framer.garbage == 0
    assert not framer.inside


@given(_NOISE, _BODY, _BODY, st.lists(st.integers(0, 200), max_size=8))
@settings(max_examples=100, deadline=None)
def test_noise_and_a_frame_begun_anew_are_counted_and_passed_over(
    noise: bytes, broken: bytes, body: bytes, cuts: list[int]
) -> None:
    framer = Framer(1000)
    data = noise + b"\x0b" + broken + b"\x0b" + body + b"\x1c\r" + noise
    assert fed(framer, cut(data, cuts)) == [Frame(body)]
    blanks = sum(noise.count(c) for c in b"\r\n\t \x00")
    assert framer.garbage == 2 * (len(noise) - blanks) + len(broken)


@given(st.integers(1, 50), st.integers(0, 300), st.lists(st.integers(0, 400), max_size=8))
@settings(max_examples=100, deadline=None)
def test_a_message_that_is_too_long_is_its_beginning_and_the_next_is_whole(
    limit: int, beyond: int, cuts: list[int]
) -> None:
    framer = Framer(limit)
    body = b"x" * (limit + beyond)
    data = b"\x0b" + body + b"\x1c\r\x0bok\x1c\r"
    first, second = fed(framer, cut(data, cuts))
    assert first == Frame(body[:limit], beyond == 0)
    assert second == Frame(b"ok"[:limit], limit >= 2)
