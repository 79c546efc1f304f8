"""What a worker has done in the store, and has yet to tell search and the queue.

Each takes as long as the store takes for a few commands, so several batches are told at once: when nothing more comes,
and after a quarter of a second at the latest. What was not told is delivered again after a crash, and recognised
(decision 11).
"""

from collections.abc import Collection, Mapping, Sequence

from coupon.applying.batch import Place, Task
from coupon.domain.clock import Clock
from coupon.domain.model import Coupon
from coupon.ports.queue import Consumer, Position
from coupon.worker.indexer import Indexer

FLUSH_INTERVAL_MS = 250


class Checkpoint:
    """Of one consumer. ``batch_max`` coupons are enough for search at a time."""

    def __init__(self, indexer: Indexer, consumer: Consumer, timer: Clock, batch_max: int) -> None:
        self._indexer, self._consumer, self._timer, self._batch_max = indexer, consumer, timer, batch_max
        self._coupons: dict[str, Coupon] = {}
        self._done: dict[Position, int] = {}
        self._since: int | None = None
        self._hurries = False

    def stored(self, coupons: Mapping[str, Coupon]) -> None:
        """As they are now. Raises BackendUnavailable, as ``Indexer.index`` does."""
        self._coupons |= coupons
        if len(self._coupons) >= self._batch_max:
            self._index()

    def done(self, part: Sequence[Task]) -> None:
        """Applied, or waiting."""
        if self._since is None:
            self._since = self._timer()
        for item in part:
            self._done[item.position] = max(self._done.get(item.position, 0), item.delivery.offset + 1)

    def hurry(self) -> None:
        """Somebody waits for the commit."""
        self._hurries = True

    def due_in_ms(self) -> int | None:
        """When it is time to tell; None when there is nothing to."""
        if self._since is None:
            return None
        if self._hurries:
            return 0
        return max(0, FLUSH_INTERVAL_MS - (self._timer() - self._since))

    def flush(self, waiting: Collection[Place]) -> None:
        """Search first, then the queue: up to the first that waits. Raises BackendUnavailable: then rewind."""
        if self._since is None:
            return
        self._index()
        first_waiting: dict[Position, int] = {}
        for position, offset in waiting:
            first_waiting[position] = min(offset, first_waiting.get(position, offset))
        self._consumer.commit({p: min(done, first_waiting.get(p, done)) for p, done in self._done.items()})
        self._done = {position: done for position, done in self._done.items() if position in first_waiting}
        self._since, self._hurries = None, False

    def rewind(self) -> None:
        """What was not told is delivered again."""
        self._coupons.clear()
        self._done.clear()
        self._since, self._hurries = None, False
        self._consumer.rewind()

    def _index(self) -> None:
        self._indexer.index(self._coupons.values())
        self._coupons.clear()
