"""The queue: every command, durable and ordered per key, before anything else happens."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from coupon.ports.backend import Backend

MESSAGE_MAX = 1_000_000
"""The most bytes that a message's value may have."""
BROWSED_AT_ONCE = 500


class Message(NamedTuple):
    """A message to publish. Messages of one topic and key keep their order."""

    topic: str
    key: str
    value: bytes


class Forged(NamedTuple):
    """What is wrong with the signature of a message, and its bytes: they are not to be applied."""

    reason: str
    value: bytes


class Delivery(NamedTuple):
    """A message that was delivered, with its partition and offset. It may be delivered several times.

    ``value`` is empty when the message is ``forged``, so that nobody applies it by mistake. Backends set no ``forged``:
    signatures are checked behind them (``coupon/runtime/signed_queue.py``)."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    forged: Forged | None = None


class Position(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Consumer(ABC):
    """One member of a group. Each partition of its topics is assigned to one living member. Not thread-safe.

    Delivery is at least once. This member gets the messages that it polled and did not commit again after
    ``rewind``. Another member gets them when this one has closed or died, within about 10 s.
    """

    @abstractmethod
    def poll(self, max_messages: int, timeout_s: float) -> list[Delivery]:
        """Up to ``max_messages`` next messages, in order within each partition; empty when none came in ``timeout_s``.

        It keeps the membership alive: call it at least once a minute. Raises BackendUnavailable; nothing is skipped
        then."""

    @abstractmethod
    def commit(self, positions: Mapping[Position, int]) -> None:
        """Record durably, for each partition, the next offset to be delivered. Idempotent.

        Raises BackendUnavailable when that may not have happened. Treat it as not committed, and rewind. When a
        partition is no longer this member's, or an offset was not delivered to it, nothing is committed."""

    @abstractmethod
    def rewind(self) -> None:
        """Deliver again all that was polled and not committed. Does no I/O and never raises."""

    @abstractmethod
    def pause(self, places: Iterable[str | Position]) -> None:
        """Deliver nothing of these topics and partitions until they are resumed; membership and positions stay.

        Idempotent, no I/O. Replaces the set that was paused before; an empty one resumes all."""

    @abstractmethod
    def close(self) -> None:
        """Leave the group at once, so that others take over. Commits nothing. Idempotent, never raises."""


class Queue(Backend):
    """Topics have several partitions; a message's partition follows from its key alone."""

    @abstractmethod
    def create(self, topics: Iterable[str]) -> None:
        """Make the topics that are missing. Idempotent. Several processes may do it at once."""

    @abstractmethod
    def publish(self, messages: Sequence[Message]) -> None:
        """Return when all messages are durable, in their order for each topic and key; an empty list is fine.

        Raises BackendUnavailable when one may not be durable: each of them may have been published or not. A call
        never publishes a message twice, also when a reply is lost.
        Raises BackendRejected for a message over ``MESSAGE_MAX``, or of a topic that does not exist."""

    @abstractmethod
    def consumer(self, topics: Sequence[str], group: str) -> Consumer:
        """Join the group. A new group begins at the oldest message. Does no I/O before the first poll."""

    @abstractmethod
    def ends(self, topics: Sequence[str], key: str | None = None) -> dict[Position, int]:
        """The offset of the next message of each partition of the topics. With a key: of the key's partitions only.

        All that was published before the call has a lower one. Cheap: a web process calls it on cache misses.
        Raises BackendRejected when a topic does not exist, BackendUnavailable."""

    @abstractmethod
    def begins(self, topics: Sequence[str]) -> dict[Position, int]:
        """The offset of the oldest message that is left in each partition of the topics; its end, when none is left.
        Raises BackendRejected when a topic does not exist, BackendUnavailable."""

    @abstractmethod
    def committed(self, positions: Collection[Position], group: str) -> dict[Position, int]:
        """The offset of the first message of each partition that the group has not committed.

        It is the begin where the group committed nothing, or where that message was deleted by the retention. Cheap, as
        ``ends``. It does not join the group. Raises BackendRejected when a partition does not exist,
        BackendUnavailable."""

    @abstractmethod
    def read(self, position: Position, offset: int, limit: int) -> list[Delivery]:
        """The oldest messages of the partition from ``offset`` on, in order. Empty only when there is none.

        At most ``limit`` messages and some megabytes. It needs no group, and has no effect on any.
        Raises BackendRejected when the partition does not exist, BackendUnavailable."""

    def browse(self, topic: str) -> Iterator[Delivery]:
        """All messages that the topic holds at the time of the call, in order within each partition, in flat memory.

        It needs no group, and has no effect on any. Raises BackendRejected when the topic does not exist,
        BackendUnavailable also during the iteration."""
        begins, ends = self.begins([topic]), self.ends([topic])
        return chain.from_iterable(
            messages_between(self, position, begins[position], ends[position]) for position in ends
        )

    def lag(self, topics: Sequence[str], group: str) -> int:
        """How many messages of the topics the group has not committed. 0: it has committed all that was published
        before the call. Raises BackendRejected when a topic does not exist, BackendUnavailable."""
        ends = self.ends(topics)
        committed = self.committed(ends, group)
        return sum(max(0, end - committed[position]) for position, end in ends.items())


def messages_between(queue: Queue, position: Position, begin: int, end: int) -> Iterator[Delivery]:
    """The messages of the partition from one offset to before another, in flat memory."""
    while begin < end:
        messages = queue.read(position, begin, min(end - begin, BROWSED_AT_ONCE))
        yield from (message for message in messages if message.offset < end)
        begin = messages[-1].offset + 1 if messages else end  # deleted meanwhile
