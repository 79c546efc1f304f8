"""Messages in Redis grow old by the time of the group's members, and so do leases."""

from collections.abc import Iterator

import pytest

from backends.queue.redis import RedisQueue
from backends.redis_connections import RedisConnections
from backends.testing.timing import Clock
from coupon.ports.url import Url
from tests.contracts.ageing_queue import TOPICS, AgeingQueue
from tests.services import Services


@pytest.mark.services
class TestAgeingRedisQueue(AgeingQueue):
    @pytest.fixture
    def ageing(self, services: Services, prefix: str, clock: Clock) -> Iterator[RedisQueue]:
        connections = RedisConnections(Url(f"redis://{services.redis}"), timeout_s=5.0, prefix=prefix)
        queue = RedisQueue(connections, partitions=1, retention_s=100, lease_s=3_000, timer=clock)
        queue.create(TOPICS)
        yield queue
        queue.close()
