"""Indexing coupons in search, without letting search hold up the commands.

While search is unavailable the worker goes on applying. The codes of the coupons go into the outbox ``reindex``. They
are indexed when search is available again. An entry of the outbox that fails again stays there: it is never copied.
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
    """Indexes coupons, or enqueues them in the outbox. After a failure its circuit breaker is open for a while."""

    def __init__(self, search: Search, queue: Queue, timer: Clock) -> None:
        self._search, self._queue = search, queue
        self._circuit_breaker = CircuitBreaker(timer)

    def index(self, coupons: Iterable[Coupon]) -> None:
        """Afterwards each coupon is indexed, or in the outbox. Raises BackendUnavailable when neither was possible."""
        coupons = list(coupons)
        if coupons and not self._was_indexed(coupons):
            enqueue(self._queue, REINDEX, [coupon.code for coupon in coupons])

    def catch_up(self, coupons: Iterable[Coupon]) -> None:
        """Index coupons of the outbox. Raises StillUnavailable when they have to stay there."""
        coupons = list(coupons)
        if coupons and not self._was_indexed(coupons):
            raise StillUnavailable("search")

    def is_unavailable(self) -> bool:
        """Whether search failed the last time, and it is not yet time to try again."""
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
        """The commands are applied already, so a bad document must not fail the others. Bisection finds the documents
        that search rejects or crashes on. They are logged, and skipped until the next ``coupon reindex``."""
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
