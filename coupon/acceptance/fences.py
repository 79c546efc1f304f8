"""What the workers have yet to apply: a fence is the end of the queue at some moment.

A fence is passed when the workers have committed that far. Then all that was accepted before that moment is in the
store. A coupon that is read there has every command whose caller got a 202 by then (decision 16).
"""

import threading

from coupon.domain.clock import Clock, monotonic_ms
from coupon.domain.model import Kind
from coupon.domain.serialization import Fence
from coupon.domain.topics import GROUP, LAYOUTS
from coupon.ports.queue import Position, Queue

RECENT_MS = 20
"""What the workers have committed is asked for at most so often: all requests of a process share the answer."""
KNOWN_MS = 1_000
"""The answer is used for so long: a topic may be recreated, or a group set back."""


class Fences:
    """Thread-safe. ``of``, ``of_all`` and ``passed`` raise BackendUnavailable."""

    def __init__(self, queue: Queue, layout: str, timer: Clock = monotonic_ms) -> None:
        self._queue, self._timer = queue, timer
        changes = [topic for kind, topic in LAYOUTS[layout].items() if kind is not Kind.CREATE]
        self._topics = list(dict.fromkeys(changes))
        self._committed: dict[Position, int] = {}
        self._asked_at: int | None = None
        self._asking = threading.Lock()

    def of(self, code: str) -> Fence:
        """Behind everything that was published for the coupon until now."""
        return _fence(self._queue.ends(self._topics, code))

    def of_all(self) -> Fence:
        """Behind everything that was published for any coupon until now."""
        return _fence(self._queue.ends(self._topics))

    def passed(self, fence: Fence) -> bool:
        """Whether the workers have applied all that is before it. False too while nobody has asked lately."""
        now = self._timer()
        age_ms = None if self._asked_at is None else now - self._asked_at
        if age_ms is not None and age_ms < KNOWN_MS and self._is_passed(fence):
            return True
        known = all(Position(topic, partition) in self._committed for topic, partition, _ in fence)
        if known and age_ms is not None and age_ms < RECENT_MS:
            return False
        if not self._asking.acquire(blocking=False):
            return False
        try:
            self._ask(fence)
            self._asked_at = now
        finally:
            self._asking.release()
        return self._is_passed(fence)

    def is_real(self, fence: Fence) -> bool:
        """Whether the workers can pass it at all: its partitions are those of this layout, and end no earlier. Another
        layout's, or one of before a topic was recreated, never would be."""
        ends = self._queue.ends(self._topics)
        return all(end <= ends.get(Position(topic, partition), -1) for topic, partition, end in fence)

    def _ask(self, fence: Fence) -> None:
        positions = {Position(topic, partition) for topic, partition, _ in fence}
        self._committed |= self._queue.committed(positions | self._committed.keys(), GROUP)

    def _is_passed(self, fence: Fence) -> bool:
        committed = self._committed
        return all(committed.get(Position(topic, partition), -1) >= end for topic, partition, end in fence)


def _fence(ends: dict[Position, int]) -> Fence:
    return tuple((position.topic, position.partition, end) for position, end in sorted(ends.items()))
