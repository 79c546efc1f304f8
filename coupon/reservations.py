"""The coupon as it will be after everything accepted so far: read from the cache, and reserved there.

A reservation is provisional until the queue's acknowledgement, then confirmed. Nobody builds on a provisional one, so
a publish that failed takes nobody else's command with it. A provisional one lives for ``reservation_ttl_s``, which
must be longer than a publish may take. Without a cache there are no reservations: the store alone settles rivals.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from coupon.model import Coupon, Entry
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
    """What a request has between its reservation and the queue's answer; ``value`` is None without a cache, ``token``
    when the cache has not answered for it: it may have it or not."""

    coupon: Coupon
    value: bytes | None
    token: Any

    @property
    def held(self) -> bool:
        return self.token is not None


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
        if _leads_to(self._store.get_many([code]).get(code), snapshot.coupon):
            return False
        try:
            self._cache.remove(cache_key(code), snapshot.token)
        except BackendError as error:
            log.warning("cache unavailable", error=str(error))
        return True

    def reserve(self, snapshot: Snapshot, after: Coupon) -> Reservation | None:
        """Reserve the step from the snapshot to ``after``, provisionally; None when somebody else was faster."""
        if not snapshot.cached:
            return Reservation(after, None, None)
        key, value = cache_key(after.code), PROVISIONAL + _encode(after)
        try:
            if snapshot.token is None:
                token = self._cache.add(key, value, self._provisional_ttl_s)
            else:
                token = self._cache.replace(key, value, snapshot.token, self._provisional_ttl_s)
        except BackendError as error:
            log.warning("cache unavailable", error=str(error))
            return Reservation(after, value, None)
        return None if token is None else Reservation(after, value, token)

    def confirm(self, reservation: Reservation) -> None:
        """The queue has the command: others may build on it. A reservation that is gone meanwhile stays gone."""
        coupon, value, token = reservation
        if value is None:
            return
        key = cache_key(coupon.code)
        try:
            if token is None:  # nobody knows whether the cache has it
                token = self._token_of(key, value)
            if token is not None:
                self._cache.replace(key, CONFIRMED + value[1:], token, self._ttl_s)
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
        key = cache_key(code)
        try:
            token = self._token_of(key, value)
            if token is not None:
                self._cache.remove(key, token)
        except BackendError as error:
            log.warning("cache unavailable", error=str(error))

    def _token_of(self, key: str, value: bytes) -> Any:
        """None when the entry is another one, or gone."""
        cached = self._cache.get(key)
        return cached.token if cached is not None and cached.value == value else None


def _encode(coupon: Coupon) -> bytes:
    return encode_coupon(coupon._replace(rejections=()) if coupon.rejections else coupon)


def is_wrong(cached: bytes, stored: Coupon | None) -> bool:
    """True when the store proves the cache entry wrong: it has gone another way, or has rejected what the entry holds
    as accepted."""
    try:
        return not _leads_to(stored, decode_coupon(cached[1:]))
    except Malformed:
        return True


def _leads_to(stored: Coupon | None, expected: Coupon) -> bool:
    """True when ``expected`` is the stored coupon with some more commands, none of which was rejected."""
    if stored is None or stored.version > expected.version:
        return False
    for version in range(expected.version - len(expected.history) + 1, expected.version + 1):
        theirs, ours = expected.entry_at(version), stored.entry_at(version)
        if theirs is None or (ours is not None and not _is_same(theirs, ours)):
            return False
        if version > stored.version and stored.rejection(theirs.operation, version - 1, theirs.at) is not None:
            return False
    return True


def _is_same(one: Entry, other: Entry) -> bool:
    """Whether both tell of the same deed. Not when: of two attempts of one operation, either may have been first."""
    return (one.operation, one.kind, one.user_id) == (other.operation, other.kind, other.user_id)
