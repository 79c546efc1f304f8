"""Commands that cannot be settled yet: what they are built on, or their coupon itself, is still to come.

All that wait for one coupon are settled together, in the order of their numbers, or, where one topic keeps the order,
in that. The store is asked about a coupon at once when something is delivered for it, soon after it got on, and
then ever more rarely (decision 15).
"""

import random
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from coupon.applying.batch import Place, Task
from coupon.domain.clock import Clock
from coupon.ports.queue import Position

LOOK_MIN_MS, LOOK_MAX_MS = 2, 500
LOOKS_A_MS = 1
"""Where very many coupons are waited for, about so many are looked at in a millisecond."""
BYTES_MAX = 4_000_000
"""Of the messages of a partition that wait: it bounds the worker's memory. Beyond it the partition is left alone. That
keeps nobody waiting indefinitely: what the oldest of all that waits is built on was published before it."""


@dataclass(slots=True)
class _Coupon:
    """What waits for it, in order, and when the store is asked about it next."""

    tasks: list[Task] = field(default_factory=list)
    due: int = 0
    pause_ms: int = LOOK_MIN_MS
    revision: int | None = None


class DeferredCommands:
    """Of one worker. ``ordered``: all of a coupon's commands have one partition, and keep its order."""

    def __init__(self, timer: Clock, *, ordered: bool) -> None:
        self._timer, self._ordered = timer, ordered
        self._coupons: dict[str, _Coupon] = {}
        self._places: set[Place] = set()
        self._fresh: list[Place] = []
        self._bytes: Counter[Position] = Counter()

    def __len__(self) -> int:
        return len(self._places)

    def places(self) -> Collection[Place]:
        """Where they are. None of them may be committed."""
        return self._places

    def is_waited_for(self, code: str) -> bool:
        """Whether any command waits for the coupon: then those behind it wait, too."""
        return code in self._coupons

    def holds(self, task: Task) -> bool:
        return task.place in self._places

    def hold(self, task: Task) -> None:
        """Idempotent. What is new is looked at at once."""
        if task.place in self._places:
            return
        coupon = self._coupons.setdefault(task.command.code, _Coupon())
        insort(coupon.tasks, task, key=self._order)
        coupon.due, coupon.pause_ms = self._timer(), LOOK_MIN_MS
        self._places.add(task.place)
        self._fresh.append(task.place)
        self._bytes[task.position] += len(task.delivery.value)

    def hold_again(self, task: Task) -> None:
        """It was released, and could not be done with after all: it is looked at again, but not at once. Idempotent."""
        if task.place not in self._places:
            self.hold(task)
            self._coupons[task.command.code].due += LOOK_MAX_MS

    def release(self, task: Task) -> None:
        """It was settled. Idempotent."""
        if task.place not in self._places:
            return
        coupon = self._coupons[task.command.code]
        del coupon.tasks[bisect_left(coupon.tasks, self._order(task), key=self._order)]
        if not coupon.tasks:
            del self._coupons[task.command.code]
        self._places.remove(task.place)
        self._bytes[task.position] -= len(task.delivery.value)

    def fresh(self) -> list[Place]:
        """What was held since the last call, and still is."""
        fresh = [place for place in self._fresh if place in self._places]
        self._fresh.clear()
        return fresh

    def first(self, code: str) -> Place | None:
        """Where the first is that waits for the coupon; None when none does."""
        coupon = self._coupons.get(code)
        return coupon.tasks[0].place if coupon else None

    def due(self) -> dict[str, Sequence[Task]]:
        """What waits for the coupons that are to be looked at now, in order."""
        now = self._timer()
        return {code: coupon.tasks for code, coupon in self._coupons.items() if coupon.due <= now}

    def due_in_ms(self) -> int | None:
        """When something is; None when nothing waits."""
        if not self._coupons:
            return None
        return max(0, min(coupon.due for coupon in self._coupons.values()) - self._timer())

    def looked_at(self, revisions: Mapping[str, int]) -> None:
        """What still waits for these coupons is looked at again: soon for those that were written since the last look,
        later each time for the others. 0 is the revision of a coupon that is not there."""
        pause_max = max(LOOK_MAX_MS, len(self._coupons) // LOOKS_A_MS)
        for code, coupon in self._known(revisions):
            got_on = coupon.revision != revisions[code]
            coupon.pause_ms = LOOK_MIN_MS if got_on else min(coupon.pause_ms * 2, pause_max)
            coupon.revision = revisions[code]
            coupon.due = self._timer() + round(coupon.pause_ms * random.uniform(0.75, 1))  # noqa: S311 - jitter

    def look_now(self, codes: Iterable[str]) -> None:
        """These coupons were written."""
        for _, coupon in self._known(codes):
            coupon.due = self._timer()

    def crowded(self) -> set[Position]:
        """Partitions of which enough is waiting already."""
        return {position for position, size in self._bytes.items() if size >= BYTES_MAX}

    def forget(self) -> None:
        """It is delivered again."""
        self._coupons.clear()
        self._places.clear()
        self._bytes.clear()
        self._fresh.clear()

    def _known(self, codes: Iterable[str]) -> Iterator[tuple[str, _Coupon]]:
        return ((code, self._coupons[code]) for code in codes if code in self._coupons)

    def _order(self, task: Task) -> tuple[int, Place]:
        """In several topics there is no other order than that of the numbers."""
        return (0 if self._ordered else task.command.number, task.place)
