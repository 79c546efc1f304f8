"""Taking coupons out of the cache that the store proves wrong: a command that was accepted on them lost, or one was
accepted without the cache's knowledge.

Whoever goes on with such a coupon loses too, so it has to go even when the cache is away just now. Until it is gone,
the offset of a command that lost is not committed: a worker that dies meanwhile leaves it to the next one, which is
told of the loss by the coupon's own record.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

import structlog

from coupon.batch import Place
from coupon.clock import Clock
from coupon.ports.backend import BackendError
from coupon.ports.cache import Cache
from coupon.ports.store import Store
from coupon.reservations import cache_key, is_wrong

PAUSE_MS = 1_000
AT_ONCE = 500
OWED_MAX = 10_000
"""So many coupons are kept in mind; beyond that the oldest stay in the cache until they expire there."""
log = structlog.get_logger("coupon.invalidation")


class Owed(NamedTuple):
    """The first command that lost by it, None when none did; and when it was asked for last (ms)."""

    place: Place | None
    since: int


class Invalidation:
    """Removes what is wrong, now or as soon as the cache is back; nothing stays there for longer than ``ttl_s``."""

    def __init__(self, cache: Cache, store: Store, ttl_s: int, clock: Clock) -> None:
        self._cache, self._store, self._ttl_ms, self._clock = cache, store, ttl_s * 1000, clock
        self._owed: dict[str, Owed] = {}
        self._next_try = 0

    def places(self) -> Iterator[Place]:
        """Of the commands that must not be committed yet."""
        return (owed.place for owed in self._owed.values() if owed.place is not None)

    def invalidate(self, suspects: Mapping[str, Place | None]) -> None:
        """Look after these coupons, by code; with the places of the commands that lost. Raises BackendUnavailable when
        the store does not answer."""
        now = self._clock()
        for code, place in suspects.items():
            before = self._owed.pop(code, None)
            self._owed[code] = Owed(before.place or place if before else place, now)
        for code in list(islice(self._owed, max(0, len(self._owed) - OWED_MAX))):
            del self._owed[code]
        self.catch_up()

    def catch_up(self) -> bool:
        """Go on with what is owed, if it is time to; True when some of it is no longer."""
        now, before = self._clock(), len(self._owed)
        if not before or now < self._next_try:
            return False
        codes = list(islice(self._owed, AT_ONCE))
        stored = self._store.get_many(codes)
        try:
            for code in codes:
                cached = self._cache.get(cache_key(code))
                if cached is not None and is_wrong(cached.value, stored.get(code)):
                    self._cache.remove(cache_key(code), cached.token)
                del self._owed[code]
        except BackendError as error:
            log.warning("cache unavailable", error=str(error), owed=len(self._owed))
            self._next_try = now + PAUSE_MS
            self._owed = {code: owed for code, owed in self._owed.items() if now - owed.since < self._ttl_ms}
        return len(self._owed) < before

    def clear(self) -> None:
        """What is owed will be asked for again."""
        self._owed.clear()
