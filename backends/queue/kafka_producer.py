"""The producer that all threads of a process share: it knows which broker a message goes to."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from kafka import TopicPartition, errors

from backends.queue.kafka_broker import Addressed, Broker, Order
from backends.queue.kafka_client import Cluster, said
from backends.queue.rules import partition_of
from coupon.ports.backend import BackendRejected, BackendUnavailable
from coupon.ports.queue import Message

AGAIN_PAUSE_S = 0.05
NOBODY = -1
"""Leads a partition whose leader is being chosen."""


class SharedProducer:
    """What a broker has surely not written is sent again, to whoever leads by then, within the timeout. What nobody
    knows is a BackendUnavailable."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._looking = threading.Lock()
        self._looked_at = 0.0
        self._leaders: dict[str, list[int]] = {}
        self._brokers: dict[int, Broker] = {}
        self._closed = False

    def publish(self, messages: Sequence[Message]) -> None:
        deadline = time.monotonic() + self._cluster.timeout_s
        topics = {message.topic for message in messages}
        if not topics <= self._leaders.keys():
            self._look(topics - self._leaders.keys(), deadline)
        todo = [(self._place(message), message) for message in messages]
        orders: list[Order] = []
        while todo:
            sent = self._send(todo, deadline)
            orders += sent
            todo = [addressed for order in sent for addressed in order.again]
            if todo and time.monotonic() + AGAIN_PAUSE_S > deadline:
                orders[-1].failures.append(errors.LeaderNotAvailableError(str(todo[0][0])))
                break
            if todo:
                time.sleep(AGAIN_PAUSE_S)
                self._look(topics, deadline)
        _raise_failure(orders, len(messages))

    def close(self) -> None:
        self._closed = True
        for broker in list(self._brokers.values()):
            broker.close()

    def _send(self, messages: Iterable[Addressed], deadline: float) -> list[Order]:
        """An order to each broker, one after the other."""
        if self._closed:
            raise BackendUnavailable("the queue was closed")
        by_leader: dict[int, list[Addressed]] = defaultdict(list)
        for place, message in messages:
            by_leader[self._leaders[self._logical(place)][place.partition]].append((place, message))
        orders = []
        for leader, part in by_leader.items():
            order = Order(part)
            if leader == NOBODY:
                order.again = part
            else:
                broker = self._brokers.get(leader) or self._brokers.setdefault(leader, Broker(self._cluster, leader))
                broker.send(order, deadline)
            orders.append(order)
        return orders

    def _place(self, message: Message) -> TopicPartition:
        partition = partition_of(message.key, len(self._leaders[message.topic]))
        return TopicPartition(self._cluster.prefix + message.topic, partition)

    def _logical(self, place: TopicPartition) -> str:
        return str(place.topic.removeprefix(self._cluster.prefix))

    def _look(self, topics: Iterable[str], deadline: float) -> None:
        """Who leads each partition of the topics; one thread looks for all who want to know. Raises BackendRejected for
        a topic that does not exist."""
        asked = time.monotonic()
        if not self._looking.acquire(timeout=max(0.0, deadline - asked)):
            raise BackendUnavailable("Kafka is unavailable: nobody could look at the topics in time")
        try:
            wanted = [topic for topic in topics if self._looked_at < asked or topic not in self._leaders]
            if wanted:
                left_s = max(0.1, deadline - time.monotonic())
                found = self._cluster.ask(lambda admin: self._cluster.leaders_of(admin, wanted), left_s)
                self._leaders = self._leaders | found
                self._looked_at = time.monotonic()
        finally:
            self._looking.release()


def _raise_failure(orders: Sequence[Order], number: int) -> None:
    """Raise what the callers of a publish are told, if anything failed."""
    failures = [failure for order in orders for failure in order.failures]
    if failures:
        acknowledged = sum(order.acknowledged for order in orders)
        kind = BackendRejected if all(order.is_refused for order in orders) else BackendUnavailable
        raise kind(f"Kafka acknowledged {acknowledged} of {number} messages: {said(failures[0])}") from failures[0]
