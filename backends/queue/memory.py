"""The queue in one process's memory: for tests and simulations."""

import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from backends.queue.partitions import POLL_GAP_MAX_S, AssignedPartitions, fair_share, partition_of, refuse_oversized
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.ports.queue import Consumer, Delivery, Message, Position, Queue
from coupon.ports.url import Url


@dataclass(slots=True)
class _Member:
    topics: frozenset[str]
    until: float


@dataclass(slots=True)
class _Group:
    """The members and the ends of their leases, the owner of each partition, and its next offset."""

    members: dict[str, _Member] = field(default_factory=dict)
    owners: dict[Position, str] = field(default_factory=dict)
    next: dict[Position, int] = field(default_factory=dict)

    def expel(self, now: float) -> None:
        """Expel the members that did not poll in time: they lose their partitions."""
        for name in [name for name, member in self.members.items() if member.until <= now]:
            self.leave(name)

    def leave(self, name: str) -> None:
        self.members.pop(name, None)
        self.owners = {position: owner for position, owner in self.owners.items() if owner != name}

    def owned_by(self, name: str) -> set[Position]:
        return {position for position, owner in self.owners.items() if owner == name}

    def share(self, topic: str, partitions: int, name: str) -> None:
        """Give the member its fair share of the topic: it releases partitions beyond that, or takes free ones."""
        positions = [Position(topic, partition) for partition in range(partitions)]
        due = fair_share(topic, partitions, name, [n for n, member in self.members.items() if topic in member.topics])
        mine = [position for position in positions if self.owners.get(position) == name]
        free = [position for position in positions if position not in self.owners]
        for position in mine[due:]:
            del self.owners[position]
        for position in free[: max(0, due - len(mine))]:
            self.owners[position] = name


