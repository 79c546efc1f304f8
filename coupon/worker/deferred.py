"""Deferred commands: the predecessor of each, or its coupon itself, has not been applied yet.

All deferred commands of one coupon are applied together. Their order is that of their numbers, or that of their topic
where one topic keeps the order. The store is asked about a coupon at once when a command is delivered for it, and soon
after the coupon was written. After that it is asked ever more rarely (decision 15).
"""

import random
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from coupon.applying.batch import RecordId, Task
from coupon.domain.clock import Clock
from coupon.ports.queue import Position

PAUSE_MIN_MS, PAUSE_MAX_MS = 2, 500
"""The pause between two lookups of a coupon grows from the first to the second."""
LOOKUPS_A_MS = 1
"""The most coupons that are looked up in a millisecond, on average: more of them make the pauses longer."""
BYTES_MAX = 4_000_000
"""The most bytes of deferred messages of a partition; beyond it the partition is paused. It bounds the worker's memory.
No command waits indefinitely for it: the predecessor of the oldest deferred command was published before."""


@dataclass(slots=True)
class _Coupon:
    """A coupon's deferred commands, in order, and when the store is asked about it next."""

    tasks: list[Task] = field(default_factory=list)
    due: int = 0
    pause_ms: int = PAUSE_MIN_MS
    revision: int | None = None


class DeferredCommands:
    """The deferred commands of one worker. ``ordered``: all commands of a coupon are in one partition, in order."""

    def __init__(self, timer: Clock, *, ordered: bool) -> None:
        self._timer, self.is_ordered = timer, ordered
        self._coupons: dict[str, _Coupon] = {}
        self._record_ids: set[RecordId] = set()
        self._new: list[RecordId] = []
        self._bytes: Counter[Position] = Counter()

    def __len__(self) -> int:
        return len(self._record_ids)

    def __contains__(self, task: Task) -> bool:
        return task.record_id in self._record_ids

    def record_ids(self) -> Collection[RecordId]:
        """The record ids of all deferred commands. None of these may be committed."""
        return self._record_ids

    def has_any_of(self, code: str) -> bool:
        """Whether a command of the coupon is deferred: then those behind it are deferred, too."""
        return code in self._coupons

    def defer(self, task: Task) -> None:
        """Idempotent. A new command makes its coupon due at once."""
        if task in self:
            return
        coupon = self._coupons.setdefault(task.command.code, _Coupon())
        insort(coupon.tasks, task, key=self._order)
        coupon.due, coupon.pause_ms = self._timer(), PAUSE_MIN_MS
        self._record_ids.add(task.record_id)
        self._new.append(task.record_id)
        self._bytes[task.position] += len(task.delivery.value)

    def defer_again(self, task: Task) -> None:
        """The task was released, but not done: its coupon is due again after a pause. Idempotent."""
        if task not in self:
            self.defer(task)
            self._coupons[task.command.code].due += PAUSE_MAX_MS

    def release(self, task: Task) -> None:
        """The command was applied, rejected or dead-lettered. Idempotent."""
        if task not in self:
            return
        coupon = self._coupons[task.command.code]
        del coupon.tasks[bisect_left(coupon.tasks, self._order(task), key=self._order)]
        if not coupon.tasks:
            del self._coupons[task.command.code]
        self._record_ids.remove(task.record_id)
        self._bytes[task.position] -= len(task.delivery.value)

    def take_new(self) -> list[RecordId]:
        """The record ids that were deferred since the last call, and still are."""
        new = [record_id for record_id in self._new if record_id in self._record_ids]
        self._new.clear()
        return new

    def first_of(self, code: str) -> RecordId | None:
        """The record id of the coupon's first deferred command; None when there is none."""
        coupon = self._coupons.get(code)
        return coupon.tasks[0].record_id if coupon else None

    def due(self) -> dict[str, Sequence[Task]]:
        """By code, the deferred commands of the coupons that are due now, in order."""
        now = self._timer()
        return {code: coupon.tasks for code, coupon in self._coupons.items() if coupon.due <= now}

    def due_in_ms(self) -> int | None:
        """Milliseconds until the next coupon is due; None when nothing is deferred."""
        if not self._coupons:
            return None
        return max(0, min(coupon.due for coupon in self._coupons.values()) - self._timer())

    def reschedule(self, revisions: Mapping[str, int]) -> None:
        """These coupons were looked up, with these revisions; 0 is that of a coupon that does not exist.

        A coupon that was written since the last lookup is due soon. Otherwise its pause grows."""
        pause_max = max(PAUSE_MAX_MS, len(self._coupons) // LOOKUPS_A_MS)
        for code, coupon in self._known(revisions):
            was_written = coupon.revision != revisions[code]
            coupon.pause_ms = PAUSE_MIN_MS if was_written else min(coupon.pause_ms * 2, pause_max)
            coupon.revision = revisions[code]
            coupon.due = self._timer() + round(coupon.pause_ms * random.uniform(0.75, 1))  # noqa: S311 - jitter

    def make_due(self, codes: Iterable[str]) -> None:
        """The store has just written these coupons, so their commands may be ready."""
        for _, coupon in self._known(codes):
            coupon.due = self._timer()

    def full_partitions(self) -> set[Position]:
        """The partitions of which more than ``BYTES_MAX`` is deferred."""
        return {position for position, size in self._bytes.items() if size >= BYTES_MAX}

    def clear(self) -> None:
        """Forget all: the queue delivers it again."""
        self._coupons.clear()
        self._record_ids.clear()
        self._bytes.clear()
        self._new.clear()

    def _known(self, codes: Iterable[str]) -> Iterator[tuple[str, _Coupon]]:
        return ((code, self._coupons[code]) for code in codes if code in self._coupons)

    def _order(self, task: Task) -> tuple[int, RecordId]:
        """The sort key. Across several topics, only the numbers have an order."""
        return (0 if self.is_ordered else task.command.number, task.record_id)
