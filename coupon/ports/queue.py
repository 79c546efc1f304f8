"""The queue: every command, durable and ordered per key, before anything else happens."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from coupon.ports.backend import Backend

MESSAGE_MAX = 1_000_000
"""The most bytes that a message's value may have."""
BROWSED_AT_ONCE = 500


class Message(NamedTuple):
    """What is published. Messages of one topic and key keep their order."""

    topic: str
    key: str
    value: bytes


class Delivery(NamedTuple):
    """A message as it was delivered: at least once, at its place."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes


class Position(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Consumer(ABC):
    """One member of a group: the partitions of its topics are shared out among the living members.

    For one thread. At-least-once: what was polled and not committed is delivered again, to this member after
    ``rewind``, to another one after this one closed or died (within about 10 s).
    """

    @abstractmethod
    def poll(self, max_messages: int, timeout_s: float) -> list[Delivery]:
        """The next messages, in order within each partition, up to ``max_messages``; empty when none came in
        ``timeout_s``. Also keeps the membership alive: call it at least once a minute.
        Raises BackendUnavailable; nothing is skipped then."""

    @abstractmethod
    def commit(self, positions: Mapping[Position, int]) -> None:
        """Record durably the next offset to be delivered of each partition given. Idempotent.
        Raises BackendUnavailable when that may not have happened, or a partition is no longer this member's:
        take it as not committed, and rewind."""

    @abstractmethod
    def rewind(self) -> None:
        """Deliver again all that was polled and not committed. Does no I/O and never raises."""

    @abstractmethod
    def pause(self, places: Iterable[str | Position]) -> None:
        """Deliver nothing of these topics, or single partitions of them, until resumed; membership and positions stay.
        Idempotent, no I/O. Replaces the set that was paused before; an empty one resumes all."""

    @abstractmethod
    def close(self) -> None:
        """Leave the group at once, so that others take over. Commits nothing. Idempotent, never raises."""


class Queue(Backend):
    """Topics have several partitions; a message's partition follows from its key alone."""

    @abstractmethod
    def create(self, topics: Iterable[str]) -> None:
        """Make the topics that are missing. Idempotent."""

    @abstractmethod
    def publish(self, messages: Sequence[Message]) -> None:
        """Return when all messages are durable, in the order given per topic and key; an empty list is fine.
        Raises BackendUnavailable when any of them may not be: each of them may have been published or not.
        Raises BackendRejected for a message that is too large (over 1 MB) or whose topic does not exist."""

    @abstractmethod
    def consumer(self, topics: Sequence[str], group: str) -> Consumer:
        """Join the group. A new group begins at the oldest message. Does no I/O before the first poll."""

    @abstractmethod
    def ends(self, topics: Sequence[str], key: str | None = None) -> dict[Position, int]:
        """The offset that the next message of each partition of the topics will get; with a key, of the key's partition
        of each topic only. What was published before the call is below it. Cheap: a web process asks at cache misses.
        Raises BackendRejected when a topic does not exist, BackendUnavailable."""

    @abstractmethod
    def begins(self, topics: Sequence[str]) -> dict[Position, int]:
        """The offset of the oldest message that is still kept of each partition of the topics; its end, when none is.
        Raises BackendRejected when a topic does not exist, BackendUnavailable."""

    @abstractmethod
    def committed(self, positions: Collection[Position], group: str) -> dict[Position, int]:
        """The offset from which on the group has not committed each of the partitions: what a member that takes it over
        would be given next. Where the group committed nothing, or what it committed last is not kept any more, the
        begin. Cheap, as ``ends``. Joins nothing: any thread may ask of any group.
        Raises BackendRejected when a partition does not exist, BackendUnavailable."""

    @abstractmethod
    def read(self, position: Position, offset: int, limit: int) -> list[Delivery]:
        """The oldest messages of the partition whose offset is ``offset`` or higher, in order: up to ``limit``, or to
        some megabytes; empty only when there is none. Without a group and without effect on any.
        Raises BackendRejected when the partition does not exist, BackendUnavailable."""

    def browse(self, topic: str) -> Iterator[Delivery]:
        """All messages that the topic holds at the time of the call, in order within each partition, without a group
        and without effect on any. In flat memory. Raises BackendRejected when the topic does not exist,
        BackendUnavailable also on the way."""
        begins, ends = self.begins([topic]), self.ends([topic])
        return (message for position, end in ends.items() for message in self._between(position, begins[position], end))

    def lag(self, topics: Sequence[str], group: str) -> int:
        """How many messages of the topics the group has not committed. None: all that was published before the call was
        committed. Raises BackendRejected when a topic does not exist, BackendUnavailable."""
        ends = self.ends(topics)
        committed = self.committed(ends, group)
        return sum(max(0, end - committed[position]) for position, end in ends.items())

    def _between(self, position: Position, begin: int, end: int) -> Iterator[Delivery]:
        while begin < end:
            messages = self.read(position, begin, min(end - begin, BROWSED_AT_ONCE))
            yield from (message for message in messages if message.offset < end)
            begin = messages[-1].offset + 1 if messages else end  # deleted meanwhile
