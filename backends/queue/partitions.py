"""Common parts of all queues.

The partition of a key, the size of a message, a member's fair share of the partitions, the offsets that it may commit.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from zlib import crc32

from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.ports.queue import MESSAGE_MAX, Message, Position

POLL_GAP_MAX_S = 90.0
"""A member that has not polled for so long is stuck: its partitions go to other members. (A member polls once a minute
at least.)"""
POLL_BYTES_MAX = 4_000_000
"""The most bytes of a poll, or a single message that is larger."""
PRUNE_MAX = 1_000
"""The most messages of a partition that a commit deletes."""


def partition_of(key: str, partitions: int) -> int:
    """The partition of all messages with that key, always the same."""
    return crc32(key.encode()) % partitions


def refuse_oversized(messages: Iterable[Message]) -> None:
    for message in messages:
        if len(message.value) > MESSAGE_MAX:
            size = len(message.value)
            raise BackendRejected(f"a message of {size} bytes for {message.topic!r}: at most {MESSAGE_MAX} are taken")


def fair_share(topic: str, partitions: int, member: str, living: Collection[str]) -> int:
    """The number of the topic's partitions for that member. The shares of all living members add up to ``partitions``.
    Which members have one more than the rest differs from topic to topic."""
    least, rest = divmod(partitions, len(living))
    with_one_more = sorted(living, key=lambda name: (crc32(f"{topic}/{name}".encode()), name))[:rest]
    return least + (member in with_one_more)


@dataclass(slots=True)
class _Span:
    """Offsets of one partition, each behind the messages that it counts."""

    committed: int
    delivered: int
    reached: int
    """The highest ``delivered`` so far: a rewind does not lower it."""


class AssignedPartitions:
    """The partitions of one member, each with the offsets that were delivered and committed.

    A member may commit only messages that were delivered since the partition was assigned. When it lost the partition
    meanwhile, older deliveries may be in flight, and another member may have committed more.
    """

    def __init__(self) -> None:
        self._spans: dict[Position, _Span] = {}
        self._paused: frozenset[str | Position] = frozenset()
        self._turn = 0

    def __contains__(self, position: Position) -> bool:
        return position in self._spans

    def __iter__(self) -> Iterator[Position]:
        return iter(list(self._spans))

    def assign(self, position: Position, offset: int) -> None:
        """Add a partition whose delivery begins at ``offset``."""
        self._spans[position] = _Span(offset, offset, offset)

    def retain(self, positions: Collection[Position]) -> None:
        """Remove all other partitions."""
        self._spans = {position: span for position, span in self._spans.items() if position in positions}

    def pause(self, places: Iterable[str | Position]) -> bool:
        """As ``Consumer.pause``. Whether other places are paused now than before."""
        before, self._paused = self._paused, frozenset(places)
        return self._paused != before

    def is_paused(self, position: Position) -> bool:
        return not self._paused.isdisjoint((position, position.topic))

    def in_turn(self) -> list[tuple[Position, int]]:
        """The next offset of each partition that is not paused; another one comes first at each call."""
        spans = sorted(self._spans.items())
        begins = [(position, span.delivered) for position, span in spans if not self.is_paused(position)]
        self._turn += 1
        first = self._turn % max(1, len(begins))
        return begins[first:] + begins[:first]

    def next(self, position: Position) -> int:
        """The next offset to be delivered."""
        return self._spans[position].delivered

    def committed(self, position: Position) -> int:
        """The first offset that is not committed."""
        return self._spans[position].committed

    def deliver(self, position: Position, offset: int) -> None:
        """All messages before ``offset`` were delivered."""
        span = self._spans[position]
        span.delivered = offset
        span.reached = max(span.reached, offset)

    def check(self, positions: Mapping[Position, int]) -> None:
        """Raise BackendUnavailable unless all before each offset was delivered, and none behind it is committed."""
        for position, offset in positions.items():
            span = self._spans.get(position)
            if span is None or not span.committed <= offset <= span.reached:
                raise BackendUnavailable(f"{position.topic}/{position.partition} at {offset} is not this member's")

    def commit(self, positions: Mapping[Position, int]) -> None:
        for position, offset in positions.items():
            span = self._spans[position]
            span.committed, span.delivered = offset, max(span.delivered, offset)

    def rewind(self) -> dict[Position, int]:
        """Forget deliveries that were not committed. Returns the offset at which each of their partitions goes on."""
        rewound = {
            position: span.committed for position, span in self._spans.items() if span.delivered > span.committed
        }
        for position, offset in rewound.items():
            self._spans[position].delivered = offset
        return rewound
