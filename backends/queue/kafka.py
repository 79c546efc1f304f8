"""The queue in Kafka."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from kafka import KafkaConsumer, TopicPartition, errors
from kafka.admin import OffsetSpec

from backends.queue.kafka_client import Cluster, driver_errors
from backends.queue.kafka_consumer import KafkaQueueConsumer, delivery
from backends.queue.kafka_producer import SharedProducer
from backends.queue.rules import POLL_BYTES_MAX, refuse_oversized
from coupon.ports.backend import BackendUnavailable
from coupon.ports.queue import MESSAGE_MAX, Delivery, Message, Position, Queue
from coupon.ports.url import Url

Answer = TypeVar("Answer")
PING_S = 1.0
TOPIC = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": "1048588"}
"""Kafka forgets by age, whether a message was carried out or not: not ours, unless an operator says so."""


class KafkaQueue(Queue):
    """``prefix`` goes before the names of topics and groups, so that several services share a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._producers: dict[int, SharedProducer] = {}
        self._consumers: list[KafkaQueueConsumer] = []
        self._closed = False

    @classmethod
    def from_url(cls, url: Url) -> Self:
        return cls(Cluster.from_url(url))

    def ping(self) -> None:
        self._ask(lambda _: None, PING_S)

    def close(self) -> None:
        self._closed = True
        for consumer in self._consumers:
            consumer.close()
        if os.getpid() in self._producers:
            self._producers[os.getpid()].close()

    def create(self, topics: Iterable[str]) -> None:
        names = [self._cluster.prefix + topic for topic in topics]
        replicas = self._cluster.replicas
        configs = TOPIC | {"min.insync.replicas": str(max(1, replicas - 1))}
        new = {"num_partitions": self._cluster.partitions, "replication_factor": replicas, "configs": configs}

        def create(admin: Any) -> None:
            answer = admin.create_topics(dict.fromkeys(names, new), raise_errors=False)
            for topic in answer["topics"]:
                error = errors.for_code(topic["error_code"])
                if error not in (errors.NoError, errors.TopicAlreadyExistsError):
                    raise error(f"topic {topic['name']!r}: {topic.get('error_message')}")
            admin.wait_for_topics(names, timeout_ms=self._cluster.timeout_ms)

        if names:
            self._ask(create)

    def publish(self, messages: Sequence[Message]) -> None:
        self._check_open()
        refuse_oversized(messages)
        if messages:
            self._producer().publish(messages)

    def consumer(self, topics: Sequence[str], group: str) -> KafkaQueueConsumer:
        self._check_open()
        consumer = KafkaQueueConsumer(self._cluster, topics, group)
        self._consumers = [*(known for known in self._consumers if not known.closed), consumer]
        return consumer

    def browse(self, topic: str) -> Iterator[Delivery]:
        return self._between(*self._ask(lambda admin: self._ends(admin, [topic])))

    def lag(self, topics: Sequence[str], group: str) -> int:
        def lag(admin: Any) -> int:
            begins, ends = self._ends(admin, topics)
            group_id = self._cluster.prefix + group
            committed = admin.list_group_offsets({group_id: list(ends)})[group_id]
            return sum(max(0, end - max(begins[tp], committed[tp].offset)) for tp, end in ends.items())

        return self._ask(lag)

    def _ends(self, admin: Any, topics: Sequence[str]) -> tuple[dict[Any, int], dict[Any, int]]:
        """The oldest and the next offset of each of their partitions."""
        leaders = self._cluster.leaders_of(admin, list(topics))
        places = [
            TopicPartition(self._cluster.prefix + topic, n) for topic in topics for n in range(len(leaders[topic]))
        ]
        begins = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.EARLIEST))
        ends = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
        return {tp: begins[tp].offset for tp in places}, {tp: ends[tp].offset for tp in places}

    def _between(self, begins: dict[Any, int], ends: dict[Any, int]) -> Iterator[Delivery]:
        """A few megabytes at a time, by a consumer without a group."""
        left = {place for place, end in ends.items() if begins[place] < end}
        if not left:
            return
        timeout_ms = self._cluster.timeout_ms
        with driver_errors(), self._reader() as reader:
            reader.assign(list(left))
            for place in left:
                reader.seek(place, begins[place])
            while left:
                found = reader.poll(timeout_ms=timeout_ms, max_records=500)
                for place, records in found.items():
                    position = Position(place.topic.removeprefix(self._cluster.prefix), place.partition)
                    yield from (delivery(position, record) for record in records if record.offset < ends[place])
                done = {place for place in left if reader.position(place, timeout_ms=timeout_ms) >= ends[place]}
                if not found and not done:
                    raise BackendUnavailable("Kafka is unavailable: it stopped delivering")
                reader.pause(*done)
                left -= done

    @contextmanager
    def _reader(self) -> Iterator[Any]:
        reader, _ = self._cluster.connect(
            KafkaConsumer,
            within_s=self._cluster.timeout_s,
            enable_auto_commit=False,
            request_timeout_ms=self._cluster.timeout_ms,
            fetch_max_wait_ms=100,
            fetch_max_bytes=POLL_BYTES_MAX,
            max_partition_fetch_bytes=MESSAGE_MAX,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        try:
            yield reader
        finally:
            reader.close(autocommit=False, timeout_ms=1_000)

    def _ask(self, question: Callable[[Any], Answer], within_s: float | None = None) -> Answer:
        self._check_open()
        return self._cluster.ask(question, within_s or self._cluster.timeout_s)

    def _producer(self) -> SharedProducer:
        """This process's: nothing of the driver survives a fork, so a child makes its own."""
        return self._producers.get(os.getpid()) or self._producers.setdefault(
            os.getpid(), SharedProducer(self._cluster)
        )

    def _check_open(self) -> None:
        if self._closed:
            raise BackendUnavailable("the queue was closed")
