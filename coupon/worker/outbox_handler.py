"""The handler of outbox entries: coupons to index, and cache entries to check."""

from collections.abc import Sequence

from coupon.applying.batch import OutboxEntry, Task
from coupon.applying.safe_reads import read
from coupon.domain.topics import INVALIDATE, REINDEX
from coupon.ports.store import Store
from coupon.worker.cache_invalidator import CacheInvalidator
from coupon.worker.dead_letter_policy import Failures
from coupon.worker.indexer import Indexer


class OutboxHandler:
    """The handler of one worker."""

    def __init__(self, store: Store, indexer: Indexer, invalidator: CacheInvalidator) -> None:
        self._store, self._indexer, self._invalidator = store, indexer, invalidator

    def handle(self, tasks: Sequence[Task]) -> Failures:
        """Index the coupons, and check the cache entries. Raises StillUnavailable when an entry has to stay in the
        outbox, and BackendUnavailable."""
        if to_index := _codes(tasks, REINDEX):
            self._indexer.catch_up(read(self._store, to_index).coupons.values())
        if to_check := _codes(tasks, INVALIDATE):
            self._invalidator.catch_up(to_check)
        return {}

    def unavailable_topics(self) -> set[str]:
        """The topics whose entries have to stay in the outbox for now."""
        unavailable = {REINDEX: self._indexer.is_unavailable(), INVALIDATE: self._invalidator.is_unavailable()}
        return {topic for topic, is_unavailable in unavailable.items() if is_unavailable}


def _codes(tasks: Sequence[Task], topic: str) -> list[str]:
    entries = [task.payload for task in tasks if isinstance(task.payload, OutboxEntry)]
    return sorted({code for entry in entries if entry.topic == topic for code in entry.codes})
