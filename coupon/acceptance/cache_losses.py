"""Whether the cache may have lost an entry of an accepted command. When it lost none, a miss costs no more than a read
of the store.

An entry can be lost in three ways, and each can be detected:

- With all others: the cache was emptied or restarted. The *epoch*, an entry of its own, is lost with them. Whoever
  misses it begins the next one, with a fence. A miss is believed again once the workers have passed that fence.
- For want of room: the cache counts its evictions, and the count is in the epoch.
- At the end of its life: that is no loss if the workers applied long ago whatever is as old as an entry can be.
"""

import secrets
import threading
from collections import deque
from typing import NamedTuple

from coupon.acceptance.fences import Fences
from coupon.domain.clock import Clock, monotonic_ms
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import BackendRejected, Malformed
from coupon.domain.serialization import Fence, decode_epoch, dump
from coupon.ports.cache import Cached
from coupon.runtime.cache_entries import CacheOrAway, opened, sealed

EPOCH_TTL_S = 30 * 86_400
LOOK_MS, LOOK_SOON_MS = 2_000, 100
"""How often a process looks how far behind the workers are; sooner while they are not known to be up to date."""
LOOKS_MAX = 200


class Epoch(NamedTuple):
    """The time since a cache lost all that it had. ``evicted``: how many entries it had given up until then; None for a
    cache that never does. ``fence`` is None until the process that began it has asked the queue."""

    id: str
    evicted: int | None
    fence: Fence | None


class Known(NamedTuple):
    """An epoch whose beginning the workers have passed: where the cache has it, and what it is there."""

    name: str
    value: bytes
    evicted: int | None


class Losses:
    """Of one process, with what it has learned. Thread-safe. Raises CacheAway, and BackendError where the
    queue does."""

    def __init__(
        self, cache: CacheOrAway, fences: Fences, code_deriver: CodeDeriver, ttl_s: int, timer: Clock = monotonic_ms
    ) -> None:
        self._cache, self._fences, self._code_deriver, self._timer = cache, fences, code_deriver, timer
        self._young_ms = ttl_s * 750
        self._names: dict[str, str] = {}
        self._known: dict[str, Known] = {}
        self._looks: deque[tuple[int, Fence]] = deque()
        self._looked_at: int | None = None
        self._up_to: int | None = None
        self._looking = threading.Lock()

    def excluded(self, key: str) -> Known | None:
        """The epoch, when it is excluded that the cache has lost that key's entry; else None. Ask before the store is
        read."""
        if not self._is_young():
            return None
        name = self._name(key)
        return self._known.get(name) or self._learn(name)

    def still_excluded(self, epoch: Known) -> bool:
        """Whether nothing was lost until now."""
        return self.was_excluded(epoch, self._cache.get(epoch.name))

    def was_excluded(self, epoch: Known, cached: Cached | None) -> bool:
        """Whether nothing was lost until the cache gave this entry in the place of the epoch. Asked after a coupon's
        entry was added: then no other one had been there."""
        if cached is not None and cached.value == epoch.value:
            if epoch.evicted is None or epoch.evicted == self._cache.evicted(epoch.name):
                return True
            self._begin(epoch.name, cached)
        self._known.pop(epoch.name, None)
        return False

    def _name(self, key: str) -> str:
        """The name of the epoch that lives where the key does, and is lost with it."""
        place = self._cache.place(key)
        if place not in self._names:
            names = (f"epoch:{number}" for number in range(1_000_000))
            self._names[place] = next(name for name in names if self._cache.place(name) == place)
        return self._names[place]

    def _learn(self, name: str) -> Known | None:
        """The epoch of the cache, if the workers have passed its beginning."""
        cached = self._cache.get(name)
        epoch = self._decode(name, cached)
        if cached is None or epoch is None or epoch.fence is None:
            self._begin(name, cached)
            return None
        if not self._passed(epoch.fence):
            if not self._fences.is_real(epoch.fence):
                self._begin(name, cached)
            return None
        self._known[name] = Known(name, cached.value, epoch.evicted)
        return self._known[name]

    def _passed(self, fence: Fence) -> bool:
        try:
            return self._fences.passed(fence)
        except BackendRejected:  # of a topic that is gone
            return False

    def _begin(self, name: str, before: Cached | None) -> None:
        """Begin a new epoch in the place of the entry. Its fence is looked for only once it is there."""
        epoch = Epoch(secrets.token_hex(8), self._cache.evicted(name), None)
        if before is None:
            token = self._cache.add(name, self._encode(name, epoch), EPOCH_TTL_S)
        else:
            token = self._cache.replace(name, self._encode(name, epoch), before.token, EPOCH_TTL_S)
        if token is not None:
            fenced = epoch._replace(fence=self._fences.of_all())
            self._cache.replace(name, self._encode(name, fenced), token, EPOCH_TTL_S)

    def _is_young(self) -> bool:
        """Whether all that was published before a while ago, shorter than an entry's life, is in the store."""
        now = self._timer()
        due_ms = LOOK_MS if self._is_recent(now) else LOOK_SOON_MS
        if (self._looked_at is None or now - self._looked_at >= due_ms) and self._looking.acquire(blocking=False):
            try:
                self._look(now)
                self._looked_at = now
            finally:
                self._looking.release()
        return self._is_recent(now)

    def _is_recent(self, now: int) -> bool:
        return self._up_to is not None and now - self._up_to < self._young_ms

    def _look(self, now: int) -> None:
        if len(self._looks) < LOOKS_MAX:
            self._looks.append((now, self._fences.of_all()))
        while self._looks and self._fences.passed(self._looks[0][1]):
            self._up_to = self._looks.popleft()[0]

    def _encode(self, name: str, epoch: Epoch) -> bytes:
        return sealed(self._code_deriver, name, dump(epoch))

    def _decode(self, name: str, cached: Cached | None) -> Epoch | None:
        if cached is None:
            return None
        try:
            return Epoch(*decode_epoch(opened(self._code_deriver, name, cached.value)))
        except Malformed:
            return None
