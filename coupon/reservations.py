"""The coupon as it will be after everything accepted so far: read from the cache, and reserved there.

A reservation is provisional until the queue's acknowledgement, then confirmed. Nobody builds on a provisional one, so
a publish that failed takes nobody else's command with it. A provisional one lives for ``reservation_ttl_s``, which
must be longer than a publish may take. Without a cache there are no reservations: the store alone settles rivals.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from coupon.model import Coupon
from coupon.ports.backend import BackendError
from coupon.ports.cache import Cache
from coupon.ports.store import Store
from coupon.wire import Malformed, decode_coupon, encode_coupon

Sleep = Callable[[float], None]
PROVISIONAL, CONFIRMED = b"P", b"C"
log = structlog.get_logger("coupon.reservations")


class Busy(Exception):
    """Another command on this coupon is being accepted just now: try again."""


class Snapshot(NamedTuple):
    """A coupon as a request saw it. ``token`` is None when it came from the store; ``cached`` says that there is a
    cache to reserve in."""

    coupon: Coupon
    token: Any
    cached: bool


class Reservation(NamedTuple):
    """What a request holds between its reservation and the queue's answer; ``value`` is None without a cache."""

    coupon: Coupon
    value: bytes | None


def cache_key(code: str) -> str:
    return f"coupon:{code}"


class Reservations:
    """Reads, reserves, confirms. Thread-safe; the cache's failures cost speed and are never raised."""

    def __init__(
        self, cache: Cache, store: Store, ttl_s: int, provisional_ttl_s: int, wait_ms: int, sleep: Sleep = time.sleep
    ) -> None:
        self._cache, self._store, self._sleep = cache, store, sleep
        self._ttl_s, self._provisional_ttl_s, self._wait_s = ttl_s, provisional_ttl_s, wait_ms / 1000

    def read(self, code: str) -> Snapshot | None:
        """The coupon after all that was accepted; None when there is no such coupon. Waits for a provisional
        reservation to be confirmed or dropped for a few milliseconds; raises Busy after that."""
        waited_s, pause_s = 0.0, 0.001
        while True:
            try:
                cached = self._cache.get(cache_key(code))
            except BackendError as error:
                log.warning("cache unavailable", error=str(error))
                return self._from_store(code, cached=False)
            if cached is None:
                return self._from_store(code, cached=True)
            if cached.value[:1] == CONFIRMED:
                try:
                    return Snapshot(decode_coupon(cached.value[1:]), cached.token, cached=True)
                except Malformed as error:  # of another version, or not ours: as good as lost
                    log.warning("cache entry dropped", code=code, error=str(error))
                    self._drop(code, cached.value)
            elif waited_s > self._wait_s:
                raise Busy(code)
            else:
                self._sleep(pause_s)
                waited_s, pause_s = waited_s + pause_s, min(pause_s * 2, 0.02)

    def is_behind(self, snapshot: Snapshot) -> bool:
        """True, and the cache entry dropped, when the store proves the cached snapshot wrong: it has gone another way,
        or has rejected what the snapshot holds as accepted. Asked before a refusal: the cache is a hint."""
        if snapshot.token is None:
            return False
        code = snapshot.coupon.code
        stored = self._store.get_many([code]).get(code)
        if stored is not None and _leads_to(stored, snapshot.coupon):
            return False
        try:
            self._cache.remove(cache_key(code), snapshot.token)
        except BackendError as error:
            log.warning("cache unavailable", error=str(error))
        return True

    def reserve(self, snapshot: Snapshot, after: Coupon) -> Reservation | None:
        """Reserve the step from the snapshot to ``after``, provisionally; None when somebody else was faster."""
        if not snapshot.cached:
            return Reservation(after, None)
        key, value = cache_key(after.code), PROVISIONAL + _encode(after)
        try:
            if snapshot.token is None:
                won = self._cache.add(key, value, self._provisional_ttl_s)
            else:
                won = self._cache.replace(key, value, snapshot.token, self._provisional_ttl_s)
        except BackendError as error:
            log.warning("cache unavailable", error=str(error))
            return Reservation(after, value)
        return Reservation(after, value) if won else None

    def confirm(self, reservation: Reservation) -> None:
        """The queue has the command: others may build on it. A reservation that is gone meanwhile stays gone."""
        if reservation.value is None:
            return
        key = cache_key(reservation.coupon.code)
        try:
            cached = self._cache.get(key)
            if cached is not None and cached.value == reservation.value:
                self._cache.replace(key, CONFIRMED + cached.value[1:], cached.token, self._ttl_s)
        except BackendError as error:
            log.warning("cache unavailable", error=str(error))

    def drop(self, reservation: Reservation) -> None:
        """The publish failed, or nobody knows: let the next one begin from the store."""
        if reservation.value is not None:
            self._drop(reservation.coupon.code, reservation.value)

    def _from_store(self, code: str, *, cached: bool) -> Snapshot | None:
        coupon = self._store.get_many([code]).get(code)
        return None if coupon is None else Snapshot(coupon, None, cached)

    def _drop(self, code: str, value: bytes) -> None:
        try:
            cached = self._cache.get(cache_key(code))
            if cached is not None and cached.value == value:
                self._cache.remove(cache_key(code), cached.token)
        except BackendError as error:
            log.warning("cache unavailable", error=str(error))


def _encode(coupon: Coupon) -> bytes:
    return encode_coupon(coupon._replace(rejections=()))


def _leads_to(stored: Coupon, expected: Coupon) -> bool:
    """True when ``expected`` is the stored coupon with some more commands, none of which was rejected."""
    reached = expected.version_of(stored.last_operation)
    if reached is None:
        return False
    ahead = expected.history[len(expected.history) - (expected.version - reached) :]
    return all(stored.rejection(e.operation, version, e.at) is None for version, e in enumerate(ahead, reached))
