"""Keeping search up with the store, without letting search hold up money.

While search is away the worker goes on applying: the codes whose documents are owed go into the ``reindex`` topic,
durably, and are indexed when search is back. They go there once: what came from there and fails again stays there.
"""

from collections.abc import Iterable

import structlog

from coupon.applying.outbox import enqueue
from coupon.domain.clock import Clock
from coupon.domain.model import Coupon
from coupon.domain.topics import REINDEX
from coupon.ports.backend import BackendRejected, BackendUnavailable
from coupon.ports.queue import Queue
from coupon.ports.search import Search
from coupon.runtime.circuit_breaker import Away, CircuitBreaker

log = structlog.get_logger("coupon.indexing")


class Indexer:
    """Indexes, or notes what is owed. After a failure, search is left alone for a while; then the next documents are
    the trial."""

    def __init__(self, search: Search, queue: Queue, timer: Clock) -> None:
        self._search, self._queue = search, queue
        self._circuit = CircuitBreaker(timer)

    def index(self, coupons: Iterable[Coupon]) -> None:
        """Afterwards each document is written, or owed durably; raises BackendUnavailable when neither was possible."""
        coupons = list(coupons)
        if coupons and not self._is_done(coupons):
            enqueue(self._queue, REINDEX, [coupon.code for coupon in coupons])

    def catch_up(self, coupons: Iterable[Coupon]) -> None:
        """Index what was owed; raises Away when it is owed as before."""
        coupons = list(coupons)
        if coupons and not self._is_done(coupons):
            raise Away("search")

    def is_away(self) -> bool:
        """Whether search failed last time, and it is not yet time to try again."""
        return self._circuit.is_open()

    def _is_done(self, coupons: list[Coupon]) -> bool:
        if self.is_away():
            return False
        try:
            self._index(coupons)
        except BackendUnavailable as error:
            log.warning("search unavailable", error=str(error))
            self._circuit.open()
            return False
        if self._circuit.close():
            log.info("search is back")
        return True

    def _index(self, coupons: list[Coupon]) -> None:
        """Whatever search makes of a document, its command was applied: one that it refuses for what it is, or
        stumbles over, found by halving, is told and left out until ``coupon reindex``."""
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
