"""The connection to one broker, and the callers that wait to send to it: their messages are sent in one request.

It uses the driver's connections, not its KafkaProducer (decision 9). A web process sends one message for each request,
nearly always to another partition. KafkaProducer would build one batch and switch threads twice for each message.

Only the caller sends a message again. So there are no duplicates to remove, and a message that failed with
BackendUnavailable is not sent later.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kafka import TopicPartition, errors
from kafka.protocol.producer import ProduceRequest
from kafka.record.memory_records import MemoryRecordsBuilder

from backends.queue.kafka_client import REFUSALS, Cluster
from backends.queue.kafka_link import Link, left_ms
from coupon.ports.group_commit import GroupCommit
from coupon.ports.queue import Message

BATCH_BYTES = 128 * 1024
"""The most bytes of a batch; a longer message is a batch of its own."""
RETRIABLE = (
    errors.NodeNotReadyError,
    errors.LeaderNotAvailableError,
    errors.NotLeaderForPartitionError,
    errors.FencedLeaderEpochError,
    errors.UnknownLeaderEpochError,
    errors.NotEnoughReplicasError,
)
"""Errors after which nothing was written, and the broker will soon be ready, or another one leads."""
TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
ACKS_ALL = -1
UNKNOWN = errors.UnknownError.errno
NO_TIMESTAMP = -1
"""Records have no timestamp: Kafka refuses one that is an hour in the future. Our times are in the messages."""
VERSION_MAX = 9
"""The last version of the request in which a topic is identified by its name."""

RoutedMessage = tuple[TopicPartition, Message]


class SendCall:
    """The messages of one caller, and their outcomes."""

    __slots__ = ("acknowledged", "failures", "to_retry", "todo")

    def __init__(self, messages: Iterable[RoutedMessage]) -> None:
        self.todo = list(messages)
        self.acknowledged = 0
        self.to_retry: list[RoutedMessage] = []
        """The messages that were certainly not written, and may be sent again."""
        self.failures: list[Exception] = []

    @property
    def is_refused(self) -> bool:
        """Whether all of the messages were refused, and a retry never helps."""
        return not self.acknowledged and all(isinstance(failure, REFUSALS) for failure in self.failures)

    def settle(self, routed: RoutedMessage, outcome: Exception | None) -> None:
        """Set the outcome of a message: its error, or None when it is acknowledged."""
        if outcome is None:
            self.acknowledged += 1
        elif isinstance(outcome, RETRIABLE):
            self.to_retry.append(routed)
        else:
            self.failures.append(outcome)

    def fail_the_rest(self, error: Exception) -> None:
        """Set this error for all messages without an outcome: they may have been written."""
        settled = self.acknowledged + len(self.to_retry) + len(self.failures)
        self.failures += [error] * (len(self.todo) - settled)


_Batch = list[tuple[SendCall, RoutedMessage]]


class Broker:
    """Shared by all threads of a process. It connects at the first use, and again after a failure."""

    def __init__(self, cluster: Cluster, node: int) -> None:
        self._node = node
        self._group = GroupCommit(self.serve)
        self._link = Link(cluster)
        self._closed = False

    def send(self, call: SendCall, deadline: float) -> None:
        """Send the messages. Afterwards each has an outcome."""
        try:
            self._group.do(call, deadline)
        except TimeoutError:
            call.fail_the_rest(errors.KafkaTimeoutError("no answer in time"))

    def close(self) -> None:
        """A thread that is sending finishes, and disconnects."""
        self._closed = True
        self.send(SendCall([]), time.monotonic() + 1.0)

    def serve(self, calls: Sequence[SendCall], deadline: float) -> None:
        """Send the calls of a group in one request; by one thread at a time."""
        try:
            self._send_all(_batches(calls), deadline)
        except Exception as error:  # the driver may raise any error
            for call in calls:
                call.fail_the_rest(error)
        if self._closed or any(call.failures and not call.is_refused for call in calls):
            self._link.disconnect()

    def _send_all(self, backlog: dict[TopicPartition, deque[_Batch]], deadline: float) -> None:
        """Send in rounds. In each, a request has one batch of each partition."""
        while backlog:
            outcomes = self._produce({partition: batches[0] for partition, batches in backlog.items()}, deadline)
            for partition, batches in backlog.items():
                batch, outcome = batches.popleft(), outcomes[partition]
                if isinstance(outcome, TOO_LARGE) and len(batch) > 1:
                    half = len(batch) // 2
                    batches.extendleft([batch[half:], batch[:half]])
                    continue
                if isinstance(outcome, RETRIABLE):  # with all messages behind it, so that their order stays
                    batch = [item for later in (batch, *batches) for item in later]
                    batches.clear()
                for call, routed in batch:
                    call.settle(routed, outcome)
            backlog = {partition: batches for partition, batches in backlog.items() if batches}

    def _produce(self, batches: Mapping[TopicPartition, _Batch], deadline: float) -> dict[TopicPartition, Any]:
        """Make one request. Returns the outcome of each batch: an error, or None when it is acknowledged."""
        client = self._link.client([self._node], deadline)
        if not client.is_ready(self._node):
            return dict.fromkeys(batches, client.not_ready(self._node))
        future = client.send(self._node, _request(batches, left_ms(deadline)))
        client.poll(timeout_ms=left_ms(deadline), future=future)
        failure = future.exception or errors.KafkaTimeoutError("no answer in time")
        return dict.fromkeys(batches, failure) | _outcomes(future.value)


def _batches(calls: Iterable[SendCall]) -> dict[TopicPartition, deque[_Batch]]:
    """The messages of each partition in their order, split into batches."""
    backlog: dict[TopicPartition, deque[_Batch]] = defaultdict(deque)
    space_left: dict[TopicPartition, int] = {}
    for call in calls:
        for routed in call.todo:
            partition, message = routed
            left = space_left.get(partition, -1) - len(message.value) - len(message.key)
            if left < 0:
                backlog[partition].append([])
                left = BATCH_BYTES
            space_left[partition] = left
            backlog[partition][-1].append((call, routed))
    return backlog


def _request(batches: Mapping[TopicPartition, _Batch], timeout_ms: int) -> Any:
    topic_data, partition_data = ProduceRequest.TopicProduceData, ProduceRequest.TopicProduceData.PartitionProduceData
    topics: dict[str, list[Any]] = defaultdict(list)
    for partition, batch in batches.items():
        topics[partition.topic].append(partition_data(index=partition.partition, records=_records(batch)))
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
    """The outcome of each partition in the response: an error, or None when the batch is acknowledged. Empty without a
    response."""
    outcomes: dict[TopicPartition, Any] = {}
    for topic in response.responses if response is not None else ():
        for answer in topic.partition_responses:
            partition = TopicPartition(topic.name, answer.index)
            outcomes[partition] = outcomes.get(partition) or _outcome(answer)
    return outcomes


def _outcome(answer: Any) -> Exception | None:
    if answer.error_code == 0 and answer.base_offset >= 0:
        return None
    failure: Exception = errors.for_code(answer.error_code or UNKNOWN)(answer.error_message or "")
    return failure
