"""The producer that all threads of a process share: it sends each message to the broker that leads its partition."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from kafka import errors

from backends.queue.kafka_broker import Broker, RoutedMessage, SendCall
from backends.queue.kafka_client import Cluster, error_text
from backends.queue.kafka_leaders import NO_LEADER, Leaders
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.ports.queue import Message

RETRY_PAUSE_S = 0.05
NO_ANSWER = errors.KafkaError("there was no answer for the others")


class SharedProducer:
    """Sends messages again that were certainly not written, to the leaders by then, within the timeout. When messages
    may have been written, it raises BackendUnavailable."""

    def __init__(self, cluster: Cluster, leaders: Leaders) -> None:
        self._cluster, self._leaders = cluster, leaders
        self._brokers: dict[int, Broker] = {}
        self._closed = False

    def publish(self, messages: Sequence[Message]) -> None:
        deadline = time.monotonic() + self._cluster.timeout_s
        topics = {message.topic for message in messages}
        self._leaders.ensure_known(topics, deadline)
        unsent = [(self._leaders.partition_for(message.topic, message.key), message) for message in messages]
        calls: list[SendCall] = []
        while unsent:
            sent = self._send(unsent, deadline)
            calls += sent
            unsent = [routed for call in sent for routed in call.to_retry]
            if unsent and time.monotonic() + RETRY_PAUSE_S > deadline:
                calls[-1].failures.append(errors.LeaderNotAvailableError(str(unsent[0][0])))
                break
            if unsent:
                time.sleep(RETRY_PAUSE_S)
                self._leaders.refresh(topics, deadline)
        _raise_failure(calls, len(messages))

    def close(self) -> None:
        self._closed = True
        for broker in list(self._brokers.values()):
            broker.close()

    def _send(self, messages: Iterable[RoutedMessage], deadline: float) -> list[SendCall]:
        """Send to each broker, one after the other."""
        if self._closed:
            raise BackendUnavailable("the queue was closed")
        by_leader: dict[int, list[RoutedMessage]] = defaultdict(list)
        for partition, message in messages:
            by_leader[self._leaders.of(partition)].append((partition, message))
        calls = []
        for leader, part in by_leader.items():
            call = SendCall(part)
            if leader == NO_LEADER:
                call.to_retry = part
            else:
                broker = self._brokers.get(leader) or self._brokers.setdefault(leader, Broker(self._cluster, leader))
                broker.send(call, deadline)
            calls.append(call)
        return calls


def _raise_failure(calls: Sequence[SendCall], number: int) -> None:
    """Raise the contract's error, unless each of the messages was acknowledged."""
    acknowledged = sum(call.acknowledged for call in calls)
    if acknowledged == number:
        return
    failures = [failure for call in calls for failure in call.failures]
    is_refused = len(failures) == number and all(call.is_refused for call in calls)
    kind, failure = BackendRejected if is_refused else BackendUnavailable, (*failures, NO_ANSWER)[0]
    raise kind(f"Kafka acknowledged {acknowledged} of {number} messages: {error_text(failure)}") from failure
