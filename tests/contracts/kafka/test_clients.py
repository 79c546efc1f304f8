"""What the driver does by itself, and what it may not."""

import time
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaConfigurationError

from backends.queue.kafka_client import Cluster, verified
from backends.testing.queue_driving import poll
from coupon.ports.queue import Message, Queue
from coupon.ports.url import Url
from tests.services import Services

pytestmark = pytest.mark.services


def test_the_driver_commits_nothing_by_itself(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KafkaConsumer.DEFAULT_CONFIG, "auto_commit_interval_ms", 100)  # every 5 s, unless told
    queue.publish([Message("t", "k", b"v")])
    consumer = queue.consumer(["t"], "g")
    poll(consumer, 1)
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        consumer.poll(1, 0.1)
    consumer.close()
    assert queue.lag(["t"], "g") == 1


def test_what_the_driver_changes_by_itself_stops_the_start(services: Services) -> None:
    producer = KafkaProducer(bootstrap_servers=services.kafka, acks=1)
    with pytest.raises(KafkaConfigurationError, match="enable_idempotence"):
        verified(producer, enable_idempotence=True)
    producer.close()


def test_a_client_whose_closing_fails_leaves_no_socket(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster.from_url(Url(f"kafka://{services.kafka}"))
    admin, connections = cluster.connect(KafkaAdminClient, cluster.timeout_s)
    admin.list_topics()
    sockets = list(connections._net.sockets)
    threads = []

    def close(**_: Any) -> None:
        threads.append(connections._net._io_thread)
        raise AssertionError

    monkeypatch.setattr(connections._manager, "close", close)
    with pytest.raises(AssertionError):
        admin.close()
    assert threads == [None]  # which would be at work on the same connections
    assert [sock.fileno() for sock in sockets] == [-1] * len(sockets) != []
