"""Indexing coupons in search, so that search never holds up the commands.

While search is unavailable the worker goes on applying, and the coupons' codes go into the outbox ``reindex``. They are
indexed when search is available again. An outbox entry that fails again stays where it is, and is not published again.
"""

from collections.abc import Iterable

import structlog

from coupon.applying.outbox import enqueue
from coupon.domain.clock import Clock
from coupon.domain.errors import BackendRejected, BackendUnavailable, StillUnavailable
from coupon.domain.model import Coupon
from coupon.domain.topics import REINDEX
from coupon.ports.queue import Queue
from coupon.ports.search import Search
from coupon.runtime.circuit_breaker import CircuitBreaker

log = structlog.get_logger("coupon.indexing")


class Indexer:
    """Indexes coupons, or puts their codes into the outbox. After a failure its circuit breaker is open for a while."""

    def __init__(self, search: Search, queue: Queue, timer: Clock) -> None:
        self._search, self._queue = search, queue
        self._circuit_breaker = CircuitBreaker("search", timer)

    def index(self, coupons: Iterable[Coupon]) -> None:
        """Index the coupons, or put their codes into the outbox. Raises BackendUnavailable when neither was
        possible."""
        coupons = list(coupons)
        if coupons and not self._was_indexed(coupons):
            enqueue(self._queue, REINDEX, [coupon.code for coupon in coupons])

    def catch_up(self, coupons: Iterable[Coupon]) -> None:
        """Index coupons whose codes came from the outbox. Raises StillUnavailable when they have to stay there."""
        coupons = list(coupons)
        if coupons and not self._was_indexed(coupons):
            raise StillUnavailable("search")

    def is_unavailable(self) -> bool:
        """Whether the circuit breaker is open."""
        return self._circuit_breaker.is_open()

    def _was_indexed(self, coupons: list[Coupon]) -> bool:
        if self.is_unavailable():
            return False
        try:
            self._index(coupons)
        except BackendUnavailable as error:
            log.warning("search unavailable", error=str(error))
            self._circuit_breaker.open()
            return False
        if self._circuit_breaker.close():
            log.info("search is back")
        return True

    def _index(self, coupons: list[Coupon]) -> None:
        """Bisect to find the documents that search rejects or crashes on. They are logged, and skipped until the next
        ``coupon reindex``: their commands are applied already, and the rest must be indexed."""
        try:
            self._search.index_many(coupons)
        except BackendUnavailable:
            raise
        except Exception as error:
            if len(coupons) == 1:
                is_known = isinstance(error, BackendRejected)
                log.error("document refused", code=coupons[0].code, error=str(error), exc_info=not is_known)
                return
            half = len(coupons) // 2
            self._index(coupons[:half])
            self._index(coupons[half:])
