"""What every queue says when its server is away, or when it was closed."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from backends.testing.asking import ANSWERED, REJECTED, UNAVAILABLE, at_once
from backends.testing.backend import BackendContract
from backends.testing.queue_driving import ends, opened, poll
from backends.testing.timing import unavailable_within
from coupon.domain.errors import BackendUnavailable
from coupon.ports.queue import Message, Position, Queue

GONE_MAX_S = 5.0
"""How long any method may take to find out that its server is gone."""
WHEN_GONE: dict[str, Callable[[Queue], Any]] = {
    "ping": lambda queue: queue.ping(),
    "create": lambda queue: queue.create(["t"]),
    "publish": lambda queue: queue.publish([Message("t", "k", b"v")]),
    "consumer": lambda queue: queue.consumer(["t"], "g").poll(1, 0.1),
    "browse": lambda queue: list(queue.browse("t")),
    "lag": lambda queue: queue.lag(["t"], "g"),
    "ends": lambda queue: queue.ends(["t"]),
    "begins": lambda queue: queue.begins(["t"]),
    "committed": lambda queue: queue.committed([Position("t", 0)], "g"),
    "read": lambda queue: queue.read(Position("t", 0), 0, 1),
}


class QueueFailures(BackendContract):
    role = Queue

    @pytest.fixture
    def gone(self, gone_url: str) -> Iterator[Queue]:
        queue = opened(gone_url)
        yield queue
        queue.close()

    def test_every_method_is_asked_when_the_server_is_gone(self) -> None:
        assert {*WHEN_GONE, "from_url", "close"} == {name for name in dir(Queue) if not name.startswith("_")}

    @pytest.mark.parametrize("method", WHEN_GONE)
    def test_without_its_server_every_method_says_so_in_time(self, gone: Queue, method: str) -> None:
        unavailable_within(2 if method == "ping" else GONE_MAX_S, lambda: WHEN_GONE[method](gone))

    def test_what_nobody_has_made_is_no_error_of_the_drivers(self, url: str) -> None:
        with closing(opened(url)) as queue:
            found = at_once({name: partial(call, queue) for name, call in WHEN_GONE.items() if name != "create"}, 30)
        assert {name: how for name, how in found.items() if how not in (ANSWERED, UNAVAILABLE, REJECTED)} == {}

    def test_without_its_server_a_consumer_does_what_needs_none_and_closes_at_once(self, gone: Queue) -> None:
        consumer = gone.consumer(["t"], "g")
        consumer.pause(["t"])
        consumer.rewind()
        with pytest.raises(BackendUnavailable):
            consumer.commit({Position("t", 0): 1})
        with pytest.raises(BackendUnavailable):
            consumer.poll(1, 0)
        began = time.monotonic()
        consumer.close()
        assert time.monotonic() - began < 2

    @pytest.mark.parametrize("method", WHEN_GONE)
    def test_after_close_every_method_says_that_it_is_unavailable(self, queue: Queue, method: str) -> None:
        queue.publish([Message("t", "k", b"v")])
        queue.close()
        queue.close()
        with pytest.raises(BackendUnavailable):
            WHEN_GONE[method](queue)

    def test_a_closed_consumer_says_so(self, queue: Queue) -> None:
        queue.publish([Message("t", "k", b"v")])
        consumer = queue.consumer(["t"], "g")
        deliveries = poll(consumer, 1)
        consumer.close()
        consumer.close()
        consumer.rewind()
        with pytest.raises(BackendUnavailable):
            consumer.poll(1, 0)
        with pytest.raises(BackendUnavailable):
            consumer.commit(ends(deliveries))
