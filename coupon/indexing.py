"""Keeping search up with the store, without letting search hold up money.

While search is away the worker goes on applying: the codes whose documents are owed go into the ``reindex`` topic,
durably, and are indexed when search is back.
"""

from collections.abc import Iterable

import structlog

from coupon.circuit import Circuit
from coupon.clock import Clock
from coupon.model import Coupon
from coupon.owed import owe
from coupon.ports.backend import BackendRejected, BackendUnavailable
from coupon.ports.queue import Queue
from coupon.ports.search import Search
from coupon.topics import REINDEX

log = structlog.get_logger("coupon.indexing")


class Indexer:
    """Indexes, or notes what is owed. After a failure, search is left alone until a ping answers again."""

    def __init__(self, search: Search, queue: Queue, clock: Clock) -> None:
        self._search, self._queue = search, queue
        self._circuit = Circuit(search, clock)
        self._was_away = False

    def index(self, coupons: Iterable[Coupon]) -> None:
        """Afterwards each document is written, or owed durably; raises BackendUnavailable when neither was possible."""
        coupons = list(coupons)
        if not coupons:
            return None
        if not self.is_away():
            try:
                return self._index(coupons)
            except BackendUnavailable as error:
                log.warning("search unavailable", error=str(error))
                self._circuit.open()
        owe(self._queue, REINDEX, [coupon.code for coupon in coupons])
        return None

    def _index(self, coupons: list[Coupon]) -> None:
        """Whatever search makes of a document, its command was carried out: one that it refuses for what it is, or
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

    def is_away(self) -> bool:
        """Whether search failed last time and has not answered a ping since; pings when it is time to."""
        was_away, self._was_away = self._was_away, self._circuit.is_open()
        if was_away and not self._was_away:
            log.info("search is back")
        return self._was_away
