"""The queues: the contract on each backend, and what is particular to one of them."""

import socket
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest
from kafka import KafkaAdminClient

from backends.queue.memory import MemoryQueue
from backends.queue.sqlite import SqliteQueue
from backends.testing.queue import (
    WHEN_GONE,
    QueueAcrossProcesses,
    QueueContract,
    by_key,
    drain,
    ends,
    messages,
    opened,
    poll,
    values,
)
from coupon.ports.backend import BackendUnavailable
from coupon.ports.queue import Message, Position, Queue
from coupon.ports.url import ConfigurationError
from tests.services import Services


class TestMemoryQueue(QueueContract):
    @pytest.fixture
    def url(self) -> str:
        return "memory://?partitions=4"

    @pytest.fixture
    def gone(self) -> Queue:
        """There is no server that could be away: the same as after ``close``."""
        queue = MemoryQueue()
        queue.close()
        return queue


class TestSqliteQueue(QueueContract, QueueAcrossProcesses):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/queue.db?partitions=4"

    @pytest.fixture
    def gone_url(self, tmp_path: Path) -> str:
        (tmp_path / "file").write_text("not a folder")
        return f"sqlite:///{tmp_path}/file/queue.db?timeout_s=1"

    @pytest.fixture
    def queue(self, url: str):
        queue = opened(url)
        queue.create(["t", "other"])
        yield queue
        queue.close()


@pytest.mark.services
class TestKafkaQueue(QueueContract, QueueAcrossProcesses):
    @pytest.fixture
    def url(self, services: Services):
        prefix = f"test-{uuid4().hex[:8]}."
        yield f"kafka://{services.kafka}?prefix={prefix}&partitions=4"
        admin = KafkaAdminClient(bootstrap_servers=services.kafka)
        admin.delete_topics([name for name in admin.list_topics() if name.startswith(prefix)])
        admin.close()

    @pytest.fixture
    def gone_url(self) -> str:
        return "kafka://127.0.0.1:1"

    @pytest.fixture
    def queue(self, url: str):
        queue = opened(url)
        queue.create(["t", "other"])
        yield queue
        queue.close()
