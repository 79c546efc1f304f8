"""The topics of a Redis queue, and the names of its keys.

A hash has each topic's partitions and identity. An identity is made with the topic, so that nobody goes on at an offset
of a topic that was lost and made again.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from backends.queue.leased_consumer import Restarted
from backends.redis_connections import Command, RedisConnection, RedisConnections
from coupon.domain.errors import BackendRejected
from coupon.ports.queue import Delivery, Position

Answer = TypeVar("Answer")


class Topics:
    """Thread-safe."""

    def __init__(self, connections: RedisConnections) -> None:
        self._connections, self._prefix = connections, connections.prefix
        self._known: dict[str, bytes] = {}
        self.time = f"{self._prefix}time"

    def create(self, topics: Iterable[str], partitions: int) -> None:
        new = {topic: f"{partitions}:{secrets.token_hex(8)}" for topic in topics}
        self._connections.ask([("HSETNX", f"{self._prefix}topics", *item) for item in new.items()])

    def stream(self, position: Position) -> str:
        return f"{self._prefix}stream:{position.topic}:{position.partition}"

    def offsets(self, position: Position) -> str:
        """The name of a hash: each group's next offset in the partition."""
        return f"{self._prefix}offsets:{position.topic}:{position.partition}"

    def group(self, name: str) -> str:
        return f"{self._prefix}group:{name}"

    def identities(self, topics: Iterable[str]) -> dict[str, bytes]:
        """Each topic's partitions and identity. Raises BackendRejected when there is no such topic."""
        names, known = list(topics), self._known
        if not known.keys() >= set(names):
            (pairs,) = self._connections.ask([("HGETALL", f"{self._prefix}topics")])
            known = {topic.decode(): value for topic, value in zip(pairs[::2], pairs[1::2], strict=True)}
            self._known = known
        for topic in names:
            if topic not in known:
                raise BackendRejected(f"there is no topic {topic!r}; run: coupon init")
        return {topic: known[topic] for topic in names}

    def script(self, script: str, topics: Mapping[str, bytes], keys: Sequence[str], *arguments: Any) -> Command:
        """A command that evaluates one of ``redis_scripts.py``, if the topics are still these."""
        names = [f"{self._prefix}topics", *keys]
        return ("EVAL", script, len(names), *names, len(topics), *chain.from_iterable(topics.items()), *arguments)

    def evaluate(self, connection: RedisConnection, commands: Sequence[Command]) -> list[Any]:
        """The replies to scripts, of one round trip. Raises Restarted when a topic was lost, and perhaps made again."""
        try:
            return connection.must(commands)
        except ResponseError as error:
            if not str(error).startswith("NOTOPIC"):
                raise
            self._known = {}
            raise Restarted(f"the topic {str(error).removeprefix('NOTOPIC ')!r} is another one by now") from error

    def known(self, work: Callable[[], Answer]) -> Answer:
        """The result of the work, which is done twice when it meets a topic that was made again."""
        try:
            return work()
        except Restarted:
            return work()


def positions_of(topic: str, identity: bytes) -> list[Position]:
    return [Position(topic, partition) for partition in range(int(identity.partition(b":")[0]))]


def deliveries(position: Position, entries: Iterable[Any]) -> list[Delivery]:
    """What others wrote is decoded as well as possible."""
    return [_delivery(position, entry_id, fields or []) for entry_id, fields in entries]


def _delivery(position: Position, entry_id: bytes, fields: list[bytes]) -> Delivery:
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    offset = int(entry_id.partition(b"-")[2]) - 1
    return Delivery(*position, offset, found.get(b"k", b"").decode(errors="replace"), found.get(b"v", b""))
