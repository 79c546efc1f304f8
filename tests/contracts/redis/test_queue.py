"""Redis stands what every queue has to stand, also across processes."""

import pytest
import redis

from backends.testing.queue import QueueContract
from backends.testing.queue_offsets import Trim
from backends.testing.queue_planted import Plant, QueuePlanted
from backends.testing.queue_processes import QueueAcrossProcesses
from coupon.ports.queue import Position, Queue
from tests.contracts.private_server import free_port
from tests.services import Services


@pytest.mark.services
class TestRedisQueue(QueueContract, QueueAcrossProcesses, QueuePlanted):
    lease_s = 2.0

    @pytest.fixture
    def url(self, services: Services, prefix: str) -> str:
        return f"redis://{services.redis}?prefix={prefix}&partitions=4&lease_s={self.lease_s}"

    @pytest.fixture
    def gone_url(self) -> str:
        return f"redis://127.0.0.1:{free_port()}?timeout_s=1"

    @pytest.fixture
    def trim(self, client: redis.Redis, prefix: str) -> Trim:
        """As a commit of all groups deletes what is old."""

        def trim(queue: Queue, position: Position, begin: int) -> None:
            client.xtrim(
                f"{prefix}stream:{position.topic}:{position.partition}", minid=f"0-{begin + 1}", approximate=False
            )

        return trim

    @pytest.fixture
    def plant(self, client: redis.Redis, prefix: str) -> Plant:
        def plant(queue: Queue, key: bytes | None, value: bytes | None) -> None:
            fields = {name: each for name, each in ((b"k", key), (b"v", value), (b"x", b"y")) if each is not None}
            client.xadd(f"{prefix}stream:t:0", fields, id="0-*")

        return plant
