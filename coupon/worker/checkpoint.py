"""The checkpoint: coupons in the store that have yet to be indexed, and offsets that have yet to be committed.

To index and to commit takes as long as to store a few commands. So both are buffered, and flushed for several batches
together: when the queue is idle, and after 250 ms at the latest. After a crash, messages that were not flushed are
delivered again and recognised (decision 11).
"""

from collections.abc import Collection, Mapping, Sequence

from coupon.applying.batch import RecordId, Task
from coupon.domain.clock import Clock
from coupon.domain.model import Coupon
from coupon.ports.queue import Consumer, Position
from coupon.worker.indexer import Indexer

FLUSH_INTERVAL_MS = 250


class Checkpoint:
    """The checkpoint of one consumer. ``batch_max`` coupons are indexed at once, before a flush is due."""

    def __init__(self, indexer: Indexer, consumer: Consumer, timer: Clock, batch_max: int) -> None:
        self._indexer, self._consumer, self._timer, self._batch_max = indexer, consumer, timer, batch_max
        self._coupons: dict[str, Coupon] = {}
        self._done: dict[Position, int] = {}
        self._since: int | None = None
        self._is_urgent = False

    def stored(self, coupons: Mapping[str, Coupon]) -> None:
        """Add coupons that were stored. Raises BackendUnavailable, as ``Indexer.index`` does."""
        self._coupons |= coupons
        if len(self._coupons) >= self._batch_max:
            self._index()

    def done(self, part: Sequence[Task]) -> None:
        """Add tasks that were applied, dead-lettered or deferred."""
        if self._since is None:
            self._since = self._timer()
        for task in part:
            self._done[task.position] = max(self._done.get(task.position, 0), task.delivery.offset + 1)

    def hurry(self) -> None:
        """A caller waits for the commit: the next flush is due at once."""
        self._is_urgent = True

    def due_in_ms(self) -> int | None:
        """Milliseconds until a flush is due; None when there is nothing to flush."""
        if self._since is None:
            return None
        if self._is_urgent:
            return 0
        return max(0, FLUSH_INTERVAL_MS - (self._timer() - self._since))

    def flush(self, deferred: Collection[RecordId]) -> None:
        """Index the coupons, then commit the offsets up to the first deferred record of each partition. Raises
        BackendUnavailable: then rewind."""
        if self._since is None:
            return
        self._index()
        first_deferred: dict[Position, int] = {}
        for position, offset in deferred:
            first_deferred[position] = min(offset, first_deferred.get(position, offset))
        self._consumer.commit({p: min(done, first_deferred.get(p, done)) for p, done in self._done.items()})
        self._done = {position: done for position, done in self._done.items() if position in first_deferred}
        self._since, self._is_urgent = None, False

    def rewind(self) -> None:
        """Forget what was not flushed: it is delivered again."""
        self._coupons.clear()
        self._done.clear()
        self._since, self._is_urgent = None, False
        self._consumer.rewind()

    def _index(self) -> None:
        self._indexer.index(self._coupons.values())
        self._coupons.clear()
