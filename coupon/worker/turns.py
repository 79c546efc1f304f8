"""Commands first, and creations in turn with them: a million coupons must not hold up the one that somebody waits for.

Creations have a topic of their own. What is delivered of it is held back, its partitions are paused, and a small part
of it is applied after each look for commands. Its partitions hold nothing else and are gone through in their order,
so what was done of them is committed as always; what is held back when the worker stops, dies or loses a partition is
delivered again, to it or to another (decision 14).
"""

from collections import deque
from collections.abc import Sequence

from coupon.applying.batch import Task, task
from coupon.domain.model import CHUNK, CreateCoupons
from coupon.domain.topics import CREATION
from coupon.ports.queue import Delivery, Position

PORTION, PORTION_MIN = CHUNK, CHUNK // 10
"""Coupons that are created between two looks for commands; fewer of them where the store is slow."""
SLOW_MS, QUICK_MS = 100, 25
"""A portion that takes longer is halved the next time, one that takes less is doubled."""


class Turns:
    """What was delivered and is not anybody's turn yet. It is as much as one poll delivers. ``fingerprint`` is of the
    secret that creations are applied with."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._held: deque[Delivery] = deque()
        self._rest: Task | None = None
        self._portion = PORTION

    @property
    def are_due(self) -> bool:
        """Whether creations are held back: then nobody should wait for messages."""
        return bool(self._held) or self._rest is not None

    @property
    def paused(self) -> set[str | Position]:
        """What need not be delivered meanwhile."""
        return {CREATION} if self.are_due else set()

    def hold(self, deliveries: Sequence[Delivery]) -> list[Task]:
        """Keep the creations of them; the others, decoded, to be applied at once. A creation in a topic of commands
        is among these: earlier versions put it there, and commands behind it must not be committed before it."""
        self._held += [delivery for delivery in deliveries if delivery.topic == CREATION]
        return [task(delivery) for delivery in deliveries if delivery.topic != CREATION]

    def portion(self) -> list[Task]:
        """The next creations, of few coupons together; empty when none is held back. One of more goes on the next time:
        its last coupon, the marker, comes last all the same."""
        taken: list[Task] = []
        left = self._portion
        while self.are_due and left > 0:
            item = self._rest or task(self._held.popleft())
            now, self._rest = self._cut(item, left)
            if taken and now.weight > left:
                self._rest = item
                break
            taken.append(now)
            left -= now.weight
        return taken

    def took(self, ms: int) -> None:
        """How long the last portion did."""
        if ms > SLOW_MS:
            self._portion = max(self._portion // 2, PORTION_MIN)
        elif ms < QUICK_MS:
            self._portion = min(self._portion * 2, PORTION)

    def forget(self) -> None:
        """It is delivered again."""
        self._held.clear()
        self._rest = None

    def _cut(self, item: Task, size: int) -> tuple[Task, Task | None]:
        """The first coupons of a chunk whose codes we derive, and the rest. Given codes stay together: their marker
        tells of the whole chunk."""
        chunk = item.wanted
        if not isinstance(chunk, CreateCoupons) or chunk.codes or chunk.mint != self._fingerprint or chunk.size <= size:
            return item, None
        return (
            item._replace(wanted=chunk._replace(size=size), goes_on=True),
            item._replace(wanted=chunk._replace(first=chunk.first + size, size=chunk.size - size)),
        )
