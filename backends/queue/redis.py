"""The queue in Redis: a stream for each partition, and groups as on SQLite (decision 28).

Redis's own consumer groups deal out single messages of a stream. Here one member has a partition, in order, and
commits an offset. So a group's state is a hash: the beats of its members, and the owner of each partition.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Self
from uuid import uuid4

from backends.queue import redis_scripts as scripts
from backends.queue.consumers import Consumers
from backends.queue.leased_consumer import LeasedConsumer
from backends.queue.membership import Renewer
from backends.queue.partitions import POLL_BYTES_MAX, partition_of, refuse_oversized
from backends.queue.redis_durability import Durability
from backends.queue.redis_member import RedisMember
from backends.queue.redis_topics import Topics, deliveries, positions_of
from backends.redis_connections import OPTIONS, RedisConnections
from coupon.domain.errors import BackendRejected
from coupon.ports.queue import Delivery, Message, Position, Queue, messages_between
from coupon.ports.url import Url

JOIN_S = 1.0
"""How long a consumer that closes waits for its renewal, when Redis is silent."""
PUBLISHED_AT_ONCE = 500
"""The most messages of a script."""


class RedisQueue(Queue):
    """Messages that all groups have committed are deleted when they are older than ``retention_s``; in a topic without
    a group none is. A member without a heartbeat for ``lease_s`` loses its partitions. Both times are measured by the
    ``timer`` of living members, which returns seconds and is never set."""

    def __init__(
        self,
        connections: RedisConnections,
        partitions: int = 8,
        retention_s: float = 86_400.0,
        lease_s: float = 6.0,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections, self._partitions, self._retention_s = connections, partitions, retention_s
        self._lease_s, self._timer = lease_s, timer
        self._topics = Topics(connections)
        self._durability = Durability(connections.address)
        self._consumers = Consumers[LeasedConsumer]()

    @classmethod
    def from_url(cls, url: Url) -> Self:
        options = url.options(timeout_s=5.0, partitions=8, retention_s=86_400.0, lease_s=6.0, **OPTIONS)
        connection = {name: options.pop(name) for name in ("timeout_s", *OPTIONS)}
        return cls(RedisConnections(url, **connection), **options)

    def ping(self) -> None:
        with self._connections.pinged() as connection:
            self._durability.look(connection)

    def close(self) -> None:
        self._consumers.close()
        self._connections.close()

    def create(self, topics: Iterable[str]) -> None:
        self._topics.create(topics, self._partitions)

    def publish(self, messages: Sequence[Message]) -> None:
        refuse_oversized(messages)
        self._topics.identities({message.topic for message in messages})  # or nothing is published
        for batch in _batches(messages):
            self._topics.known(partial(self._publish, batch))

    def consumer(self, topics: Sequence[str], group: str) -> LeasedConsumer:
        self._consumers.check_open()
        member = RedisMember(
            self._connections,
            self._topics,
            group,
            uuid4().hex,
            sorted(set(topics)),
            self._lease_s,
            self._retention_s,
            self._timer,
        )
        renewer = Renewer(self._lease_s / 3, member.renew, join_s=JOIN_S)
        return self._consumers.add(LeasedConsumer(member, renewer, self._timer))

    def ends(self, topics: Sequence[str], key: str | None = None) -> dict[Position, int]:
        return {position: end for position, (_, end) in self._ends(topics, key).items()}

    def begins(self, topics: Sequence[str]) -> dict[Position, int]:
        return {position: begin for position, (begin, _) in self._ends(topics).items()}

    def browse(self, topic: str) -> Iterator[Delivery]:
        """Begins and ends in one round trip."""
        spans = self._ends([topic])
        return chain.from_iterable(messages_between(self, position, *span) for position, span in spans.items())

    def committed(self, positions: Collection[Position], group: str) -> dict[Position, int]:
        def ask() -> dict[Position, int]:
            topics = self._topics_of(positions)
            ends = self._topics.script(scripts.ENDS, topics, [self._topics.stream(position) for position in positions])
            offsets = [("HGET", self._topics.offsets(position), group) for position in positions]
            with self._connections.connection() as connection:
                found, *stored = self._topics.evaluate(connection, [ends, *offsets])
            return {
                position: int(offset) if begin <= int(offset or -1) <= end else begin  # beyond it: the stream was lost
                for position, begin, end, offset in zip(positions, found[::2], found[1::2], stored, strict=True)
            }

        return self._topics.known(ask)

    def read(self, position: Position, offset: int, limit: int) -> list[Delivery]:
        def ask() -> list[Delivery]:
            topics, streams = self._topics_of([position]), [self._topics.stream(position)]
            take = self._topics.script(scripts.TAKE, topics, streams, limit, POLL_BYTES_MAX, offset)
            with self._connections.connection() as connection:
                ((entries,),) = self._topics.evaluate(connection, [take])
            return deliveries(position, entries)

        return self._topics.known(ask)

    def _publish(self, messages: Sequence[Message]) -> None:
        topics = self._topics.identities({message.topic for message in messages})
        places = {topic: positions_of(topic, identity) for topic, identity in topics.items()}
        streams, arguments = [self._topics.time], list[Any]()
        for message in messages:
            partitions = places[message.topic]
            streams.append(self._topics.stream(partitions[partition_of(message.key, len(partitions))]))
            arguments += [message.key, message.value]
        publish = self._topics.script(scripts.PUBLISH, topics, streams, *arguments)
        with self._connections.connection() as connection:
            self._topics.evaluate(connection, [publish])
            self._durability.wait(connection)

    def _ends(self, topics: Sequence[str], key: str | None = None) -> dict[Position, tuple[int, int]]:
        def ask() -> dict[Position, tuple[int, int]]:
            identities = self._topics.identities(topics)
            positions = [place for topic in identities.items() for place in _places(*topic, key)]
            streams = [self._topics.stream(position) for position in positions]
            with self._connections.connection() as connection:
                (found,) = self._topics.evaluate(connection, [self._topics.script(scripts.ENDS, identities, streams)])
            return dict(zip(positions, zip(found[::2], found[1::2], strict=True), strict=True))

        return self._topics.known(ask)

    def _topics_of(self, positions: Collection[Position]) -> dict[str, bytes]:
        """Raises BackendRejected for a position that does not exist."""
        topics = self._topics.identities(sorted({position.topic for position in positions}))
        known = {place for topic in topics.items() for place in positions_of(*topic)}
        for position in positions:
            if position not in known:
                raise BackendRejected(f"there is no partition {position.topic}/{position.partition}")
        return topics


def _places(topic: str, identity: bytes, key: str | None) -> list[Position]:
    """The topic's partitions, or that of the key."""
    places = positions_of(topic, identity)
    return places if key is None else [places[partition_of(key, len(places))]]


def _batches(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """In order; each is what a script takes."""
    begin = size = 0
    for index, message in enumerate(messages):
        if index - begin == PUBLISHED_AT_ONCE or (index > begin and size + len(message.value) > POLL_BYTES_MAX):
            yield messages[begin:index]
            begin, size = index, 0
        size += len(message.value)
    if messages:
        yield messages[begin:]
