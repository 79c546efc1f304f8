"""Taking coupons out of the cache that the store proves wrong: a command that was accepted on them lost, or one was
accepted without the cache's knowledge. Whoever goes on with such a coupon loses too, so it has to go even when the
cache is away just now: then the codes go into the ``invalidate`` topic, durably, and are looked at when it is back.

In the place of what is wrong comes a claim: the store may be behind what was accepted on another entry, so it is
believed only once the workers have passed the queue's end as it is then.
"""

from collections.abc import Sequence

import structlog

from coupon.applying.outbox import enqueue
from coupon.applying.safe_reads import read
from coupon.domain.clock import Clock
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import CacheFailed as CacheFailed
from coupon.domain.lineage import extends
from coupon.domain.model import Coupon
from coupon.domain.serialization import Malformed
from coupon.domain.topics import INVALIDATE
from coupon.ports.backend import BackendError
from coupon.ports.cache import Cache
from coupon.ports.queue import Queue
from coupon.ports.store import Store
from coupon.runtime.cache_entries import UNFENCED, Claim, Entries, cache_key
from coupon.runtime.circuit_breaker import Away, CircuitBreaker

ATTEMPTS = 20
log = structlog.get_logger("coupon.invalidation")


class CacheInvalidator:
    """Removes what is wrong, or notes what is owed. After a failure, the cache is left alone for a while; then the next
    entries are the trial."""

    def __init__(self, cache: Cache, store: Store, queue: Queue, mint: CodeDeriver, ttl_s: int, timer: Clock) -> None:
        self._cache, self._store, self._queue = cache, store, queue
        self._entries, self._ttl_s = Entries(mint), ttl_s
        self._circuit = CircuitBreaker(timer)

    def is_away(self) -> bool:
        """Whether the cache failed last time, and it is not yet time to try again."""
        return self._circuit.is_open()

    def invalidate(self, codes: Sequence[str]) -> None:
        """Afterwards no entry of these coupons is wrong, or looking at it is owed durably; raises BackendUnavailable
        when the store or the queue does not answer."""
        if codes and not self._is_done(codes):
            enqueue(self._queue, INVALIDATE, codes)

    def catch_up(self, codes: Sequence[str]) -> None:
        """Look at what was owed; raises Away when it is owed as before, BackendUnavailable as ``invalidate`` does."""
        if codes and not self._is_done(codes):
            raise Away("cache")

    def _is_done(self, codes: Sequence[str]) -> bool:
        if self.is_away():
            return False
        stored = read(self._store, codes).coupons
        try:
            for code in codes:
                self._claim_if_wrong(code, stored.get(code))
        except CacheFailed as error:
            log.warning("cache unavailable", error=str(error))
            self._circuit.open()
            return False
        self._circuit.close()
        return True

    def _claim_if_wrong(self, code: str, stored: Coupon | None) -> None:
        """An entry that changes while it is looked at is looked at again: it may have been confirmed just now."""
        for _ in range(ATTEMPTS):
            try:
                cached = self._cache.get(cache_key(code))
                if cached is None or not self._is_wrong(code, cached.value, stored):
                    return
                claim = self._entries.encode(code, UNFENCED)
                if self._cache.replace(cache_key(code), claim, cached.token, self._ttl_s) is not None:
                    return
            except BackendError as error:
                raise CacheFailed(str(error)) from error
            stored = read(self._store, [code]).coupons.get(code)
        raise CacheFailed(f"the entry of {code} changed {ATTEMPTS} times between our read and our write")

    def _is_wrong(self, code: str, value: bytes, stored: Coupon | None) -> bool:
        """A claim with a fence is taken for wrong: it may be of a time before the command that we are here for."""
        try:
            entry = self._entries.decode(code, value)
        except Malformed:
            return True
        return entry.fence is not None if isinstance(entry, Claim) else not extends(stored, entry.coupon)
