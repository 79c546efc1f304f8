"""An outage of Kafka costs no file descriptors, also while nothing collects garbage."""

import gc
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from unittest.mock import Mock

import pytest
from kafka import errors
from kafka.net import KafkaNetSocket, NetworkSelector
from kafka.net.transport import KafkaTCPTransport

from backends.queue.kafka_fixes import ClosingClient


@pytest.fixture
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def silent_address() -> Iterator[str]:
    """Of a listener whose backlog is full: it does not let itself be connected to."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield f"127.0.0.1:{full.getsockname()[1]}"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def cannot_connect(address: str, **options: Any) -> None:
    client = ClosingClient(0.3, bootstrap_servers=[address], reconnect_backoff_ms=10, **options)
    try:
        with pytest.raises(errors.KafkaError):
            client.get_broker_version(timeout_ms=300)
    finally:
        client.close()


def test_a_refused_connection_leaves_no_socket(no_collections: None) -> None:
    cannot_connect("127.0.0.1:9")
    before = open_files()
    for _ in range(3):
        cannot_connect("127.0.0.1:9")
    assert open_files() == before


def test_sockets_that_were_refused_are_closed_while_their_client_lives(no_collections: None) -> None:
    client = ClosingClient(bootstrap_servers=["127.0.0.1:9"], reconnect_backoff_ms=1, reconnect_backoff_max_ms=10)
    before = open_files()
    try:
        with pytest.raises(errors.KafkaError):
            client.get_broker_version(timeout_ms=500)
        assert open_files() <= before + 1
    finally:
        client.close()


def test_a_connection_that_nobody_accepts_leaves_no_socket(no_collections: None, silent_address: str) -> None:
    cannot_connect(silent_address)
    before = open_files()
    for _ in range(3):
        cannot_connect(silent_address)
    assert open_files() == before


def test_a_socket_that_has_no_time_left_to_connect_is_closed(no_collections: None) -> None:
    [address, *_] = socket.getaddrinfo("127.0.0.1", 9, socket.AF_INET, socket.SOCK_STREAM)
    before = open_files()
    with pytest.raises(errors.KafkaTimeoutError) as raised:
        KafkaNetSocket().connect(None, address, timeout_at=0).send(None)
    assert open_files() == before
    assert raised.traceback  # which holds the socket


def test_a_handshake_that_fails_leaves_no_socket(no_collections: None) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        cannot_connect(address, security_protocol="SSL")
        before = open_files()
        for _ in range(3):
            cannot_connect(address, security_protocol="SSL")
        assert open_files() == before


def test_a_handshake_that_is_never_answered_ends_in_time_with_its_socket(no_collections: None) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        client = ClosingClient(0.3, bootstrap_servers=[f"127.0.0.1:{silent.getsockname()[1]}"], security_protocol="SSL")
        before, began = open_files(), time.monotonic()
        with closing(client):
            with pytest.raises(errors.KafkaError):
                client.get_broker_version(timeout_ms=300)
            assert time.monotonic() - began < 2
            assert "Handshake failed" in str(client.failure)
            assert open_files() == before


def test_what_came_before_the_end_of_a_connection_is_received() -> None:
    """A broker says that a password is wrong, and hangs up."""
    protocol, loop = Mock(_sensors=None), NetworkSelector()
    ours, theirs = socket.socketpair()
    with closing(loop), ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"wrong")
        theirs.shutdown(socket.SHUT_WR)
        transport = KafkaTCPTransport(loop, ours)
        transport.set_protocol(protocol)
        transport.resume_reading()
        for _ in range(5):
            loop.poll(timeout_ms=100)
        protocol.data_received.assert_called_once_with(b"wrong")
        protocol.connection_lost.assert_called_once()
