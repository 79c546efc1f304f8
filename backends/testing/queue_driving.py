"""How the queue's contract drives a queue: open, publish, drain, commit, and look at what came."""

import time
from collections.abc import Iterable, Sequence

from coupon.ports.queue import Consumer, Delivery, Message, Position, Queue
from coupon.runtime.wiring import open_backend

PATIENCE_S = 30.0


def opened(url: str) -> Queue:
    return open_backend(Queue, url)  # type: ignore[type-abstract]


def messages(count: int, topic: str = "t", keys: int = 50) -> list[Message]:
    return [Message(topic, f"key-{n % keys}", b"%d" % n) for n in range(count)]


def ends(deliveries: Iterable[Delivery]) -> dict[Position, int]:
    """What to commit after these."""
    positions: dict[Position, int] = {}
    for delivery in deliveries:
        position = Position(delivery.topic, delivery.partition)
        positions[position] = max(positions.get(position, 0), delivery.offset + 1)
    return positions


def drain(consumers: Sequence[Consumer], count: int, commit: bool = True, at_once: int = 500) -> list[list[Delivery]]:
    """What each is delivered until there are ``count`` together, ``at_once`` at most a poll; each is committed."""
    found: list[list[Delivery]] = [[] for _ in consumers]
    deadline = time.monotonic() + PATIENCE_S
    while sum(map(len, found)) < count:
        assert time.monotonic() < deadline, f"{sum(map(len, found))} of {count} messages in {PATIENCE_S} s"
        for consumer, mine in zip(consumers, found, strict=True):
            polled = consumer.poll(at_once, 0.1)
            if commit and polled:
                consumer.commit(ends(polled))
            mine += polled
    return found


def poll(consumer: Consumer, count: int, at_once: int = 500) -> list[Delivery]:
    return drain([consumer], count, commit=False, at_once=at_once)[0]


def share_out(queue: Queue, one: Consumer, two: Consumer) -> list[list[Delivery]]:
    """What both are delivered, of many small publishes, until each has its share."""
    found: list[list[Delivery]] = [[], []]
    for settled in range(3):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert time.monotonic() < deadline, f"one of them gets nothing ({settled})"
            queue.publish(messages(50))
            polled = drain([one, two], 50)
            found = [mine + new for mine, new in zip(found, polled, strict=True)]
            if polled[0] and polled[1]:
                break
    return found


def places_once_even(queue: Queue, group: Sequence[Consumer], topics: Sequence[str]) -> list[set[Position]]:
    """The partitions that each member is delivered from, once none has two more of a topic than another."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        queue.publish([message for topic in topics for message in messages(50, topic)])
        places = [set(ends(mine)) for mine in drain(group, 50 * len(topics))]
        if all(max(shares) - min(shares) <= 1 for shares in (shares_of(topic, places) for topic in topics)):
            return places
        assert time.monotonic() < deadline, f"partitions of each member: {places}"


def shares_of(topic: str, places: Iterable[set[Position]]) -> list[int]:
    return [sum(place.topic == topic for place in mine) for mine in places]


def values(deliveries: Iterable[Delivery]) -> list[bytes]:
    return [delivery.value for delivery in deliveries]


def by_key(deliveries: Iterable[Delivery | Message]) -> dict[str, list[bytes]]:
    values: dict[str, list[bytes]] = {}
    for delivery in deliveries:
        values.setdefault(delivery.key, []).append(delivery.value)
    return values
