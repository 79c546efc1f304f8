"""The producer that all threads of a process share: messages that wait at the same time go out in one request.

It stands on the driver's connections and not on the driver's producer, of which each message of a web process, alone in
its partition, costs a batch with all that belongs to it, and a switch of threads there and back: half of the process's
time (docs/decisions/0009). Without it there is nothing that sends a message again behind the caller's back, so there
are no duplicates to be kept out, and what the caller was told is unavailable is not sent later.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import TopicPartition, errors
from kafka.net.compat import KafkaNetClient
from kafka.protocol.producer import ProduceRequest
from kafka.record.memory_records import MemoryRecordsBuilder

from backends.queue.group_commit import Call, GroupCommit
from backends.queue.kafka_client import REFUSALS, Cluster, said
from backends.queue.rules import partition_of
from coupon.ports.backend import BackendError, BackendRejected, BackendUnavailable
from coupon.ports.queue import Message

BATCH_BYTES = 128 * 1024
"""A batch is full at so many bytes; a longer message is a batch of its own."""
AGAIN = (
    errors.LeaderNotAvailableError,
    errors.NotLeaderForPartitionError,
    errors.FencedLeaderEpochError,
    errors.UnknownLeaderEpochError,
    errors.NotEnoughReplicasError,
    errors.ThrottlingQuotaExceededError,
)
"""The broker has written nothing, and will soon know better, or another broker does."""
AGAIN_PAUSE_S = 0.05
TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
ACKS_ALL = -1
VERSION_MAX = 9
"""Of the request: the last in which a topic goes by its name."""


class SharedProducer:
    """Connects at the first use, and anew after a failure."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._group = GroupCommit(self._send)
        self._learning = threading.Lock()
        self._partitions: dict[str, int] = {}
        self._client: KafkaNetClient | None = None
        self._nodes: set[int | None] = set()
        self._closed = False

    def publish(self, messages: Sequence[Message]) -> None:
        if self._closed:
            raise BackendUnavailable("the queue was closed")
        deadline = time.monotonic() + self._cluster.timeout_s
        topics = {message.topic for message in messages}
        if not topics <= self._partitions.keys():
            self._learn(topics, deadline)
        try:
            self._group.do(_Order(messages), deadline)
        except TimeoutError as error:
            raise BackendUnavailable("Kafka is unavailable: no answer in time") from error

    def close(self) -> None:
        """Whoever is sending finishes, and disconnects."""
        self._closed = True
        with suppress(TimeoutError, BackendError):
            self._group.do(_Order([]), time.monotonic() + 1.0)

    def _learn(self, topics: set[str], deadline: float) -> None:
        """How many partitions each has; raises BackendRejected for a topic that does not exist."""
        if not self._learning.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise BackendUnavailable("Kafka is unavailable: nobody could look at the topics in time")
        try:
            new = list(topics - self._partitions.keys())
            if new:
                left_s = max(0.1, deadline - time.monotonic())
                counts = self._cluster.ask(lambda admin: self._cluster.partitions_of(admin, new), left_s)
                self._partitions = self._partitions | counts
        finally:
            self._learning.release()

    def _send(self, calls: Sequence[Call["_Order"]], deadline: float) -> None:
        """Send what the calls ask for, and tell each what became of it."""
        orders = [call.work for call in calls]
        try:
            self._work_off(self._batches(orders), deadline)
        except Exception as error:  # of the driver, which throws anything
            for order in orders:
                order.fail_the_rest(error)
        for call in calls:
            call.failure = call.work.failure()
        if self._closed or any(isinstance(call.failure, BackendUnavailable) for call in calls):
            self._disconnect()

    def _batches(self, orders: Iterable["_Order"]) -> dict[TopicPartition, deque["_Batch"]]:
        """The messages of each partition in their order, cut into batches."""
        backlog: dict[TopicPartition, deque[_Batch]] = defaultdict(deque)
        room: dict[TopicPartition, int] = defaultdict(int)
        for order in orders:
            for message in order.messages:
                partition = partition_of(message.key, self._partitions[message.topic])
                place = TopicPartition(self._cluster.prefix + message.topic, partition)
                room[place] -= len(message.value) + len(message.key)
                if room[place] < 0 or not backlog[place]:
                    backlog[place].append([])
                    room[place] = BATCH_BYTES
                backlog[place][-1].append((order, message))
        return backlog

    def _work_off(self, backlog: dict[TopicPartition, deque["_Batch"]], deadline: float) -> None:
        """In rounds, each of a batch of each partition."""
        while backlog:
            outcomes = self._produce({place: batches[0] for place, batches in backlog.items()}, deadline)
            for place, outcome in outcomes.items():
                batch = backlog[place].popleft()
                if isinstance(outcome, AGAIN) and time.monotonic() + AGAIN_PAUSE_S < deadline:
                    backlog[place].appendleft(batch)
                elif isinstance(outcome, TOO_LARGE) and len(batch) > 1:
                    half = len(batch) // 2
                    backlog[place].extendleft([batch[half:], batch[:half]])
                else:
                    for order, _ in batch:
                        order.settle(outcome)
            backlog = {place: batches for place, batches in backlog.items() if batches}
            if backlog and any(isinstance(outcome, AGAIN) for outcome in outcomes.values()):
                time.sleep(AGAIN_PAUSE_S)
                _look_for_leaders(self._connected(deadline), deadline)

    def _produce(self, batches: Mapping[TopicPartition, "_Batch"], deadline: float) -> dict[TopicPartition, Any]:
        """One request to each broker; what became of each batch, None when it is written and acknowledged."""
        client = self._connected(deadline)
        by_leader: dict[int | None, list[TopicPartition]] = defaultdict(list)
        for place in batches:
            by_leader[client.cluster.leader_for_partition(place)].append(place)
        leaderless = [*by_leader.pop(None, []), *by_leader.pop(-1, [])]
        outcomes: dict[TopicPartition, Any] = dict.fromkeys(leaderless, errors.LeaderNotAvailableError())
        asked = {}
        for leader, places in by_leader.items():
            try:
                client.await_ready(leader, timeout_ms=_left_ms(deadline))
                self._nodes.add(leader)
                request = _request({place: batches[place] for place in places}, _left_ms(deadline))
                asked[leader] = client.send(leader, request)
            except errors.KafkaError as error:
                outcomes |= dict.fromkeys(places, error)
        for leader, future in asked.items():
            client.poll(timeout_ms=_left_ms(deadline), future=future)
            if future.succeeded():
                outcomes |= _outcomes(future.value)
            else:
                failure = future.exception or errors.KafkaTimeoutError("no answer in time")
                outcomes |= dict.fromkeys(by_leader[leader], failure)
        return outcomes

    def _connected(self, deadline: float) -> KafkaNetClient:
        """The connections to the brokers; new ones when one of them has ended."""
        if self._client is not None:
            self._client.poll(timeout_ms=0)
            if not all(self._client.connected(node) for node in self._nodes):
                self._disconnect()
        if self._client is None:
            within_s = min(self._cluster.timeout_s * 0.4, max(0.1, deadline - time.monotonic()))
            timeout_ms = self._cluster.timeout_ms
            self._client, _ = self._cluster.connect(_bootstrapped, within_s, request_timeout_ms=timeout_ms)
        topics = {self._cluster.prefix + topic for topic in self._partitions}
        if not topics <= self._client.cluster._topics:
            for topic in topics:
                self._client.cluster.add_topic(topic)
            _look_for_leaders(self._client, deadline)
        return self._client

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        self._nodes.clear()
        if client is not None:
            client.close()


