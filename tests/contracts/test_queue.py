"""The queue in memory, and options that no queue takes."""

from typing import cast

import pytest

from backends.queue.memory import MemoryQueue
from backends.testing.queue import QueueContract
from backends.testing.queue_driving import ends, messages, opened
from backends.testing.queue_offsets import Trim
from backends.testing.timing import Clock
from coupon.domain.errors import BackendUnavailable, ConfigurationError
from coupon.ports.queue import Queue


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("memory://?partitions=0", "partitions"),
        ("sqlite:///q.db?partition=8", "partition"),
        ("sqlite:///q.db?lease_s=soon", "lease_s"),
        ("kafka://localhost:port", "port"),
        ("kafka://localhost:9092?acks=1", "acks"),
    ],
)
def test_an_impossible_option_is_named_at_start(url: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        opened(url)


class TestMemoryQueue(QueueContract):
    @pytest.fixture
    def url(self) -> str:
        return "memory://?partitions=4"

    @pytest.fixture
    def gone_url(self) -> str:
        return "memory://"

    @pytest.fixture
    def gone(self) -> Queue:
        """There is no server that could be away: the same as after ``close``."""
        queue = MemoryQueue()
        queue.close()
        return queue

    @pytest.fixture
    def trim(self) -> Trim:
        return lambda queue, position, begin: cast(MemoryQueue, queue).trim(position, begin)

    def test_who_does_not_poll_for_a_lease_loses_its_partitions(self, clock: Clock) -> None:
        queue = MemoryQueue(lease_s=10, timer=clock)
        queue.create(["t"])
        queue.publish(messages(20))
        abandoned, heir = queue.consumer(["t"], "g"), queue.consumer(["t"], "g")
        in_flight = abandoned.poll(100, 0)
        clock.now += 5
        assert heir.poll(100, 0) == []
        clock.now += 5.1
        assert len(heir.poll(100, 0)) == len(in_flight) == 20
        with pytest.raises(BackendUnavailable):
            abandoned.commit(ends(in_flight))
        assert queue.lag(["t"], "g") == 20

    def test_a_poll_that_need_not_wait_asks_no_clock_but_the_queues(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("backends.queue.memory.time", None)
        queue = MemoryQueue(timer=clock)
        queue.create(["t"])
        queue.publish(messages(10))
        assert len(queue.consumer(["t"], "g").poll(100, 0)) == 10
        assert queue.consumer(["t"], "g").poll(100, 0) == []
