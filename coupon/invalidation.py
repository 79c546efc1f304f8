"""Taking coupons out of the cache that will never be as it holds them: a command that was accepted on them lost.

Whoever goes on with such a coupon loses too, so it has to go even when the cache is away just now. Until it is gone,
the command's offset is not committed: a worker that dies meanwhile leaves it to the next one, which is told of the
loss by the coupon's own record.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import structlog

from coupon.batch import Place
from coupon.clock import Clock
from coupon.ports.backend import BackendError
from coupon.ports.cache import Cache

PAUSE_MS = 1_000
OWED_MAX = 10_000
"""So many coupons are kept in mind; beyond that the oldest stay in the cache until they expire there."""
log = structlog.get_logger("coupon.invalidation")


class Owed(NamedTuple):
    """The first command that asked for it, and when the last one did (ms)."""

    place: Place
    since: int


class Invalidation:
    """Deletes cache entries, now or as soon as the cache is back; none stays there for longer than ``ttl_s``."""

    def __init__(self, cache: Cache, ttl_s: int, clock: Clock) -> None:
        self._cache, self._ttl_ms, self._clock = cache, ttl_s * 1000, clock
        self._owed: dict[str, Owed] = {}
        self._next_try = 0

    def places(self) -> Iterator[Place]:
        """Of the commands that must not be committed yet."""
        return (owed.place for owed in self._owed.values())

    def invalidate(self, lost: Mapping[str, Place]) -> None:
        """Delete the entries with these keys."""
        now = self._clock()
        for key, place in lost.items():
            first = self._owed.pop(key, None)
            self._owed[key] = Owed(first.place if first else place, now)
        for key in list(self._owed)[: max(0, len(self._owed) - OWED_MAX)]:
            del self._owed[key]
        self.catch_up()

    def catch_up(self) -> bool:
        """Try again what failed, if it is time to; True when nothing is owed any more that was before."""
        now = self._clock()
        if not self._owed or now < self._next_try:
            return False
        try:
            self._cache.delete_many(self._owed)
        except BackendError as error:
            log.warning("cache unavailable", error=str(error), owed=len(self._owed))
            self._next_try = now + PAUSE_MS
            self._owed = {key: owed for key, owed in self._owed.items() if now - owed.since < self._ttl_ms}
        else:
            self._owed.clear()
        return not self._owed

    def clear(self) -> None:
        """What is owed will be asked for again."""
        self._owed.clear()
