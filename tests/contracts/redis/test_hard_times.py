"""A full memory, commands that are forbidden, a copy in place of the master, a lost stream, and a lost reply."""

import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis

from backends.queue import redis_member
from backends.queue.membership import share_out
from backends.queue.redis import RedisQueue
from backends.queue.redis_topics import Topics
from backends.redis_connections import RedisConnections
from backends.testing.cache_rivals import open_cache
from backends.testing.queue_driving import drain, ends, messages, opened, poll, values
from backends.testing.timing import Clock, until
from coupon.domain.errors import BackendRejected, BackendUnavailable
from coupon.ports.queue import Delivery, Message, Position, Queue
from coupon.ports.url import Url
from tests.contracts.redis.server import DURABLE, PrivateRedis
from tests.services import Services

pytestmark = pytest.mark.services


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru"])
def test_while_memory_is_full_nothing_is_accepted_and_what_was_is_applied(
    server: PrivateRedis, queue: Queue, policy: str
) -> None:
    queue.publish(messages(100))
    consumer = queue.consumer(["t"], "g")
    consumer.commit(ends(poll(consumer, 100)[:10]))
    consumer.rewind()
    with redis.Redis(port=server.port) as client:
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", "100kb")
    with pytest.raises(BackendUnavailable, match="maxmemory"):
        queue.publish(messages(1))
    assert queue.lag(["t"], "g") > 0
    consumer.commit(ends(poll(consumer, queue.lag(["t"], "g"))))
    consumer.close()
    heir = queue.consumer(["t"], "g")
    assert heir.poll(10, 0) == []
    heir.close()
    assert queue.lag(["t"], "g") == 0
    assert len(poll(queue.consumer(["t"], "late"), 100)) == 100


def test_where_a_command_is_forbidden_nothing_looks_empty(server: PrivateRedis) -> None:
    server.start(*DURABLE, "--rename-command", "XINFO", "")
    queue = opened(f"{server.url}?timeout_s=2")
    queue.create(["t"])
    queue.publish(messages(10))
    for ask in (lambda: queue.ends(["t"]), lambda: queue.lag(["t"], "g"), lambda: list(queue.browse("t"))):
        with pytest.raises(BackendUnavailable):
            ask()
    queue.close()


def test_a_copy_is_not_used(server: PrivateRedis) -> None:
    server.start(*DURABLE, "--replicaof", "127.0.0.1", "1")
    queue, cache = opened(f"{server.url}?timeout_s=2"), open_cache(f"{server.url}?timeout_s=2")
    for ask in (queue.ping, lambda: queue.ends(["t"]), lambda: cache.get("k")):
        with pytest.raises(BackendUnavailable, match="not the master"):
            ask()
    queue.close()
    cache.close()


def test_a_server_that_was_a_copy_meanwhile_is_an_empty_cache(server: PrivateRedis) -> None:
    server.start(*DURABLE)
    cache = open_cache(f"{server.url}?timeout_s=2")
    cache.put("k", b"v", 60)
    cache.close()
    with redis.Redis(port=server.port) as client:
        client.replicaof("127.0.0.1", "1")
        client.replicaof("NO", "ONE")
    cache = open_cache(f"{server.url}?timeout_s=2")
    assert cache.get("k") is None
    cache.close()


def test_what_is_published_after_a_stream_was_lost_is_delivered(server: PrivateRedis, queue: Queue) -> None:
    queue.publish([Message("t", "k", b"%d" % number) for number in range(100)])
    consumer = queue.consumer(["t"], "g")
    drain([consumer], 100)
    consumer.close()
    (place,) = queue.ends(["t"], "k")
    with redis.Redis(port=server.port) as client:
        client.delete(f"coupon:stream:t:{place.partition}")
    queue.publish([Message("t", "k", b"%d" % number) for number in range(10)])
    assert queue.lag(["t"], "g") == 10
    assert queue.committed([place], "g") == {place: 0}
    assert len(drain([queue.consumer(["t"], "g")], 10)[0]) == 10