class MemoryQueue(Queue):
    """Thread-safe. A member that has not polled for ``lease_s`` loses its partitions. ``timer`` returns seconds, and is
    never set. With ``timeout_s=0`` a poll neither waits nor reads another clock."""

    def __init__(
        self, partitions: int = 4, lease_s: float = POLL_GAP_MAX_S, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self.partitions, self.lease_s, self.timer = partitions, lease_s, timer
        self.changed = threading.Condition()
        self.logs: dict[Position, list[Delivery]] = {}
        """All messages that were published; the index of a message is its offset."""
        self._begins: dict[Position, int] = {}
        self._topics: dict[str, int] = {}
        self._groups: dict[str, _Group] = {}
        self._numbers = itertools.count(1)
        self._closed = False

    @classmethod
    def from_url(cls, url: Url) -> Self:
        return cls(**url.options(partitions=4, lease_s=POLL_GAP_MAX_S))

    def ping(self) -> None:
        self.check_open()

    def close(self) -> None:
        with self.changed:
            self._closed = True
            self.changed.notify_all()

    def create(self, topics: Iterable[str]) -> None:
        self.check_open()
        with self.changed:
            for topic in topics:
                self._topics.setdefault(topic, self.partitions)
                for partition in range(self._topics[topic]):
                    self.logs.setdefault(Position(topic, partition), [])

    def publish(self, messages: Sequence[Message]) -> None:
        self.check_open()
        refuse_oversized(messages)
        with self.changed:
            for topic in {message.topic for message in messages}:
                self._check_topic(topic)
            for message in messages:
                partition = partition_of(message.key, self._topics[message.topic])
                log = self.logs[Position(message.topic, partition)]
                log.append(Delivery(message.topic, partition, len(log), message.key, bytes(message.value)))
            self.changed.notify_all()

    def consumer(self, topics: Sequence[str], group: str) -> "MemoryConsumer":
        return MemoryConsumer(self, topics, group, f"member-{next(self._numbers)}")

    def ends(self, topics: Sequence[str], key: str | None = None) -> dict[Position, int]:
        return {position: len(self.logs[position]) for position in self._positions(topics, key)}

    def begins(self, topics: Sequence[str]) -> dict[Position, int]:
        return {position: self.begin(position) for position in self._positions(topics)}

    def committed(self, positions: Collection[Position], group: str) -> dict[Position, int]:
        self.check_open()
        with self.changed:
            for position in positions:
                self._check_position(position)
            return {position: self.next(position, group) for position in positions}

    def read(self, position: Position, offset: int, limit: int) -> list[Delivery]:
        self.check_open()
        with self.changed:
            self._check_position(position)
            begin = max(offset, self.begin(position))
            return self.logs[position][begin : begin + limit]

    def trim(self, position: Position, begin: int) -> None:
        """Delete the messages before that offset, as a retention does."""
        with self.changed:
            self._begins[position] = min(begin, len(self.logs[position]))

    def group(self, name: str) -> _Group:
        return self._groups.setdefault(name, _Group())

    def begin(self, position: Position) -> int:
        return self._begins.get(position, 0)

    def next(self, position: Position, group: str) -> int:
        """The next offset of the group in that partition."""
        return max(self.begin(position), self.group(group).next.get(position, 0))

    def partitions_of(self, topic: str) -> int:
        return self._topics.get(topic, 0)

    def check_open(self) -> None:
        if self._closed:
            raise BackendUnavailable("the memory queue was closed")

    def _positions(self, topics: Sequence[str], key: str | None = None) -> list[Position]:
        self.check_open()
        for topic in topics:
            self._check_topic(topic)
        return [
            Position(topic, partition)
            for topic in topics
            for partition in range(self._topics[topic])
            if key is None or partition == partition_of(key, self._topics[topic])
        ]

    def _check_topic(self, topic: str) -> None:
        if topic not in self._topics:
            raise BackendRejected(f"there is no topic {topic!r}; run: coupon init")

    def _check_position(self, position: Position) -> None:
        if position not in self.logs:
            raise BackendRejected(f"there is no partition {position.topic}/{position.partition}")


class MemoryConsumer(Consumer):
    """A member of a group of a MemoryQueue."""

    def __init__(self, queue: MemoryQueue, topics: Sequence[str], group: str, name: str) -> None:
        self._queue, self._topics, self._group_name, self._name = queue, frozenset(topics), group, name
        self._assigned = AssignedPartitions()
        self._closed = False

    def poll(self, max_messages: int, timeout_s: float) -> list[Delivery]:
        deadline = time.monotonic() + timeout_s if timeout_s > 0 else None
        with self._queue.changed:
            while True:
                self._renew()
                messages = self._take(max_messages)
                left = deadline - time.monotonic() if deadline is not None else 0.0
                if messages or left <= 0:
                    return messages
                self._queue.changed.wait(min(left, 1.0))

    def commit(self, positions: Mapping[Position, int]) -> None:
        with self._queue.changed:
            group = self._group()
            self._assigned.check(positions)
            for position in positions:
                if group.owners.get(position) != self._name:
                    raise BackendUnavailable(f"{position.topic}/{position.partition} is another member's by now")
            group.next.update(positions)
            self._assigned.commit(positions)

    def rewind(self) -> None:
        self._assigned.rewind()

    def pause(self, places: Iterable[str | Position]) -> None:
        self._assigned.pause(places)

    def close(self) -> None:
        with self._queue.changed:
            self._closed = True
            self._queue.group(self._group_name).leave(self._name)
            self._queue.changed.notify_all()

    def _group(self) -> _Group:
        self._queue.check_open()
        if self._closed:
            raise BackendUnavailable("the consumer was closed")
        return self._queue.group(self._group_name)

    def _renew(self) -> None:
        """Stay in the group, and own its fair share of the partitions."""
        group, now = self._group(), self._queue.timer()
        group.expel(now)
        kept = group.owned_by(self._name)
        group.members[self._name] = _Member(self._topics, now + self._queue.lease_s)
        for topic in sorted(self._topics):
            group.share(topic, self._queue.partitions_of(topic), self._name)
        owned = group.owned_by(self._name)
        self._assigned.retain(kept & owned)
        for position in owned - kept:
            self._assigned.assign(position, self._queue.next(position, self._group_name))

    def _take(self, max_messages: int) -> list[Delivery]:
        """The next messages, in turn from all partitions."""
        begins, found = self._assigned.in_turn(), list[Delivery]()
        for index, (position, next_) in enumerate(begins):
            fair = -(-(max_messages - len(found)) // (len(begins) - index))
            begin = max(next_, self._queue.begin(position))
            taken = self._queue.logs[position][begin : begin + fair]
            self._assigned.deliver(position, begin + len(taken))
            found += taken
        return found
