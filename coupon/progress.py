"""How far a worker has come, and when it tells the queue.

A commit takes as long as a batch of a few commands, so several batches share one. What was done and not committed is
delivered again after a crash, and recognised.
"""

from collections.abc import Collection, Sequence

from coupon.batch import Place, Task
from coupon.clock import Clock
from coupon.ports.queue import Consumer, Position

COMMIT_WITHIN_MS = 250


class Progress:
    """Of one consumer."""

    def __init__(self, consumer: Consumer, clock: Clock) -> None:
        self._consumer, self._clock = consumer, clock
        self._done: dict[Position, int] = {}
        self._since: int | None = None

    def done(self, part: Sequence[Task]) -> None:
        if self._since is None:
            self._since = self._clock()
        for item in part:
            self._done[item.position] = max(self._done.get(item.position, 0), item.delivery.offset + 1)

    def due_in_ms(self) -> int | None:
        """When it is time to commit; None when there is nothing to."""
        if self._since is None:
            return None
        passed_ms = self._clock() - self._since
        return COMMIT_WITHIN_MS - passed_ms if 0 <= passed_ms < COMMIT_WITHIN_MS else 0  # clocks are put back, too

    def commit(self, waiting: Collection[Place]) -> None:
        """What is done, up to the first that waits. Raises BackendUnavailable: then rewind."""
        if self._since is None:
            return
        first_waiting: dict[Position, int] = {}
        for position, offset in waiting:
            first_waiting[position] = min(offset, first_waiting.get(position, offset))
        self._consumer.commit({p: min(done, first_waiting.get(p, done)) for p, done in self._done.items()})
        self._done = {position: done for position, done in self._done.items() if position in first_waiting}
        self._since = None

    def rewind(self) -> None:
        """What was not committed is delivered again."""
        self._done.clear()
        self._since = None
        self._consumer.rewind()
