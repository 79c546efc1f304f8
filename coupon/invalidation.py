"""Taking coupons out of the cache that the store proves wrong: a command that was accepted on them lost, or one was
accepted without the cache's knowledge. Whoever goes on with such a coupon loses too, so it has to go even when the
cache is away just now: then the codes go into the ``invalidate`` topic, durably, and are looked at when it is back.
"""

from collections.abc import Mapping, Sequence

import structlog

from coupon.circuit import Circuit
from coupon.clock import Clock
from coupon.model import Coupon
from coupon.owed import owe
from coupon.ports.backend import BackendError
from coupon.ports.cache import Cache
from coupon.ports.queue import Queue
from coupon.ports.store import Store
from coupon.reservations import cache_key, is_wrong
from coupon.topics import INVALIDATE

log = structlog.get_logger("coupon.invalidation")


class Invalidation:
    """Removes what is wrong, or notes what is owed. After a failure, the cache is left alone until a ping answers."""

    def __init__(self, cache: Cache, store: Store, queue: Queue, clock: Clock) -> None:
        self._cache, self._store, self._queue = cache, store, queue
        self._circuit = Circuit(cache, clock)

    def is_away(self) -> bool:
        """Whether the cache failed last time and has not answered a ping since; pings when it is time to."""
        return self._circuit.is_open()

    def invalidate(self, codes: Sequence[str]) -> None:
        """Afterwards no entry of these coupons is wrong, or looking at it is owed durably; raises BackendUnavailable
        when the store or the queue does not answer."""
        if codes and not self.is_away():
            stored = self._store.get_many(codes)
            try:
                return self._remove(codes, stored)
            except BackendError as error:
                log.warning("cache unavailable", error=str(error))
                self._circuit.open()
        owe(self._queue, INVALIDATE, codes)
        return None

    def _remove(self, codes: Sequence[str], stored: Mapping[str, Coupon]) -> None:
        """An entry that cannot be read, or changes while it is looked at, is deleted whatever it is: that costs no more
        than speed."""
        for place, code in enumerate(codes):
            key = cache_key(code)
            try:
                cached = self._cache.get(key)
                if cached is None or not is_wrong(cached.value, stored.get(code)):
                    continue
                if not self._cache.remove(key, cached.token):
                    self._cache.delete_many([key])
            except BackendError:
                self._cache.delete_many(map(cache_key, codes[place:]))
                return