class _Order:
    """Messages that one caller wants sent, and what became of them."""

    __slots__ = ("_acknowledged", "_failures", "messages")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self._acknowledged = 0
        self._failures: list[Exception] = []

    def settle(self, outcome: Exception | None) -> None:
        """Of one message: None when it is acknowledged."""
        if outcome is None:
            self._acknowledged += 1
        else:
            self._failures.append(outcome)

    def fail_the_rest(self, error: Exception) -> None:
        self._failures += [error] * (len(self.messages) - self._acknowledged - len(self._failures))

    def failure(self) -> BackendError | None:
        if not self._failures:
            return None
        refused = not self._acknowledged and all(isinstance(failure, REFUSALS) for failure in self._failures)
        kind = BackendRejected if refused else BackendUnavailable
        sentence = f"Kafka acknowledged {self._acknowledged} of {len(self.messages)} messages: "
        error = kind(sentence + said(self._failures[0]))
        error.__cause__ = self._failures[0]
        return error


_Batch = list[tuple[_Order, Message]]


def _bootstrapped(kafka_client: Any, bootstrap_timeout_ms: int, **configuration: Any) -> KafkaNetClient:
    """The driver's connections, which have spoken to a broker."""
    client: KafkaNetClient = kafka_client(**configuration)
    client.cluster.config["allow_auto_create_topics"] = False
    client.get_broker_version(timeout_ms=bootstrap_timeout_ms)
    return client


def _look_for_leaders(client: KafkaNetClient, deadline: float) -> None:
    client.poll(timeout_ms=_left_ms(deadline), future=client.cluster.request_update())


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
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=BATCH_BYTES * 10)
    now_ms = time.time_ns() // 1_000_000
    for _, message in batch:
        builder.append(now_ms, message.key.encode(), message.value)
    builder.close()
    records: bytearray = builder.buffer()
    return records


def _outcomes(response: Any) -> dict[TopicPartition, Any]:
    """What the broker says of each partition; None is good."""
    return {
        TopicPartition(topic.name, partition.index): None
        if partition.error_code == 0
        else errors.for_code(partition.error_code)(partition.error_message or "")
        for topic in response.responses
        for partition in topic.partition_responses
    }


def _left_ms(deadline: float) -> int:
    return max(1, int((deadline - time.monotonic()) * 1000))
