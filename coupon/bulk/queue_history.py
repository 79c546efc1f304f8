"""What the queue has kept of all that was accepted, read without joining the workers' group or any effect on it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from heapq import merge
from typing import NamedTuple

from coupon.applying import dead_letters
from coupon.applying.batch import RecordId, Task, task
from coupon.domain.errors import BackendRejected
from coupon.domain.model import Kind
from coupon.domain.topics import CREATION, DEAD_LETTERS, GROUP, LAYOUTS, REJECTIONS, is_ordered
from coupon.ports.queue import Delivery, Position, Queue
from coupon.runtime.retry import Retrying, at_once

ORDERED = {topics[Kind.ISSUE] for layout, topics in LAYOUTS.items() if is_ordered(layout)}
"""Topics that carry all changes of a coupon."""
CHANGES = tuple(dict.fromkeys(topics[kind] for topics in LAYOUTS.values() for kind in Kind if kind is not Kind.CREATE))
"""Topics of changes, of every layout: it may have been another one once."""
CREATIONS = (CREATION, *ORDERED)
"""Topics of creations: earlier versions put them among the changes."""
READ_AT_ONCE = 500


class Span(NamedTuple):
    """Offsets of a partition: from ``begin`` to before ``end``."""

    begin: int
    end: int


class Recorded:
    """The queue's messages at the time of the call: later ones are none of its. Raises BackendRejected when a topic is
    missing that is ``required``; those of other layouts may be."""

    def __init__(self, queue: Queue, required: Sequence[str], patiently: Retrying = at_once) -> None:
        self._queue, self._patiently = queue, patiently
        self.begins: dict[Position, int] = {}
        self.ends: dict[Position, int] = {}
        for topic in dict.fromkeys((*required, CREATION, *CHANGES, REJECTIONS, DEAD_LETTERS)):
            try:
                begins, ends = queue.begins([topic]), queue.ends([topic])
            except BackendRejected:
                if topic in required:
                    raise
            else:
                self.begins |= begins
                self.ends |= ends
        self.committed = queue.committed([p for p in self.ends if p.topic in CHANGES], GROUP)
        self._dead_lettered = self._letters()

    def creations(self) -> Iterator[Task]:
        """All of them, also what no worker has applied yet; and some changes."""
        spans = {p: Span(self.begins[p], end) for p, end in self.ends.items() if p.topic in CREATIONS}
        return self._in_time(spans, _may_create)

    def committed_changes(self) -> Iterator[Task]:
        """What workers have settled, of the topics of changes."""
        return self._in_time({p: Span(self.begins[p], done) for p, done in self.committed.items()})

    def waiting_changes(self) -> Iterator[Task]:
        """What comes after that: some of it may be applied, too."""
        return self._in_time({p: Span(done, self.ends[p]) for p, done in self.committed.items()})

    @property
    def waiting(self) -> int:
        """How many these are."""
        return sum(self.ends[position] - done for position, done in self.committed.items())

    def has(self, topic: str) -> bool:
        return any(position.topic == topic for position in self.ends)

    def trimmed(self) -> Collection[Position]:
        """Partitions whose oldest messages are not kept any more."""
        return [position for position, begin in self.begins.items() if begin > 0]

    def __len__(self) -> int:
        """About how many messages ``creations`` and ``committed_changes`` tell of, together."""
        creations = sum(end - self.begins[p] for p, end in self.ends.items() if p.topic == CREATION)
        return creations + sum(done - self.begins[p] for p, done in self.committed.items())

    def _in_time(
        self, spans: Mapping[Position, Span], wanted: Callable[[Delivery], bool] = lambda _: True
    ) -> Iterator[Task]:
        """All of them: those of a partition in their order, and the partitions side by side by the time at which their
        commands were accepted. What was dead-lettered is left out: if it was replayed, it comes again."""
        return merge(*(self._of(position, span, wanted) for position, span in spans.items()), key=_accepted_at)

    def _of(self, position: Position, span: Span, wanted: Callable[[Delivery], bool]) -> Iterator[Task]:
        begin = span.begin
        while begin < span.end:
            limit = min(span.end - begin, READ_AT_ONCE)
            found = self._patiently(lambda: self._queue.read(position, begin, limit))  # noqa: B023 - called at once
            for item in map(task, filter(wanted, found)):
                if item.delivery.offset < span.end and not self._is_dead_lettered(item):
                    yield item
            begin = found[-1].offset + 1 if found else span.end

    def _letters(self) -> dict[RecordId, bytes]:
        """Where the dead letters come from, and how they begin: a topic may have been deleted and recreated since."""
        if not self.has(DEAD_LETTERS):
            return {}
        letters = dead_letters.browse(self._queue)
        return {RecordId(Position(it.topic, it.partition), it.offset): it.value[:200] for it in letters}

    def _is_dead_lettered(self, item: Task) -> bool:
        return self._dead_lettered.get(item.record_id) == item.delivery.value[:200]


def _may_create(delivery: Delivery) -> bool:
    """Among changes there are few creations: most of these are not decoded for them."""
    return delivery.topic == CREATION or b'"create"' in delivery.value


def _accepted_at(item: Task) -> int:
    """What cannot be read is told at once."""
    return getattr(item.payload, "accepted_at", 0)
