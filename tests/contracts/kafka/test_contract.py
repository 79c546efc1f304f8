"""Kafka stands what every queue has to stand, also across processes: over TLS, and with a password.

What other modules ask goes without both.
"""

from collections.abc import Iterator

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from backends.testing.queue import QueueContract
from backends.testing.queue_offsets import Trim
from backends.testing.queue_planted import Plant, QueuePlanted
from backends.testing.queue_processes import QueueAcrossProcesses
from coupon.ports.queue import Position, Queue
from tests.contracts.kafka.secured import SecuredKafka


@pytest.mark.services
class TestKafkaQueue(QueueContract, QueueAcrossProcesses, QueuePlanted):
    @pytest.fixture
    def prefix(self, kafka: SecuredKafka) -> Iterator[str]:
        with kafka.namespace() as prefix:
            yield prefix

    @pytest.fixture
    def url(self, kafka: SecuredKafka, prefix: str) -> str:
        return kafka.url("login", f"prefix={prefix}&partitions=4")

    @pytest.fixture
    def gone_url(self, kafka: SecuredKafka) -> str:
        return f"kafka://u:p@127.0.0.1:1?tls=true&ca={kafka.server.path}&timeout_s=0.5"

    @pytest.fixture
    def trim(self, kafka: SecuredKafka, prefix: str) -> Trim:
        def trim(queue: Queue, position: Position, begin: int) -> None:
            admin = KafkaAdminClient(bootstrap_servers=kafka.plain)
            admin.delete_records({TopicPartition(prefix + position.topic, position.partition): begin})
            admin.close()

        return trim

    @pytest.fixture
    def plant(self, kafka: SecuredKafka, prefix: str) -> Iterator[Plant]:
        producer = KafkaProducer(bootstrap_servers=kafka.plain, max_request_size=2_000_000)

        def plant(queue: Queue, key: bytes | None, value: bytes | None) -> None:
            producer.send(f"{prefix}t", key=key, value=value, partition=0).get(30)

        yield plant
        producer.close()
