"""The producer that all threads of a process share: it knows which broker a message goes to."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from kafka import errors

from backends.queue.kafka_broker import Broker, RoutedMessage, SendCall
from backends.queue.kafka_client import Cluster, said
from backends.queue.kafka_leaders import NOBODY, Leaders
from coupon.ports.backend import BackendRejected, BackendUnavailable
from coupon.ports.queue import Message

AGAIN_PAUSE_S = 0.05
NOTHING_SAID = errors.KafkaError("nothing was said of the others")


class SharedProducer:
    """What a broker has surely not written is sent again, to whoever leads by then, within the timeout. What nobody
    knows is a BackendUnavailable."""

    def __init__(self, cluster: Cluster, leaders: Leaders) -> None:
        self._cluster, self._leaders = cluster, leaders
        self._brokers: dict[int, Broker] = {}
        self._closed = False

    def publish(self, messages: Sequence[Message]) -> None:
        deadline = time.monotonic() + self._cluster.timeout_s
        topics = {message.topic for message in messages}
        self._leaders.know(topics, deadline)
        todo = [(self._leaders.place_of(message.topic, message.key), message) for message in messages]
        orders: list[SendCall] = []
        while todo:
            sent = self._send(todo, deadline)
            orders += sent
            todo = [addressed for order in sent for addressed in order.again]
            if todo and time.monotonic() + AGAIN_PAUSE_S > deadline:
                orders[-1].failures.append(errors.LeaderNotAvailableError(str(todo[0][0])))
                break
            if todo:
                time.sleep(AGAIN_PAUSE_S)
                self._leaders.look(topics, deadline)
        _raise_failure(orders, len(messages))

    def close(self) -> None:
        self._closed = True
        for broker in list(self._brokers.values()):
            broker.close()

    def _send(self, messages: Iterable[RoutedMessage], deadline: float) -> list[SendCall]:
        """An order to each broker, one after the other."""
        if self._closed:
            raise BackendUnavailable("the queue was closed")
        by_leader: dict[int, list[RoutedMessage]] = defaultdict(list)
        for place, message in messages:
            by_leader[self._leaders.of(place)].append((place, message))
        orders = []
        for leader, part in by_leader.items():
            order = SendCall(part)
            if leader == NOBODY:
                order.again = part
            else:
                broker = self._brokers.get(leader) or self._brokers.setdefault(leader, Broker(self._cluster, leader))
                broker.send(order, deadline)
            orders.append(order)
        return orders


def _raise_failure(orders: Sequence[SendCall], number: int) -> None:
    """Raise what the callers of a publish are told, unless each of its messages was acknowledged."""
    acknowledged = sum(order.acknowledged for order in orders)
    if acknowledged == number:
        return
    failures = [failure for order in orders for failure in order.failures]
    is_refused = len(failures) == number and all(order.is_refused for order in orders)
    kind, failure = BackendRejected if is_refused else BackendUnavailable, (*failures, NOTHING_SAID)[0]
    raise kind(f"Kafka acknowledged {acknowledged} of {number} messages: {said(failure)}") from failure
