"""How much may be outstanding: coupons of accepted creations that the workers have not created yet.

There is a limit in all, and one for each caller. The total comes from the queue (``creation_backlog``), so it holds
whatever the cache loses. Several web processes may together exceed it by what they accept in one second. A caller's
share is in the cache, and a hint: when it is lost, the total still protects. One creation alone is never too many.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import msgspec
import structlog

from coupon.acceptance.creation_backlog import RECENT_MS, Backlog, Measured
from coupon.domain.clock import Clock
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendError, Malformed, TooManyCreations
from coupon.domain.model import CHUNK
from coupon.domain.serialization import dump
from coupon.ports.cache import Cache
from coupon.ports.queue import Queue
from coupon.runtime.cache_entries import opened, sealed
from coupon.runtime.settings import Settings

SHARE_MAX = 64
"""Creations of a caller with an entry each. Beyond it, the two oldest share one."""
FULL_MAX = 1_000
"""A process remembers so many callers who were refused just now."""
SHARE_TTL_S = 3_600
TRIES = 10
log = structlog.get_logger("coupon.limits")

Share = list[tuple[int, int, str]]
"""Of each creation: it counts until the workers have committed so many messages; its coupons; its operation."""
_DECODER = msgspec.json.Decoder(Share)


class CreationLimits:
    """Thread-safe."""

    def __init__(self, queue: Queue, cache: Cache, code_deriver: CodeDeriver, settings: Settings, timer: Clock) -> None:
        self._backlog, self._cache, self._code_deriver = Backlog(queue, timer), cache, code_deriver
        self._max, self._caller_max = settings.creations_max, settings.creations_caller_max
        self._timer, self._full_until = timer, dict[str, int]()
        self._lock = threading.Lock()
        self._on_its_way = 0

    @contextmanager
    def admitted(self, operation: str, amount: int, caller: str | None = None) -> Iterator[None]:
        """Publish inside: so many coupons are on their way. Raises TooManyCreations, BackendUnavailable; then nothing
        is counted."""
        measured, published = self._admit(amount), 0
        try:
            if caller is not None:
                self._admit_caller(caller, operation, amount, measured)
            published = amount  # or not, when it fails: the next measurement tells
            yield
        finally:
            with self._lock:
                self._on_its_way -= amount
                self._backlog.published += published

    def _admit(self, amount: int) -> Measured:
        measured = self._backlog.measured()
        if self._refused(measured, amount):
            measured = self._backlog.looked_at(measured)
            if outstanding := self._refused(measured, amount):
                raise TooManyCreations(f"{outstanding:,} coupons wait to be created; at most {self._max:,} may")
        return measured

    def _refused(self, measured: Measured, amount: int) -> int:
        """What is outstanding when that is too much; 0 when it is admitted."""
        with self._lock:
            outstanding = measured.coupons + self._on_its_way + self._backlog.published - measured.here
            if outstanding and outstanding + amount > self._max:
                return outstanding
            self._on_its_way += amount
        return 0

    def _admit_caller(self, caller: str, operation: str, amount: int, measured: Measured) -> None:
        """Count the creation for its caller. One of less than a message's coupons is counted by chance, as a whole
        message. The sum is right on average, and most small creations cost no round trip to the cache."""
        if self._timer() < self._full_until.get(caller, 0):  # as the cache said a moment ago
            raise TooManyCreations(f"coupons of this caller wait to be created; at most {self._caller_max:,} may")
        if amount < CHUNK:
            if crc32(operation.encode()) % CHUNK >= amount:
                return
            amount = CHUNK
        key = f"creations:{self._code_deriver.key(caller, '')}"
        try:
            for _ in range(TRIES):
                cached = self._cache.get(key)
                share = [one for one in self._share(key, cached) if one[0] > measured.committed]
                if any(known == operation for _, _, known in share):
                    return
                outstanding = sum(coupons for _, coupons, _ in share)
                if outstanding and outstanding + amount > self._caller_max:
                    self._note_full(caller, amount)
                    raise TooManyCreations(
                        f"{outstanding:,} coupons of this caller wait to be created; at most {self._caller_max:,} may"
                    )
                share.append((measured.published + -(-amount // CHUNK), amount, operation))
                if self._write(key, cached, _shortened(share)):
                    return
        except BackendError as error:
            log.warning("cache unavailable", error=str(error))

    def _note_full(self, caller: str, refused: int) -> None:
        """When not even a message's worth is left, all is refused for a moment, what would not be counted too."""
        if refused > CHUNK:
            return
        if len(self._full_until) >= FULL_MAX:
            self._full_until.clear()
        self._full_until[caller] = self._timer() + RECENT_MS

    def _share(self, key: str, cached: Any) -> Share:
        try:
            return [] if cached is None else _DECODER.decode(opened(self._code_deriver, key, cached.value))
        except (Malformed, msgspec.DecodeError):
            return []

    def _write(self, key: str, cached: Any, share: Share) -> bool:
        value = sealed(self._code_deriver, key, dump(share))
        if cached is None:
            return self._cache.add(key, value, SHARE_TTL_S) is not None
        return self._cache.replace(key, value, cached.token, SHARE_TTL_S) is not None


def _shortened(share: Share) -> Share:
    """The two oldest as one that counts for as long as the later one."""
    while len(share) > SHARE_MAX:
        (_, first, _), (until, second, operation), *others = share
        share = [(until, first + second, operation), *others]
    return share
