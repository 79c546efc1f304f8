"""Kafka tells its clients where it is. Those who come by a link are told that it is at the link's proxy."""

import os
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

import pytest

from backends.testing.links import Link, Links
from backends.testing.queue_driving import drain, messages, opened, values
from coupon.domain.errors import BackendUnavailable
from coupon.ports.queue import Consumer, Message, Queue
from tests.services import CANNOT_RUN_HERE, PrivateServers

pytestmark = pytest.mark.services
LINKS = ("web", "worker")
TCP_ESTABLISHED = "01"


@pytest.fixture(scope="module")
def servers() -> Iterator[PrivateServers]:
    with closing(PrivateServers(kafka_links=LINKS)) as servers:
        up = servers.tell("up", "kafka")
        if up.returncode == CANNOT_RUN_HERE and "CI" not in os.environ:
            pytest.skip(up.stderr)
        assert up.returncode == 0, up.stderr
        yield servers


@pytest.fixture
def links(servers: PrivateServers) -> Iterator[list[Link]]:
    with Links() as links:
        yield [links.open(f"{name}-kafka", *servers.kafka_link(name)) for name in LINKS]


@pytest.fixture
def queues(links: list[Link]) -> Iterator[list[Queue]]:
    """One of a web process, one of a worker."""
    prefix = f"t{uuid4().hex[:10]}."
    web, worker = (opened(f"kafka://127.0.0.1:{link.port}?prefix={prefix}&timeout_s=1.5") for link in links)
    web.create(["t"])
    with closing(web), closing(worker):
        yield [web, worker]


@pytest.fixture
def consumer(queues: list[Queue]) -> Iterator[Consumer]:
    with closing(queues[1].consumer(["t"], "g")) as consumer:
        yield consumer


def test_publishers_and_consumers_go_through_their_links_only(
    servers: PrivateServers, links: list[Link], queues: list[Queue], consumer: Consumer
) -> None:
    queues[0].publish(messages(100))
    assert len(drain([consumer], 100)[0]) == 100
    assert all(link.counts.connections > 0 and link.counts.bytes_up > 0 for link in links)
    assert not connections_to(servers.port("kafka"))
    ours = sum(len(connections_to(servers.kafka_link(name)[0])) for name in LINKS)
    assert ours == len(connections_to(links[0].port)) + len(connections_to(links[1].port)) > 0


def test_a_black_hole_swallows_what_is_published_and_polled_until_it_is_healed(
    links: list[Link], queues: list[Queue], consumer: Consumer
) -> None:
    queues[0].publish(messages(10))
    drain([consumer], 10)
    for link in links:
        link.black_hole()
    with pytest.raises(BackendUnavailable):
        queues[0].publish(messages(1))
    with suppress(BackendUnavailable):
        assert consumer.poll(10, 0.2) == []
    for link in links:
        link.heal()
    publish(queues[0], b"after")
    found = read_until(consumer, b"after")
    assert set(found) <= {b"0", b"after"}  # what was held arrived late, or never


def test_lost_replies_and_resets_are_outlived(links: list[Link], queues: list[Queue], consumer: Consumer) -> None:
    for link in links:
        link.lose_replies()
    with pytest.raises(BackendUnavailable):
        queues[0].publish(messages(1))
    for link in links:
        link.heal()
        link.reset()
    publish(queues[0], b"after")
    assert read_until(consumer, b"after")


def test_a_broker_that_was_killed_is_found_again_by_the_links_only(
    servers: PrivateServers, queues: list[Queue], consumer: Consumer
) -> None:
    queues[0].publish(messages(10))
    drain([consumer], 10)
    servers.tell("kill", "kafka")
    with pytest.raises(BackendUnavailable):
        queues[0].publish(messages(1))
    assert servers.tell("up", "kafka").returncode == 0
    publish(queues[0], b"after")
    assert read_until(consumer, b"after")
    assert not connections_to(servers.port("kafka"))


def read_until(consumer: Consumer, value: bytes) -> list[bytes]:
    found: list[bytes] = []
    deadline = time.monotonic() + 20
    while value not in found:
        assert time.monotonic() < deadline, found
        with suppress(BackendUnavailable):
            found += values(consumer.poll(100, 0.2))
    return found


def publish(queue: Queue, value: bytes) -> None:
    """As soon as it can be."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return queue.publish([Message("t", "key", value)])
        except BackendUnavailable:
            assert time.monotonic() < deadline


def connections_to(port: int) -> list[str]:
    """Of this machine, to that port of it."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [line[1] for line in lines if line[2].endswith(f":{port:04X}") and line[3] == TCP_ESTABLISHED]
