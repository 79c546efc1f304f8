"""The commands that the queue still has, read without joining the workers' group or any effect on it."""

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
"""Topics of changes, of every layout: the service may have had another layout once."""
CREATIONS = (CREATION, *ORDERED)
"""Topics of creations: earlier versions published them among the changes."""
READ_AT_ONCE = 500


class Span(NamedTuple):
    """Offsets of a partition: from ``begin`` to before ``end``."""

    begin: int
    end: int


class Forgeries(NamedTuple):
    """The number of a partition's messages that are forged, with the offsets of the first and the last one."""

    number: int
    first: int
    last: int


class Recorded:
    """The queue's messages at the time of the call, without later ones, and without forged ones. Topics of other
    layouts may be missing. Raises BackendRejected when a ``required`` topic is missing."""

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
        self.forged: dict[Position, Forgeries] = {}
        """Of the messages that were read so far."""
        self._dead_lettered = self._letters()

    def creations(self) -> Iterator[Task]:
        """All creations, also those that no worker has applied yet. There may be changes among them."""
        spans = {p: Span(self.begins[p], end) for p, end in self.ends.items() if p.topic in CREATIONS}
        return self._in_time(spans, _may_create)

    def committed_changes(self) -> Iterator[Task]:
        """The messages of the topics of changes that workers have committed."""
        return self._in_time({p: Span(self.begins[p], done) for p, done in self.committed.items()})

    def waiting_changes(self) -> Iterator[Task]:
        """The messages of the topics of changes that no worker has committed. Some of them may be applied, too."""
        return self._in_time({p: Span(done, self.ends[p]) for p, done in self.committed.items()})

    @property
    def waiting(self) -> int:
        """The number of ``waiting_changes``."""
        return sum(self.ends[position] - done for position, done in self.committed.items())

    def has(self, topic: str) -> bool:
        return any(position.topic == topic for position in self.ends)

    def trimmed(self) -> Collection[Position]:
        """Partitions whose oldest messages were deleted."""
        return [position for position, begin in self.begins.items() if begin > 0]

    def __len__(self) -> int:
        """About how many messages ``creations`` and ``committed_changes`` return together."""
        creations = sum(end - self.begins[p] for p, end in self.ends.items() if p.topic == CREATION)
        return creations + sum(done - self.begins[p] for p, done in self.committed.items())

    def _in_time(
        self, spans: Mapping[Position, Span], predicate: Callable[[Delivery], bool] = lambda _: True
    ) -> Iterator[Task]:
        """The messages of the spans that match. Those of a partition stay in their order, and the partitions are merged
        by the time of acceptance. Dead letters are left out: one that was replayed is in its topic twice."""
        return merge(*(self._of(position, span, predicate) for position, span in spans.items()), key=_accepted_at)

    def _of(self, position: Position, span: Span, predicate: Callable[[Delivery], bool]) -> Iterator[Task]:
        begin = span.begin
        while begin < span.end:
            limit = min(span.end - begin, READ_AT_ONCE)
            messages = self._patiently(lambda: self._queue.read(position, begin, limit))  # noqa: B023 - called at once
            for item in map(task, filter(predicate, messages)):
                if item.delivery.forged:
                    self._count(position, item.delivery.offset)
                elif item.delivery.offset < span.end and not self._is_dead_lettered(item):
                    yield item
            begin = messages[-1].offset + 1 if messages else span.end

    def _count(self, position: Position, offset: int) -> None:
        """Some partitions are read twice."""
        number, first, last = self.forged.get(position, Forgeries(0, offset, -1))
        if offset > last:
            self.forged[position] = Forgeries(number + 1, first, offset)

    def _letters(self) -> dict[RecordId, bytes]:
        """The first bytes of each dead letter, by record id. A recreated topic may have others at these offsets."""
        if not self.has(DEAD_LETTERS):
            return {}
        letters = dead_letters.browse(self._queue)
        return {RecordId(Position(each.topic, each.partition), each.offset): each.value[:200] for each in letters}

    def _is_dead_lettered(self, item: Task) -> bool:
        return self._dead_lettered.get(item.record_id) == item.delivery.value[:200]


def _may_create(delivery: Delivery) -> bool:
    """Whether the message may be a creation. It avoids decoding most of the changes to find the few creations."""
    return delivery.topic == CREATION or b'"create"' in delivery.value or delivery.forged is not None


def _accepted_at(item: Task) -> int:
    """Milliseconds; 0 for a message that cannot be decoded, so that it is reported first."""
    return getattr(item.payload, "accepted_at", 0)
