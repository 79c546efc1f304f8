"""Names of their own on the tests' Redis, and a private Redis to be killed and frozen."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from backends.testing.queue_driving import opened
from coupon.ports.queue import Queue
from tests.contracts.redis.server import DURABLE, PrivateRedis
from tests.services import Services


@pytest.fixture
def client(services: Services) -> Iterator[redis.Redis]:
    """The driver's own client of the tests' Redis."""
    host, _, port = services.redis.partition(":")
    with redis.Redis(host=host, port=int(port)) as client:
        yield client


@pytest.fixture
def prefix(client: redis.Redis) -> Iterator[str]:
    """Of keys that nobody has; what was made under it is deleted."""
    prefix = f"test-{secrets.token_hex(6)}:"
    yield prefix
    for name in client.scan_iter(f"{prefix}*", 1_000):
        client.unlink(name)


@pytest.fixture
def server(services: Services, tmp_path: Path) -> Iterator[PrivateRedis]:
    """Not started yet."""
    assert services.redis, "skips, or fails in CI, where there is none to run"
    server = PrivateRedis(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def queue(server: PrivateRedis) -> Iterator[Queue]:
    """Of the private Redis, which keeps what it acknowledged, with a topic t."""
    server.start(*DURABLE)
    queue = opened(f"{server.url}?timeout_s=2&partitions=4&lease_s=2")
    queue.create(["t"])
    yield queue
    queue.close()
