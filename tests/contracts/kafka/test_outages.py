"""A server that is silent, or killed and started again."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from backends.testing.queue_driving import drain, ends, messages, poll, values
from backends.testing.queue_failures import GONE_MAX_S, WHEN_GONE
from backends.testing.timing import TRIES, unavailable_within, until, until_available
from coupon.domain.errors import BackendUnavailable
from coupon.ports.queue import Consumer, Message, Position, Queue
from tests.services import Services

pytestmark = pytest.mark.services


def test_a_server_that_is_silent_costs_no_more_than_the_timeout(queue: Queue, services: Services) -> None:
    queue.publish([Message("t", "k", b"before")])
    consumer, *others = [queue.consumer(["t"], f"g{n}") for n in range(1 + TRIES)]
    in_flight = poll(consumer, 1)
    for another in others:
        poll(another, 1)
    with services.silent("kafka"):
        with ThreadPoolExecutor(TRIES) as pool:
            assert min(pool.map(_closed_after_s, others)) < 2
        asked = [_Unavailable(lambda: queue.publish([Message("t", "k", b"lost?")])) for _ in range(16)]
        asked += [_Unavailable(lambda ask=ask: ask(queue)) for ask in WHEN_GONE.values()]
        asked.append(_Unavailable(lambda: consumer.commit(ends(in_flight))))
        assert max(asking.after_s() for asking in asked) < GONE_MAX_S
        _Unavailable(lambda: _poll_on(consumer)).after_s()
        unavailable_within(2, lambda: queue.publish([Message("t", "k", b"lost?")]))
    until_available(lambda: queue.publish([Message("t", "k", b"after")]))
    consumer.rewind()
    found: list[bytes] = []
    while b"after" not in found:
        found += values(until_available(lambda: consumer.poll(10, 1)))


def test_who_asks_for_offsets_and_reads_outlives_a_server_that_is_killed(queue: Queue, services: Services) -> None:
    queue.publish(messages(100))
    drain([queue.consumer(["t"], "g")], 100)
    places = [Position("t", number) for number in range(4)]
    ask: list[Callable[[], Any]] = [
        lambda: queue.ends(["t"]),
        lambda: queue.committed(places, "g"),
        lambda: sum(len(queue.read(place, 0, 500)) for place in places),
    ]
    before = [each() for each in ask]
    with services.away("kafka"):
        for each in ask:
            with pytest.raises(BackendUnavailable):
                each()
    assert [until_available(each) for each in ask] == before


def test_publishers_and_consumers_outlive_a_server_that_is_killed(queue: Queue, services: Services) -> None:
    consumer = queue.consumer(["t"], "g")
    publishing = _Publishing(queue)
    found: list[Message] = []
    _consume(consumer, found, lambda: len(publishing.acknowledged) > 300)
    with services.away("kafka"):
        with pytest.raises(BackendUnavailable):
            _poll_on(consumer)
        until(lambda: publishing.failures > 0, 20)
    recovered = len(publishing.acknowledged) + 300
    _consume(consumer, found, lambda: len(publishing.acknowledged) > recovered)
    acknowledged = publishing.stop()
    _consume(consumer, found, lambda: acknowledged <= {message.value for message in found})
    for key in {message.key for message in found}:
        first_seen = dict.fromkeys(int(message.value) for message in found if message.key == key)
        assert list(first_seen) == sorted(first_seen)


class _Unavailable(threading.Thread):
    """Does what must raise BackendUnavailable; how long did that take?"""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work, self._took_s = work, -1.0
        self.start()

    def run(self) -> None:
        began = time.monotonic()
        try:
            self._work()
        except BackendUnavailable:
            self._took_s = time.monotonic() - began

    def after_s(self) -> float:
        self.join()
        assert self._took_s >= 0, "it was not unavailable"
        return self._took_s


class _Publishing(threading.Thread):
    """Publishes numbers of seven keys, and goes on after a failure with the next one."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(daemon=True)
        self._queue, self._stopped = queue, threading.Event()
        self.acknowledged: set[bytes] = set()
        self.failures = 0
        self.start()

    def run(self) -> None:
        number = 0
        while not self._stopped.is_set():
            message = Message("t", f"key-{number % 7}", b"%d" % number)
            number += 1
            try:
                self._queue.publish([message])
                self.acknowledged.add(message.value)
                time.sleep(0.002)  # or one who reads and commits falls behind on a busy machine
            except BackendUnavailable:
                self.failures += 1

    def stop(self) -> set[bytes]:
        self._stopped.set()
        self.join()
        return self.acknowledged


def _closed_after_s(consumer: Consumer) -> float:
    began = time.monotonic()
    consumer.close()
    return time.monotonic() - began


def _consume(consumer: Consumer, found: list[Any], enough: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not enough():
        assert time.monotonic() < deadline
        try:
            polled = consumer.poll(100, 0.2)
            consumer.commit(ends(polled))
            found += polled
        except BackendUnavailable:
            consumer.rewind()


def _poll_on(consumer: Consumer) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        consumer.poll(10, 0.5)
