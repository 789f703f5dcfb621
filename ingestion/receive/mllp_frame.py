"""MLLP framing without sockets: bytes in, messages and what was wrong with them out, in bounded memory.

Minimal lower layer protocol: 0x0b, message, 0x1c, 0x0d. Neither 0x0b nor 0x1c is part of a character in UTF-8 or
GB18030. Taken leniently, since senders differ and a wait for a missing byte is a stuck interface: the 0x0d may be
missing or be 0x0a; blank bytes between frames are nothing; a second 0x0b begins the message anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

START, END = 0x0B, 0x1C
_BLANK = b"\r\n\t \x00"


@dataclass(frozen=True)
class Frame:
    """A message. ``whole`` is false when it was longer than allowed and ``content`` is its beginning only."""

    content: bytes
    whole: bool = True


class Framer:
    """Takes bytes as they come; ``garbage`` counts bytes outside of frames and of frames begun anew."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: bytearray | None = None  # None: between frames
        self._over = False
        self.garbage = 0

    @property
    def inside(self) -> bool:
        """Whether a frame was begun and has not ended."""
        return self._parts is not None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that end in ``data``."""
        at = 0
        while at < len(data):
            if self._parts is None:
                start = data.find(START, at)
                outside = data[at : start if start >= 0 else len(data)]
                self.garbage += len(outside.translate(None, _BLANK))
                if start < 0:
                    return
                self._parts, self._over, at = bytearray(), False, start + 1
                continue
            end = data.find(END, at)
            stop = end if end >= 0 else len(data)
            again = data.rfind(START, at, stop)
            if again >= 0:
                self.garbage += len(self._parts) + again - at
                self._parts, self._over, at = bytearray(), False, again + 1
                continue
            self._take(data[at:stop])
            at = stop + 1
            if end >= 0:
                yield Frame(bytes(self._parts), not self._over)
                self._parts = None

    def _take(self, data: bytes) -> None:
        assert self._parts is not None
        room = self._limit - len(self._parts)
        self._over = self._over or len(data) > room
        self._parts += data[: max(room, 0)]
