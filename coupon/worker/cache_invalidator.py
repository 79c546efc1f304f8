"""Evicting cache entries that contradict the store. Such an entry includes a command that was rejected, or lacks one
that was accepted without the cache.

Every command that builds on such an entry is rejected. So if the cache is unavailable, the codes go into the outbox
``invalidate``. They are checked when the cache is available again.

A claim replaces the entry, because commands may be in the queue that the store does not have. So the store is believed
only once the workers have committed up to the end that the queue has then.
"""

from collections.abc import Sequence

import structlog

from coupon.applying.outbox import enqueue
from coupon.applying.safe_reads import read
from coupon.domain.clock import Clock
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendError, CacheFailed, Malformed, StillUnavailable
from coupon.domain.lineage import extends
from coupon.domain.model import Coupon
from coupon.domain.topics import INVALIDATE
from coupon.ports.cache import Cache
from coupon.ports.queue import Queue
from coupon.ports.store import Store
from coupon.runtime.cache_entries import UNFENCED, Claim, Entries, cache_key
from coupon.runtime.circuit_breaker import CircuitBreaker

ATTEMPTS = 20
log = structlog.get_logger("coupon.invalidation")


class CacheInvalidator:
    """Evicts wrong entries; while the cache is unavailable, it puts their codes into the outbox. After a failure its
    circuit breaker is open for a while."""

    def __init__(
        self, cache: Cache, store: Store, queue: Queue, code_deriver: CodeDeriver, ttl_s: int, timer: Clock
    ) -> None:
        self._cache, self._store, self._queue = cache, store, queue
        self._entries, self._ttl_s = Entries(code_deriver), ttl_s
        self._circuit_breaker = CircuitBreaker("cache", timer)

    def is_unavailable(self) -> bool:
        """Whether the circuit breaker is open."""
        return self._circuit_breaker.is_open()

    def invalidate(self, codes: Sequence[str]) -> None:
        """Evict the wrong entries of these coupons, or put the codes into the outbox. Raises BackendUnavailable when
        the store or the queue is unavailable."""
        if codes and not self._were_checked(codes):
            enqueue(self._queue, INVALIDATE, codes)

    def catch_up(self, codes: Sequence[str]) -> None:
        """Check the entries of codes from the outbox. Raises StillUnavailable when they have to stay there, and
        BackendUnavailable as ``invalidate`` does."""
        if codes and not self._were_checked(codes):
            raise StillUnavailable("cache")

    def _were_checked(self, codes: Sequence[str]) -> bool:
        if self.is_unavailable():
            return False
        stored = read(self._store, codes).coupons
        try:
            for code in codes:
                self._claim_if_wrong(code, stored.get(code))
        except CacheFailed as error:
            log.warning("cache unavailable", error=str(error))
            self._circuit_breaker.open()
            return False
        if self._circuit_breaker.close():
            log.info("cache is back")
        return True

    def _claim_if_wrong(self, code: str, stored: Coupon | None) -> None:
        """An entry that changes during the check is checked again: a web process may just have confirmed it."""
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
        """A claim with a fence counts as wrong: the fence may be older than the command that this check is for."""
        try:
            entry = self._entries.decode(code, value)
        except Malformed:
            return True
        return entry.fence is not None if isinstance(entry, Claim) else not extends(stored, entry.coupon)
