"""A queue of Kafka, whose topics have a prefix of their own."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from kafka import KafkaAdminClient

from backends.testing.queue_driving import opened
from coupon.ports.queue import Queue
from tests.contracts.kafka.secured import SecuredKafka, secured_kafka
from tests.services import Services


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """Not the one of ``services``, which knows nobody."""
    with secured_kafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid4().hex[:8]}."


@pytest.fixture
def url(services: Services, prefix: str) -> Iterator[str]:
    yield f"kafka://{services.kafka}?prefix={prefix}&partitions=4"
    admin = KafkaAdminClient(bootstrap_servers=services.kafka)
    admin.delete_topics([name for name in admin.list_topics() if name.startswith(prefix)])
    admin.close()


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    queue = opened(url)
    queue.create(["t", "other"])
    yield queue
    queue.close()
