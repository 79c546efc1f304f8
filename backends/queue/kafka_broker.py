"""The connection to one broker, and those who wait to send to it: their messages go out in one request.

It stands on the driver's connections and not on the driver's producer, of which each message of a web process, alone in
its partition, costs a batch with all that belongs to it, and a switch of threads there and back
(decision 9). Nothing is sent again behind the caller's back, so there are no
duplicates to be kept out, and what the caller was told is unavailable is not sent later.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kafka import TopicPartition, errors
from kafka.protocol.producer import ProduceRequest
from kafka.record.memory_records import MemoryRecordsBuilder

from backends.group_commit import GroupCommit
from backends.queue.kafka_client import REFUSALS, Cluster
from backends.queue.kafka_link import Link, left_ms
from coupon.ports.queue import Message

BATCH_BYTES = 128 * 1024
"""A batch is full at so many bytes; a longer message is a batch of its own."""
RETRIABLE = (
    errors.NodeNotReadyError,
    errors.LeaderNotAvailableError,
    errors.NotLeaderForPartitionError,
    errors.FencedLeaderEpochError,
    errors.UnknownLeaderEpochError,
    errors.NotEnoughReplicasError,
)
"""Nothing was written, and the broker will soon be ready, or another one leads."""
TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
ACKS_ALL = -1
UNKNOWN = errors.UnknownError.errno
NO_TIMESTAMP = -1
"""Kafka refuses a message from an hour in the future, by its own clock. Our times are in the messages."""
VERSION_MAX = 9
"""Of the request: the last in which a topic goes by its name."""

RoutedMessage = tuple[TopicPartition, Message]


class SendCall:
    """Messages that one caller wants sent, and what became of them."""

    __slots__ = ("acknowledged", "again", "failures", "todo")

    def __init__(self, messages: Iterable[RoutedMessage]) -> None:
        self.todo = list(messages)
        self.acknowledged = 0
        self.again: list[RoutedMessage] = []
        """What was surely not written, and may be sent again."""
        self.failures: list[Exception] = []

    @property
    def is_refused(self) -> bool:
        """All of it, for good."""
        return not self.acknowledged and all(isinstance(failure, REFUSALS) for failure in self.failures)

    def settle(self, addressed: RoutedMessage, outcome: Exception | None) -> None:
        """None: it is acknowledged."""
        if outcome is None:
            self.acknowledged += 1
        elif isinstance(outcome, RETRIABLE):
            self.again.append(addressed)
        else:
            self.failures.append(outcome)

    def fail_the_rest(self, error: Exception) -> None:
        """What was not settled is in doubt."""
        settled = self.acknowledged + len(self.again) + len(self.failures)
        self.failures += [error] * (len(self.todo) - settled)


_Batch = list[tuple[SendCall, RoutedMessage]]


class Broker:
    """One of a process, for all of its threads. Connects at the first use, and anew after a failure."""

    def __init__(self, cluster: Cluster, node: int) -> None:
        self._node = node
        self._group = GroupCommit(self._send)
        self._link = Link(cluster)
        self._closed = False

    def send(self, order: SendCall, deadline: float) -> None:
        """Afterwards each message of the order is settled."""
        try:
            self._group.do(order, deadline)
        except TimeoutError:
            order.fail_the_rest(errors.KafkaTimeoutError("no answer in time"))

    def close(self) -> None:
        """Whoever is sending finishes, and disconnects."""
        self._closed = True
        self.send(SendCall([]), time.monotonic() + 1.0)

    def _send(self, orders: Sequence[SendCall], deadline: float) -> None:
        try:
            self._work_off(_batches(orders), deadline)
        except Exception as error:  # of the driver, which throws anything
            for order in orders:
                order.fail_the_rest(error)
        if self._closed or any(order.failures and not order.is_refused for order in orders):
            self._link.disconnect()

    def _work_off(self, backlog: dict[TopicPartition, deque[_Batch]], deadline: float) -> None:
        """In rounds, each of a batch of each partition."""
        while backlog:
            outcomes = self._produce({place: batches[0] for place, batches in backlog.items()}, deadline)
            for place, batches in backlog.items():
                batch, outcome = batches.popleft(), outcomes[place]
                if isinstance(outcome, TOO_LARGE) and len(batch) > 1:
                    half = len(batch) // 2
                    batches.extendleft([batch[half:], batch[:half]])
                    continue
                if isinstance(outcome, RETRIABLE):  # with all behind it: their order stays
                    batch = [item for later in (batch, *batches) for item in later]
                    batches.clear()
                for order, addressed in batch:
                    order.settle(addressed, outcome)
            backlog = {place: batches for place, batches in backlog.items() if batches}

    def _produce(self, batches: Mapping[TopicPartition, _Batch], deadline: float) -> dict[TopicPartition, Any]:
        """One request; what became of each batch, None when it is written and acknowledged."""
        client = self._link.client([self._node], deadline)
        if not client.is_ready(self._node):
            return dict.fromkeys(batches, errors.NodeNotReadyError(f"broker {self._node}"))
        future = client.send(self._node, _request(batches, left_ms(deadline)))
        client.poll(timeout_ms=left_ms(deadline), future=future)
        failure = future.exception or errors.KafkaTimeoutError("no answer in time")
        return dict.fromkeys(batches, failure) | _outcomes(future.value)


def _batches(orders: Iterable[SendCall]) -> dict[TopicPartition, deque[_Batch]]:
    """The messages of each partition in their order, cut into batches."""
    backlog: dict[TopicPartition, deque[_Batch]] = defaultdict(deque)
    space_left: dict[TopicPartition, int] = {}
    for order in orders:
        for addressed in order.todo:
            place, message = addressed
            left = space_left.get(place, -1) - len(message.value) - len(message.key)
            if left < 0:
                backlog[place].append([])
                left = BATCH_BYTES
            space_left[place] = left
            backlog[place][-1].append((order, addressed))
    return backlog


def _request(batches: Mapping[TopicPartition, _Batch], timeout_ms: int) -> Any:
    topic_data, partition_data = ProduceRequest.TopicProduceData, ProduceRequest.TopicProduceData.PartitionProduceData
    topics: dict[str, list[Any]] = defaultdict(list)
    for place, batch in batches.items():
        topics[place.topic].append(partition_data(index=place.partition, records=_records(batch)))
    return ProduceRequest(
        transactional_id=None,
        acks=ACKS_ALL,
        timeout_ms=timeout_ms,
        topic_data=[topic_data(name=topic, partition_data=partitions) for topic, partitions in topics.items()],
        max_version=VERSION_MAX,
    )


def _records(batch: _Batch) -> bytearray:
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=BATCH_BYTES * 16)
    for _, (_, message) in batch:
        builder.append(NO_TIMESTAMP, message.key.encode(), message.value)
    builder.close()
    records: bytearray = builder.buffer()
    return records


def _outcomes(response: Any) -> dict[TopicPartition, Any]:
    """What the broker says of each partition; None is good: its one acknowledgement, which tells at which offset. It
    says nothing when there was no answer."""
    outcomes: dict[TopicPartition, Any] = {}
    for topic in response.responses if response is not None else ():
        for partition in topic.partition_responses:
            place = TopicPartition(topic.name, partition.index)
            outcomes[place] = outcomes.get(place) or _outcome(partition)
    return outcomes


def _outcome(partition: Any) -> Exception | None:
    if partition.error_code == 0 and partition.base_offset >= 0:
        return None
    failure: Exception = errors.for_code(partition.error_code or UNKNOWN)(partition.error_message or "")
    return failure
