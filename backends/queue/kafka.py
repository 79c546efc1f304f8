"""The queue in Kafka."""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Self, TypeVar

from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType

from backends.queue.consumers import Consumers
from backends.queue.kafka_client import Cluster
from backends.queue.kafka_consumer import KafkaQueueConsumer
from backends.queue.kafka_leaders import Leaders
from backends.queue.kafka_offsets import Offsets
from backends.queue.kafka_producer import SharedProducer
from backends.queue.kafka_reader import Reader
from backends.queue.partitions import refuse_oversized
from coupon.ports.queue import Delivery, Message, Position, Queue
from coupon.ports.url import Url

Answer = TypeVar("Answer")
PING_S = 1.0
BROKERS_CLOCK = {"message.timestamp.type": "LogAppendTime"}
"""Kafka's decisions by time (``--to-datetime``, a retention) follow the brokers' clock, not that of our machines."""
TOPIC = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": "1048588"}
"""By default Kafka deletes old messages, applied or not. Our topics have no retention, unless an operator sets one."""


class KafkaQueue(Queue):
    """The option ``prefix`` precedes the names of topics and groups, so that several services can share a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._clients: dict[int, _Clients] = {}
        self._consumers = Consumers[KafkaQueueConsumer]()

    @classmethod
    def from_url(cls, url: Url) -> Self:
        return cls(Cluster.from_url(url))

    def ping(self) -> None:
        self._ask(lambda _: None, PING_S)

    def close(self) -> None:
        self._consumers.close()
        if os.getpid() in self._clients:
            self._clients[os.getpid()].close()

    def create(self, topics: Iterable[str]) -> None:
        names = [self._cluster.prefix + topic for topic in topics]
        replicas = self._cluster.replicas
        configs = TOPIC | BROKERS_CLOCK | {"min.insync.replicas": str(max(1, replicas - 1))}
        new = {"num_partitions": self._cluster.partitions, "replication_factor": replicas, "configs": configs}

        def create(admin: Any) -> None:
            answer = admin.create_topics(dict.fromkeys(names, new), raise_errors=False)
            for topic in answer["topics"]:
                error = errors.for_code(topic["error_code"])
                if error not in (errors.NoError, errors.TopicAlreadyExistsError):
                    raise error(f"topic {topic['name']!r}: {topic.get('error_message')}")
            _go_by_the_brokers_clock(admin, names)
            admin.wait_for_topics(names, timeout_ms=self._cluster.timeout_ms)

        if names:
            self._ask(create)

    def publish(self, messages: Sequence[Message]) -> None:
        self._consumers.check_open()
        refuse_oversized(messages)
        if messages:
            self._mine().producer.publish(messages)

    def consumer(self, topics: Sequence[str], group: str) -> KafkaQueueConsumer:
        self._consumers.check_open()
        return self._consumers.add(KafkaQueueConsumer(self._cluster, topics, group))

    def ends(self, topics: Sequence[str], key: str | None = None) -> dict[Position, int]:
        return self._mine().offsets.ends(topics, key)

    def begins(self, topics: Sequence[str]) -> dict[Position, int]:
        return self._mine().offsets.begins(topics)

    def committed(self, positions: Collection[Position], group: str) -> dict[Position, int]:
        return self._mine().offsets.committed(positions, group)

    def read(self, position: Position, offset: int, limit: int) -> list[Delivery]:
        return self._mine().reader.read(position, offset, limit)

    def _ask(self, question: Callable[[Any], Answer], within_s: float | None = None) -> Answer:
        self._consumers.check_open()
        return self._cluster.ask(question, within_s or self._cluster.timeout_s)

    def _mine(self) -> "_Clients":
        """The clients of this process. A child makes its own, because nothing of the driver survives a fork."""
        self._consumers.check_open()
        return self._clients.get(os.getpid()) or self._clients.setdefault(os.getpid(), _Clients(self._cluster))


class _Clients:
    """The clients that all threads of a process share. Each connects at its first use."""

    def __init__(self, cluster: Cluster) -> None:
        leaders = Leaders(cluster)
        self.producer = SharedProducer(cluster, leaders)
        self.offsets = Offsets(cluster, leaders)
        self.reader = Reader(cluster, leaders)

    def close(self) -> None:
        self.producer.close()
        self.offsets.close()
        self.reader.close()


def _go_by_the_brokers_clock(admin: Any, topics: Iterable[str]) -> None:
    """Set ``BROKERS_CLOCK`` on topics that exist, too. A cluster that refuses raises no error: our producer sends no
    times anyway."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic, BROKERS_CLOCK) for topic in topics]
    admin.alter_configs(resources, raise_on_unknown=False)
