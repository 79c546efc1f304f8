"""Redis dies, freezes and comes back, with what its configuration has kept."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from backends.testing.cache_failures import METHODS
from backends.testing.cache_rivals import open_cache, token_of, value_of
from backends.testing.queue_driving import drain, ends, messages, opened, poll, values
from backends.testing.timing import unavailable_within, until_available
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.ports.cache import Cache
from coupon.ports.queue import Message, Queue
from tests.contracts.redis.server import DURABLE, MEMORY_ONLY, PrivateRedis

pytestmark = pytest.mark.services
TIMEOUT_S = 0.5


@pytest.fixture
def cache(server: PrivateRedis) -> Iterator[Cache]:
    server.start(*DURABLE)
    cache = open_cache(f"{server.url}?timeout_s={TIMEOUT_S}")
    yield cache
    cache.close()


def test_an_entry_of_another_run_of_the_server_is_missing(server: PrivateRedis, cache: Cache) -> None:
    """What a server has kept may be older than what it had acknowledged."""
    cache.put("k", b"v", 60)
    token = token_of(cache, "k")
    server.kill()
    for method in METHODS.values():
        unavailable_within(TIMEOUT_S, lambda method=method: method(cache, token))  # type: ignore[misc]
    server.start(*DURABLE)
    assert cache.get("k") is None
    assert not cache.replace("k", b"w", token, 60)
    assert cache.add("k", b"x", 60)
    assert value_of(cache, "k") == b"x"


def test_a_restart_between_two_calls_of_the_cache_is_not_noticed(server: PrivateRedis, cache: Cache) -> None:
    with ThreadPoolExecutor(1) as thread:
        cache.put("k", b"v", 60)
        thread.submit(cache.get, "k").result()
        server.kill()
        server.start(*DURABLE)
        assert cache.add("k", b"w", 60)
        assert thread.submit(value_of, cache, "k").result() == b"w"


def test_one_timeout_of_the_cache_is_enough_for_all_threads(server: PrivateRedis, cache: Cache) -> None:
    cache.put("k", b"v", 60)
    server.freeze()
    with pytest.raises(BackendUnavailable, match="imeout"):
        cache.get("k")
    for method in METHODS.values():
        with pytest.raises(BackendUnavailable, match="a moment ago"):
            method(cache, b"token")
    server.thaw()
    assert until_available(lambda: value_of(cache, "k")) == b"v"


def test_what_a_durable_queue_acknowledged_outlives_a_kill(server: PrivateRedis, queue: Queue) -> None:
    queue.publish(messages(100))
    consumer = queue.consumer(["t"], "g")
    first = poll(consumer, 100)
    consumer.commit(ends(first[:40]))
    before = queue.ends(["t"]), queue.committed(queue.ends(["t"]), "g")
    server.kill()
    with pytest.raises(BackendUnavailable):
        queue.publish(messages(1))
    server.start(*DURABLE)
    assert (queue.ends(["t"]), queue.committed(queue.ends(["t"]), "g")) == before
    with pytest.raises(BackendUnavailable):
        consumer.poll(10, 0)
    with pytest.raises(BackendUnavailable):
        consumer.commit(ends(first))
    consumer.rewind()
    queue.publish([Message("t", "k", b"after")])
    again = drain([consumer], 101 - sum(before[1].values()))[0]
    assert b"after" in values(again)
    assert queue.lag(["t"], "g") == 0


def test_a_queue_that_lost_its_data_says_so_until_it_is_made_again(server: PrivateRedis) -> None:
    """And nobody goes on at an offset of the topic before."""
    server.start(*MEMORY_ONLY)
    queue = opened(f"{server.url}?timeout_s=2&partitions=4&lease_s=2")
    queue.create(["t"])
    queue.publish(messages(100))
    consumer, idle = queue.consumer(["t"], "g"), opened(f"{server.url}?timeout_s=2")
    drain([consumer], 100)
    assert sum(idle.ends(["t"]).values()) == 100
    server.kill()
    server.start(*MEMORY_ONLY)
    for lost in (lambda: queue.publish(messages(1)), lambda: queue.ends(["t"]), lambda: idle.ends(["t"])):
        with pytest.raises(BackendRejected, match="coupon init"):
            lost()
    for _ in range(3):
        with pytest.raises((BackendUnavailable, BackendRejected)):
            consumer.poll(10, 0)
    queue.create(["t"])
    queue.publish(messages(10))
    assert sum(idle.ends(["t"]).values()) == 10
    assert len(poll(consumer, 10)) == 10
    queue.close()
    idle.close()


def test_a_topic_that_was_made_again_is_read_from_its_begin(server: PrivateRedis, queue: Queue) -> None:
    """While the server went on: somebody deleted all keys."""
    import redis

    queue.publish(messages(100))
    consumer = queue.consumer(["t"], "g")
    drain([consumer], 100)
    with redis.Redis(port=server.port) as client:
        client.flushall()
    queue.create(["t"])
    queue.publish(messages(200))
    found, deadline = 0, time.monotonic() + 20
    while found < 200:
        assert time.monotonic() < deadline
        try:
            found += len(consumer.poll(500, 0.1))
        except BackendUnavailable:
            consumer.rewind()
