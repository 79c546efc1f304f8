"""One member of a Kafka consumer group (decision 7).

The driver's default assignor shares out each topic by itself (decision 23).
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition

from backends.queue.kafka_client import Cluster, driver_errors, error_text, verified
from backends.queue.kafka_fixes import apply_fixes
from backends.queue.kafka_reader import delivery
from backends.queue.partitions import POLL_BYTES_MAX, POLL_GAP_MAX_S, AssignedPartitions
from coupon.domain.errors import BackendUnavailable
from coupon.ports.queue import MESSAGE_MAX, Consumer, Delivery, Position

SILENCE_MAX_S = 1.0
"""An empty poll fails when no broker has been connected for so long: the driver itself raises nothing."""
NAP_S = 0.5
"""After a longer pause between two polls the topics are checked. Without a pause the broker reports a deleted topic."""


class KafkaQueueConsumer(Consumer):
    """The driver's consumer is made by the first poll, and again by the next poll after a failure."""

    def __init__(self, cluster: Cluster, topics: Sequence[str], group: str) -> None:
        self._cluster = cluster
        self._topics = [cluster.prefix + topic for topic in topics]
        self._group = cluster.prefix + group
        self._assigned = AssignedPartitions()
        self._consumer: Any = None
        self._connections: Any = None
        self._topic_ids: dict[str, Any] = {}
        self._heard_at = self._polled_at = 0.0
        self.closed = False

    def poll(self, max_messages: int, timeout_s: float) -> list[Delivery]:
        with driver_errors():
            try:
                self._open()
                records = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max_messages)
                self._check_topics(timeout_s + NAP_S)
            except Exception:
                self._leave()
                raise
        if not records:
            self._check_connection()
        return [delivery for partition in records.items() for delivery in self._deliver(*partition)]

    def commit(self, positions: Mapping[Position, int]) -> None:
        self._check_open()
        if not positions:
            return
        self._assigned.check(positions)
        offsets = {self._partition(position): OffsetAndMetadata(offset) for position, offset in positions.items()}
        with driver_errors():
            self._consumer.commit(offsets, timeout_ms=self._cluster.timeout_ms)
        self._assigned.commit(positions)

    def rewind(self) -> None:
        for position, offset in self._assigned.rewind().items():
            with suppress(ValueError):  # the partition is another member's, which begins there
                self._consumer.seek(self._partition(position), offset)

    def pause(self, places: Iterable[str | Position]) -> None:
        if self._assigned.pause(places) and self._consumer is not None:
            self._apply_pauses(self._consumer.assignment())

    def close(self) -> None:
        self.closed = True
        self._leave()

    def _open(self) -> None:
        self._check_open()
        if self._consumer is not None:
            return
        safety = {"enable_auto_commit": False, "auto_offset_reset": "earliest", "group_id": self._group}
        session_ms = self._cluster.session_timeout_s * 1000
        self._consumer, self._connections = self._cluster.connect(
            KafkaConsumer,
            within_s=self._cluster.timeout_s * 0.5,
            session_timeout_ms=int(session_ms),
            heartbeat_interval_ms=int(session_ms / 3),
            max_poll_interval_ms=int(POLL_GAP_MAX_S * 1000),
            request_timeout_ms=self._cluster.timeout_ms,
            fetch_max_wait_ms=min(500, self._cluster.timeout_ms // 3),
            fetch_max_bytes=POLL_BYTES_MAX,
            max_partition_fetch_bytes=MESSAGE_MAX,
            allow_auto_create_topics=False,
            metrics_enabled=False,
            **safety,
        )
        verified(self._consumer, **safety)
        apply_fixes(self._consumer)
        self._consumer.subscribe(self._topics, listener=_Rebalance(self._assign))
        self._topic_ids = {}
        self._heard_at = self._polled_at = time.monotonic()

    def _leave(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._assigned.retain([])
        if consumer is not None:
            try:
                consumer.close(autocommit=False, timeout_ms=1_000)
            except Exception:  # the broker finds out by itself
                self._connections.close()

    def _check_open(self) -> None:
        if self.closed:
            raise BackendUnavailable("the consumer was closed")

    def _check_connection(self) -> None:
        cluster = self._connections.cluster
        nodes = [broker.node_id for broker in cluster.brokers()] + [cluster.get_coordinator(self._group)]
        now = time.monotonic()
        if any(self._connections.connected(node) for node in nodes):
            self._heard_at = now
        elif now - self._heard_at > SILENCE_MAX_S:
            failure = self._connections.failure
            reason = "" if failure is None else f": {error_text(failure)}"
            raise BackendUnavailable(f"Kafka is unavailable: no broker is connected{reason}")

    def _check_topics(self, gap_s: float) -> None:
        """Make a new consumer when a topic was recreated between two polls. The driver would go on at its offset in the
        old topic, and skip messages of the new one. A new consumer begins at the group's offset: it has none there."""
        polled_before, self._polled_at = self._polled_at, time.monotonic()
        if self._polled_at - polled_before > gap_s:
            self._consumer.topics()
        for topic in self._topics:
            found = self._connections.cluster.topic_id(topic)
            if found and self._topic_ids.setdefault(topic, found) != found:
                raise BackendUnavailable(f"Kafka's topic {topic!r} was recreated")

    def _deliver(self, partition: Any, records: Sequence[Any]) -> list[Delivery]:
        position, begin = self._position(partition), records[0].offset
        if position not in self._assigned or begin < self._assigned.committed(position):  # or the topic was recreated
            self._assigned.assign(position, begin)
        self._assigned.deliver(position, records[-1].offset + 1)
        return [delivery(position, record) for record in records]

    def _partition(self, position: Position) -> Any:
        return TopicPartition(self._cluster.prefix + position.topic, position.partition)

    def _position(self, partition: Any) -> Position:
        return Position(partition.topic.removeprefix(self._cluster.prefix), partition.partition)

    def _assign(self, partitions: Collection[Any]) -> None:
        """Set the member's partitions. In one that it had before, the driver goes on at the same offset."""
        self._assigned.retain([self._position(partition) for partition in partitions])
        self._apply_pauses(partitions)

    def _apply_pauses(self, partitions: Iterable[Any]) -> None:
        for partition in partitions:
            is_paused = self._assigned.is_paused(self._position(partition))
            (self._consumer.pause if is_paused else self._consumer.resume)(partition)


class _Rebalance(ConsumerRebalanceListener):  # type: ignore[misc]
    """The driver's thread calls it, while ours waits in a poll."""

    def __init__(self, assign: Callable[[Collection[Any]], None]) -> None:
        self._assign = assign

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        self._assign(assigned)

    def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        """The driver revokes all partitions before each join; most are assigned to this member again."""

    def on_partitions_lost(self, _: Collection[Any]) -> None:
        """The group expelled this member, which loses all partitions."""
        self._assign(())
