"""Commands and creations take turns: a large creation must not hold up a command for which a caller waits.

Creations have a topic of their own. Its deliveries are held back, its partitions are paused, and a small portion is
applied after each poll for commands. Creations of a partition are applied in their order, so their offsets are
committed as usual. Creations that are held back when the worker stops, dies or loses a partition are delivered again
(decision 14).
"""

from collections import deque
from collections.abc import Sequence

from coupon.applying.batch import Task, task
from coupon.domain.model import CHUNK, CreateCoupons
from coupon.domain.topics import CREATION
from coupon.ports.queue import Delivery, Position

PORTION, PORTION_MIN = CHUNK, CHUNK // 10
"""The most coupons that are created between two polls for commands, and the fewest where the store is slow."""
SLOW_MS, QUICK_MS = 100, 25
"""After a portion that takes longer, the next one is half as large. After a quicker one it is twice as large."""


class Turns:
    """The creations that are held back: at most those of one poll. ``secret_fingerprint`` is the worker's."""

    def __init__(self, secret_fingerprint: str) -> None:
        self._secret_fingerprint = secret_fingerprint
        self._held: deque[Delivery] = deque()
        self._rest: Task | None = None
        self._portion = PORTION

    @property
    def are_due(self) -> bool:
        """Whether creations are held back: then a poll must not wait for messages."""
        return bool(self._held) or self._rest is not None

    @property
    def paused(self) -> set[str | Position]:
        """The topics to pause: ``creation`` while creations are held back."""
        return {CREATION} if self.are_due else set()

    def hold_creations(self, deliveries: Sequence[Delivery]) -> list[Task]:
        """Hold back the deliveries of the topic ``creation``. Returns the rest, decoded.

        Earlier versions published creations among the changes. Those are returned: the changes behind them must not be
        committed before them."""
        self._held += [delivery for delivery in deliveries if delivery.topic == CREATION]
        return [task(delivery) for delivery in deliveries if delivery.topic != CREATION]

    def portion(self) -> list[Task]:
        """The next creations, up to the size of a portion; empty when none is held back. A larger one is split, and
        continued by the next call: its last coupon, the marker, is still created last."""
        taken: list[Task] = []
        space_left = self._portion
        while self.are_due and space_left > 0:
            item = self._rest or task(self._held.popleft())
            first, self._rest = self._cut(item, space_left)
            if taken and first.weight > space_left:
                self._rest = item
                break
            taken.append(first)
            space_left -= first.weight
        return taken

    def took(self, ms: int) -> None:
        """Adapt the size of the next portion to the milliseconds that the last one took."""
        if ms > SLOW_MS:
            self._portion = max(self._portion // 2, PORTION_MIN)
        elif ms < QUICK_MS:
            self._portion = min(self._portion * 2, PORTION)

    def clear(self) -> None:
        """Forget all: the queue delivers it again."""
        self._held.clear()
        self._rest = None

    def _cut(self, item: Task, size: int) -> tuple[Task, Task | None]:
        """The first ``size`` coupons of a chunk, and the rest; None when it is not split. Imported codes are not:
        their marker records whether the whole chunk is new."""
        chunk = item.payload
        if not isinstance(chunk, CreateCoupons) or chunk.codes or chunk.size <= size:
            return item, None
        if chunk.secret_fingerprint != self._secret_fingerprint:
            return item, None
        return (
            item._replace(payload=chunk._replace(size=size), is_partial=True),
            item._replace(payload=chunk._replace(first=chunk.first + size, size=chunk.size - size)),
        )
