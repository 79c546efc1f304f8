"""Keeping search up with the store, without letting search hold up money.

While search is away the worker goes on applying: the codes whose documents are owed go into the ``reindex`` topic,
durably, and are indexed when search is back.
"""

from collections.abc import Iterable

import structlog

from coupon.batch import reindex_message
from coupon.clock import Clock
from coupon.model import Coupon
from coupon.ports.backend import BackendError, BackendRejected, BackendUnavailable
from coupon.ports.queue import Queue
from coupon.ports.search import Search

PAUSE_MS, PAUSE_MAX_MS = 500, 10_000
CODES_A_MESSAGE = 500
log = structlog.get_logger("coupon.indexing")


class Indexer:
    """Indexes, or notes what is owed. After a failure, search is left alone until a ping answers again."""

    def __init__(self, search: Search, queue: Queue, clock: Clock) -> None:
        self._search, self._queue, self._clock = search, queue, clock
        self._pause_ms = 0
        self._next_ping = 0

    def index(self, coupons: Iterable[Coupon]) -> None:
        """Afterwards each document is written, or owed durably; raises BackendUnavailable when neither was possible."""
        coupons = list(coupons)
        if not self.is_away():
            try:
                return self._index(coupons)
            except BackendUnavailable as error:
                log.warning("search unavailable", error=str(error))
                self._wait_longer()
        codes = [coupon.code for coupon in coupons]
        starts = range(0, len(codes), CODES_A_MESSAGE)
        self._queue.publish([reindex_message(codes[start : start + CODES_A_MESSAGE]) for start in starts])
        return None

    def _index(self, coupons: list[Coupon]) -> None:
        """Whatever search makes of a document, its command was carried out: one that it refuses for what it is, found
        by halving, is told and left out until ``coupon reindex``."""
        try:
            self._search.index_many(coupons)
        except BackendRejected as error:
            if len(coupons) == 1:
                log.error("document refused", code=coupons[0].code, error=str(error))
                return
            half = len(coupons) // 2
            self._index(coupons[:half])
            self._index(coupons[half:])

    def is_away(self) -> bool:
        """Whether search failed last time and has not answered a ping since; pings when it is time to."""
        if self._pause_ms and self._clock() >= self._next_ping:
            try:
                self._search.ping()
            except BackendError:
                self._wait_longer()
            else:
                log.info("search is back")
                self._pause_ms = 0
        return self._pause_ms > 0

    def _wait_longer(self) -> None:
        self._pause_ms = min(max(self._pause_ms * 2, PAUSE_MS), PAUSE_MAX_MS)
        self._next_ping = self._clock() + self._pause_ms
