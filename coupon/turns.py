"""Commands first, and creations in turn with them: a million coupons must not hold up the one that somebody waits for.

Creations have a topic of their own. What is delivered of it is held back, its partitions are paused, and a small part
of it is carried out after each look for commands. Its partitions hold nothing else and are gone through in their order,
so what was done of them is committed as always; what is held back when the worker stops, dies or loses a partition is
delivered again, to it or to another.
"""

from collections import deque
from collections.abc import Sequence

from coupon.batch import Task, task
from coupon.model import CHUNK
from coupon.ports.queue import Delivery, Position
from coupon.topics import CREATION

PORTION = CHUNK
"""Coupons that are created between two looks for commands; a message more than that goes by itself."""


class Turns:
    """What was delivered and is not anybody's turn yet. It is as much as one poll delivers."""

    def __init__(self) -> None:
        self._held: deque[Delivery] = deque()

    @property
    def are_due(self) -> bool:
        """Whether creations are held back: then nobody should wait for messages."""
        return bool(self._held)

    @property
    def paused(self) -> set[str | Position]:
        """What need not be delivered meanwhile."""
        return {CREATION} if self._held else set()

    def hold(self, deliveries: Sequence[Delivery]) -> list[Task]:
        """Keep the creations of them; the others, decoded, to be carried out at once. A creation in a topic of commands
        is among these: earlier versions put it there, and commands behind it must not be committed before it."""
        self._held += [delivery for delivery in deliveries if delivery.topic == CREATION]
        return [task(delivery) for delivery in deliveries if delivery.topic != CREATION]

    def portion(self) -> list[Task]:
        """The next creations, of few coupons together; empty when none is held back."""
        taken: list[Task] = []
        weight = 0
        while self._held:
            item = task(self._held[0])
            weight += item.weight
            if taken and weight > PORTION:
                break
            taken.append(item)
            self._held.popleft()
        return taken

    def forget(self) -> None:
        """It is delivered again."""
        self._held.clear()