def test_of_a_publish_with_an_unknown_topic_nothing_is_published(queue: Queue) -> None:
    with pytest.raises(BackendRejected):
        queue.publish([*messages(600), Message("nowhere", "k", b"v")])
    assert list(queue.browse("t")) == []


def test_who_lost_a_reply_while_it_shared_goes_on_where_the_group_is(
    services: Services, prefix: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = RedisConnections(Url(f"redis://{services.redis}"), timeout_s=5.0, prefix=prefix)
    queue = RedisQueue(connections, partitions=1, lease_s=10, timer=clock)
    queue.create(["t"])
    queue.publish(messages(100))
    slow, heir = queue.consumer(["t"], "g"), queue.consumer(["t"], "g")
    assert len(slow.poll(30, 0)) == 30
    assert heir.poll(30, 0) == []
    clock.now += 11
    heir.commit(ends(poll(heir, 50, at_once=50)))
    heir.close()
    with monkeypatch.context() as patch:
        patch.setattr(Topics, "evaluate", _fails)
        with pytest.raises(BackendUnavailable):
            slow.poll(5, 0)
    assert [delivery.offset for delivery in slow.poll(5, 0)] == [50, 51, 52, 53, 54]
    with pytest.raises(BackendUnavailable):
        slow.commit({Position("t", 0): 35})
    queue.close()


def _fails(*_: object) -> None:
    raise BackendUnavailable("a lost reply")


def test_two_that_share_at_the_same_moment_own_no_partition_together(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.publish(messages(100))
    one, two = queue.consumer(["t"], "g"), queue.consumer(["t"], "g")
    found: list[Delivery] = []

    def while_another_shares(*arguments: Any) -> Any:
        monkeypatch.setattr(redis_member, "share_out", share_out)
        found.extend(two.poll(500, 0))
        return share_out(*arguments)

    monkeypatch.setattr(redis_member, "share_out", while_another_shares)
    found += one.poll(500, 0)
    assert max(Counter((delivery.partition, delivery.offset) for delivery in found).values()) == 1


@pytest.mark.parametrize("pause_s", [0, 1.1], ids=["before it shares", "when it shares"])
def test_a_server_that_lost_its_last_moments_skips_nothing(
    server: PrivateRedis, queue: Queue, tmp_path: Path, pause_s: float
) -> None:
    """As after a loss of power: offsets that it gave out are given out again."""
    queue.publish([Message("t", "k", b"before %d" % number) for number in range(50)])
    consumer = queue.consumer(["t"], "g")
    drain([consumer], 50)
    shutil.copytree(tmp_path / "appendonlydir", tmp_path / "kept")
    queue.publish([Message("t", "k", b"lost %d" % number) for number in range(50)])
    poll(consumer, 50)
    server.kill()
    shutil.rmtree(tmp_path / "appendonlydir")
    (tmp_path / "kept").rename(tmp_path / "appendonlydir")
    server.start(*DURABLE)
    after = [b"after %d" % number for number in range(60)]
    queue.publish([Message("t", "k", value) for value in after])
    time.sleep(pause_s)
    with pytest.raises(BackendUnavailable, match="restarted"):
        consumer.poll(500, 0)
    assert values(poll(consumer, 60)) == after


@pytest.mark.usefixtures("queue")
def test_a_consumer_closes_soon_while_redis_is_silent(server: PrivateRedis) -> None:
    consumer = opened(f"{server.url}?timeout_s=8&lease_s=2").consumer(["t"], "g")
    consumer.poll(1, 0)
    server.freeze()
    time.sleep(1)  # its renewal waits for Redis
    closed: list[bool] = []
    closing = threading.Thread(target=lambda: (consumer.close(), closed.append(True)))
    closing.start()
    until(lambda: bool(closed), within_s=4)
    closing.join()
    server.thaw()
