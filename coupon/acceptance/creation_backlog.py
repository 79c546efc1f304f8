"""How many coupons the workers have yet to create: those in messages that were published and not committed.

The number of messages is exact. A message has up to 500 coupons, and is counted as so many. Where that would be too
many, some messages are read, and the average of these counts (decision 20).
"""

import threading
from statistics import mean
from typing import NamedTuple

from coupon.domain.clock import Clock
from coupon.domain.errors import Malformed
from coupon.domain.model import CHUNK, CreateCoupons
from coupon.domain.serialization import decode_command
from coupon.domain.topics import CREATION, GROUP
from coupon.ports.queue import Position, Queue

RECENT_MS = 1_000
"""A process uses a measurement for so long. What it publishes itself meanwhile is added."""
SAMPLED_PARTITIONS, SAMPLED_MESSAGES = 8, 25


class Measured(NamedTuple):
    """The backlog ``at`` one moment. ``waiting``, ``published`` and ``committed`` count messages of all partitions.

    ``here`` counts the coupons that this process had published by then. ``size`` is the average number of coupons in a
    message, None when no message was read.
    """

    at: int
    waiting: int
    published: int
    committed: int
    here: int
    size: float | None

    @property
    def coupons(self) -> int:
        return round(self.waiting * (CHUNK if self.size is None else self.size))


class Backlog:
    """Thread-safe. ``measured`` and ``looked_at`` raise BackendUnavailable. ``published`` counts the coupons of this
    process's creations: who publishes adds to it."""

    def __init__(self, queue: Queue, timer: Clock) -> None:
        self._queue, self._timer = queue, timer
        self.published = 0
        self._measured: Measured | None = None
        self._measuring = threading.Lock()

    def measured(self) -> Measured:
        """Not older than a second, or somebody is measuring just now."""
        known = self._measured
        if known is not None and (self._timer() - known.at < RECENT_MS or not self._measuring.acquire(blocking=False)):
            return known
        try:
            self._measured = self._measure()
        finally:
            if known is not None:
                self._measuring.release()
        return self._measured

    def looked_at(self, known: Measured) -> Measured:
        """The same with the average size of the messages, of which some are read."""
        if known.size is None and known.waiting:
            known = known._replace(size=self._size())
            self._measured = known
        return known

    def _measure(self) -> Measured:
        at, here, (ends, committed) = self._timer(), self.published, self._places()
        waiting = sum(max(0, end - committed[position]) for position, end in ends.items())
        return Measured(at, waiting, sum(ends.values()), sum(committed.values()), here, None)

    def _places(self) -> tuple[dict[Position, int], dict[Position, int]]:
        ends = self._queue.ends([CREATION])
        return ends, self._queue.committed(ends.keys(), GROUP)

    def _size(self) -> float:
        """From the middle of what waits in each of some partitions."""
        ends, committed = self._places()
        waiting = [position for position, end in ends.items() if end > committed[position]]
        sizes = [
            _size(delivery.value)
            for position in waiting[:: -(-len(waiting) // SAMPLED_PARTITIONS) or 1]
            for delivery in self._queue.read(position, (ends[position] + committed[position]) // 2, SAMPLED_MESSAGES)
        ]
        return mean(sizes) if sizes else CHUNK


def _size(value: bytes) -> int:
    try:
        command = decode_command(value)
    except Malformed:
        return CHUNK
    return command.size if isinstance(command, CreateCoupons) else 1
