"""Memory backends that also remember what the real ones forget, and forget what they remember.

Only the operator and the verdict of the simulation ask for it.
"""

from collections.abc import Callable, Sequence
from zlib import crc32

from backends.cache.memory import MemoryCache
from backends.queue.memory import MemoryQueue
from backends.store.memory import MemoryStore
from coupon.bulk.scan import pages
from coupon.domain.model import Coupon
from coupon.ports.queue import Message


class WitnessCache(MemoryCache):
    """As one or several servers of which each may lose what it holds: all at once, or an entry for want of room."""

    def __init__(self, clock: Callable[[], float], servers: int) -> None:
        super().__init__(clock)
        self._given_up = dict.fromkeys(map(str, range(servers)), 0)

    def place(self, key: str) -> str:
        return str(crc32(key.encode()) % len(self._given_up))

    def evicted(self, key: str) -> int:
        self.get(key)  # raises when it is closed
        return self._given_up[self.place(key)]

    def wipe(self, place: str) -> None:
        """The server is restarted."""
        self._given_up[place] = 0
        self.delete_many([key for key in self.held_keys() if self.place(key) == place])

    def evict(self, key: str) -> None:
        self._given_up[self.place(key)] += 1
        self.delete_many([key])


class WitnessQueue(MemoryQueue):
    """Knows when each message came first."""

    def __init__(self, partitions: int, lease_s: float, clock: Callable[[], float]) -> None:
        super().__init__(partitions, lease_s, clock)
        self._now_s = clock
        self.landed: dict[bytes, float] = {}

    def publish(self, messages: Sequence[Message]) -> None:
        super().publish(messages)
        for message in messages:
            self.landed.setdefault(message.value, self._now_s() * 1000)


class WitnessStore(MemoryStore):
    """Knows the whole history and all rejections of each coupon, however few of them the coupon remembers.

    It also knows when it had each operation, and which attempts web processes applied."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self.whole: dict[str, Coupon] = {}
        self.applied: dict[str, float] = {}
        self.ahead: set[tuple[str, int]] = set()

    def snapshot(self) -> dict[str, Coupon]:
        """The store as it is, to begin again from."""
        return {coupon.code: coupon for page in pages(self) for coupon in page}

    def save_many(self, coupons: Sequence[Coupon]) -> set[str]:
        refused = super().save_many(coupons)
        for coupon in coupons:
            if coupon.code not in refused:
                self._remember(coupon)
        return refused

    def _remember(self, coupon: Coupon) -> None:
        before = self.whole.get(coupon.code)
        if before is not None:
            new = coupon.history[len(coupon.history) - (coupon.version - before.version) :]
            fresh = [rejection for rejection in coupon.rejections if rejection not in before.rejections]
            history, rejections = (*before.history, *new), (*before.rejections, *fresh)
            coupon = coupon._replace(history=history, rejections=rejections)
            for entry in new:
                self.applied.setdefault(entry.operation, self._clock() * 1000)
                if coupon.ahead:
                    self.ahead.add((entry.operation, entry.number))
        self.whole[coupon.code] = coupon
