"""A worker serves its own metrics, at the first free port of a range."""

import socket
import urllib.error
import urllib.request

import pytest

from coupon.domain.errors import ConfigurationError
from coupon.worker.metrics_server import Address, serve
from tests.e2e.deployment import eventually, free_port


def ask(port, path="/metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


def answers(port):
    return bool(ask(port)[0])


@pytest.mark.parametrize(
    ("text", "host", "ports"),
    [
        ("127.0.0.1:9101", "127.0.0.1", range(9101, 9102)),
        ("host:9101-9116", "host", range(9101, 9117)),
        ("[::1]:80", "::1", range(80, 81)),
    ],
)
def test_an_address_has_a_port_or_a_range_of_them(text, host, ports):
    assert Address.parse(text) == (host, ports)


@pytest.mark.parametrize("text", ["9101", "127.0.0.1", ":9101", "h:0", "h:65536", "h:9-8", "h:9101-", "h:1:2", "h:٣"])
def test_what_it_cannot_be_is_named(text):
    with pytest.raises(ConfigurationError, match="COUPON_WORKER_METRICS="):
        Address.parse(text)


def test_each_of_several_takes_the_first_free_port(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        serve(Address("127.0.0.1", range(port, port + 3)))
        eventually(lambda: answers(port + 1), 10, OSError)
        serve(Address("127.0.0.1", range(port, port + 3)))
        eventually(lambda: answers(port + 2), 10, OSError)


def test_it_has_the_process_beside_what_is_counted_and_nothing_else(monkeypatch):
    port = free_port()
    serve(Address("127.0.0.1", range(port, port + 1)))
    eventually(lambda: answers(port), 10, OSError)
    body, content_type = ask(port)
    assert content_type.startswith("text/plain; version=0.0.4")
    assert "process_resident_memory_bytes" in body
    with pytest.raises(urllib.error.HTTPError, match="404"):
        ask(port, "/other")


def test_without_a_free_port_it_tries_again(monkeypatch):
    monkeypatch.setattr("coupon.worker.metrics_server.PATIENCE_S", 0.1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        serve(Address("127.0.0.1", range(port, port + 1)))
    eventually(lambda: answers(port), 10, OSError)
