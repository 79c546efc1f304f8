"""One connection through a ``Link``: the client's with us, and ours with the server. Whatever one end says (bytes, its
end, a reset) goes the way to the other end, where it arrives in order, at once or later."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import cast

HELD_MAX = 4_000_000
"""Bytes on the way from an end beyond which it is not read from: as with any window, it has to wait."""
RESET_BY_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER without patience: to close is to send a RST."""


@dataclass
class Weather:
    """What a network does to what is on its way; by itself nothing."""

    delay_s: float = 0.0
    slice_max: int | None = None
    apart_s: float = 0.0
    swallows: bool = False
    loses_replies: bool = False
    spared: int | None = None
    """Parts of replies that arrive before the one that is lost."""
    refuses: bool = False

    def loses_reply(self) -> bool:
        """Whether the next part of a reply is lost."""
        if self.spared is None:
            return self.loses_replies
        self.spared = self.spared - 1 if self.spared else None
        return self.loses_replies or self.spared is None


@dataclass
class Counts:
    connections: int = 0
    bytes_up: int = 0
    """Passed to the server."""
    bytes_down: int = 0
    resets: int = 0
    """Connections that were reset, by us or by an end."""
    lost: int = 0
    """Replies that were lost."""
    round_trips: int = 0
    """Times that a client said something on a connection on which the server spoke last, or nobody has spoken."""


class Mark(Enum):
    END = auto()
    RESET = auto()


class Connection:
    def __init__(self, weather: Weather, counts: Counts, closed: Callable[["Connection"], None]) -> None:
        self.weather, self.counts, self.closed = weather, counts, closed
        self.client, self.server = End(self), End(self)
        self.client.other, self.server.other = self.server, self.client
        self._is_asked = False

    def count(self, speaker: "End") -> None:
        """Count a round trip when the client speaks, and not for the second part of what it says."""
        was_asked, self._is_asked = self._is_asked, speaker is self.client
        self.counts.round_trips += self._is_asked and not was_asked

    def reset(self) -> None:
        self.counts.resets += 1
        self.client.reset()
        self.server.reset()

    def lose_reply(self) -> None:
        """The client learns nothing, and the server nothing of that: what it was asked to do it does."""
        self.counts.resets += 1
        self.counts.lost += 1
        self.server.is_ignored = True
        self.client.send(Mark.END)
        self.client.reset()

    def pump(self) -> None:
        self.client.pump()
        self.server.pump()

    def hurry(self) -> None:
        self.client.hurry()
        self.server.hurry()


class End(asyncio.Protocol):
    """One of the two ends of a connection, and what it said that is still on its way to the other."""

    other: "End"

    def __init__(self, connection: Connection) -> None:
        self.is_ignored = False
        self._connection, self._weather = connection, connection.weather
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._way: deque[tuple[float, bytes | Mark]] = deque()
        """With the time of arrival."""
        self._last, self._held = 0.0, 0
        """When the last of it arrives, and its bytes."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_full = self._has_ended = self._has_heard_all = self._is_gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._is_gone:
            self.reset()
        self.pump()
        self.other.pump()

    def data_received(self, data: bytes) -> None:
        if self.is_ignored:
            return
        self._connection.count(self)
        if self is self._connection.server and self._weather.loses_reply():
            self._connection.lose_reply()
            return
        size = self._weather.slice_max or len(data)
        for first in range(0, len(data), size):
            self._append(data[first : first + size])
        self.pump()

    def eof_received(self) -> bool:
        """Whether the other direction goes on."""
        self._has_ended = True
        if not self.is_ignored:
            self.send(Mark.END)
        return not self.is_ignored

    def connection_lost(self, error: Exception | None) -> None:
        """Also called when there never was one to the server."""
        self._is_gone = self._has_ended = True
        if error is not None:
            self.send(Mark.RESET)
        if self.other._is_gone:
            self._connection.closed(self._connection)

    def pause_writing(self) -> None:
        self._is_full = True
        self.other._steer()

    def resume_writing(self) -> None:
        self._is_full = False
        self.other._steer()

    def send(self, mark: Mark) -> None:
        self._append(mark)
        self.pump()

    def pump(self) -> None:
        """What is due arrives."""
        now = self._loop.time()
        while self._way and self._way[0][0] <= now and self._passes():
            _, part = self._way.popleft()
            self._held -= _weight(part)
            self.other._hear(part)
        if self._way and self._timer is None and self._passes():
            self._timer = self._loop.call_at(self._way[0][0], self._tick)
        self._steer()

    def hurry(self) -> None:
        """Nothing stays on its way any longer."""
        self._last = 0.0
        self._way = deque((0.0, part) for _, part in self._way)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.pump()

    def reset(self) -> None:
        """A RST to whoever is at this end."""
        self._is_gone = True
        if self._transport is not None and not self._transport.is_closing():
            closing: socket.socket = self._transport.get_extra_info("socket")
            closing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_BY_CLOSE)
            self._transport.abort()

    def _append(self, part: bytes | Mark) -> None:
        self._last = max(self._last + self._weather.apart_s, self._loop.time() + self._weather.delay_s)
        self._way.append((self._last, part))
        self._held += _weight(part)

    def _tick(self) -> None:
        self._timer = None
        self.pump()

    def _passes(self) -> bool:
        return not self._weather.swallows and self.other._transport is not None

    def _hear(self, part: bytes | Mark) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        if part is Mark.RESET:
            self._connection.counts.resets += 1
            self.reset()
        elif part is Mark.END:
            self._hear_all()
        else:
            self._count(len(part))
            self._transport.write(part)

    def _hear_all(self) -> None:
        assert self._transport is not None
        self._has_heard_all = True
        with suppress(OSError):  # reset by now, and nobody has told yet
            self._transport.write_eof()
        if self.other._has_heard_all:
            self._transport.close()
            assert self.other._transport is not None
            self.other._transport.close()

    def _count(self, size: int) -> None:
        if self is self._connection.server:
            self._connection.counts.bytes_up += size
        else:
            self._connection.counts.bytes_down += size

    def _steer(self) -> None:
        """Read from this end only what can go its way."""
        if self._transport is None or self._has_ended:
            return
        if self.is_ignored or (self._passes() and not self.other._is_full and self._held < HELD_MAX):
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


def _weight(part: bytes | Mark) -> int:
    return 0 if isinstance(part, Mark) else len(part)
