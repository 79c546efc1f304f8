"""Clients that are slow, or stop in the middle, cost nobody else anything, for a bounded time, and are told of."""

import contextlib
import json
import os
import select
import signal
import socket
import time
from pathlib import Path

import pytest
from gunicorn.http.body import ChunkedReader
from gunicorn.http.unreader import IterUnreader

from backends.testing.timing import TRIES, takes_less_than
from tests.bench.figure import cpu_s
from tests.e2e.clients import KINDS, answer, ask, connect, held, latencies_s, received
from tests.e2e.deployment import Deployment, children, embedded, eventually, rss_mb

ISSUE = b'{"userId": "ann", "couponCode": "AAAAA-AAAAAA-AAAAAAAA"}'
HEAD = b"PUT /v1/coupons/issue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SLOW_MAX_S = 8
"""Five seconds of patience, and what a busy machine adds."""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    environ = embedded(tmp_path_factory.mktemp("service")) | {"WEB_THREADS": "4", "COUPON_LOG_FORMAT": "json"}
    with Deployment(environ, web=1, workers=0) as service:
        service.session.close()
        yield service


def lines(service):
    """What the log says of slow connections."""
    text = (Path(service.folder) / "web.log").read_text().splitlines()
    return [json.loads(line) for line in text if '"slow connections"' in line]


@pytest.mark.parametrize("kind", KINDS)
def test_others_are_answered_while_clients_are_slow(service, kind):
    with held(service.port, kind, 40):
        takes_less_than(2, lambda: latencies_s(service.port, 10))


@pytest.mark.parametrize(
    ("kind", "status", "name"),
    [
        ("one byte", b"408", "half a head"),
        ("half a head", b"408", "half a head"),
        ("half a body", b"408", "half a body"),
        ("no chunk", b"408", "half a body"),
        ("answers not read", b"", "answer not read"),
    ],
)
def test_a_slow_connection_is_closed_and_told_of(service, kind, status, name):
    seen = len(lines(service))
    with held(service.port, kind, 3) as connections:
        eventually(lambda: sum(line["closed"].get(name, 0) for line in lines(service)[seen:]) >= 3, 20)
        for connection in connections:
            assert received(connection).startswith(b"HTTP/1.1 " + status if status else b"")
    line = lines(service)[-1]
    assert (line["level"], line["peer"]) == ("warning", "127.0.0.1")


def test_a_slow_request_is_answered_with_a_problem(service):
    with connect(service.port) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        head, _, body = received(connection).partition(b"\r\n\r\n")
    assert (json.loads(body)["code"], b"application/problem+json" in head) == ("REQUEST_TIMEOUT", True)


def test_who_is_half_way_when_the_service_stops_is_told_to_send_it_again(tmp_path):
    environ = embedded(tmp_path) | {"GUNICORN_CMD_ARGS": "--graceful-timeout 1"}
    with Deployment(environ, web=1, workers=0) as service, connect(service.port) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        time.sleep(0.5)
        (pid,) = children(service.process.pid)
        os.kill(pid, signal.SIGTERM)
        head, _, body = received(connection).partition(b"\r\n\r\n")
    assert (head.split()[1], json.loads(body)["code"], b"Retry-After: 1" in head) == (b"503", "UNAVAILABLE", True)


def test_a_byte_now_and_then_does_not_keep_a_head_open(service):
    began = time.monotonic()
    with connect(service.port) as connection:
        head = iter(KINDS["half a head"] + b"x" * 1_000)
        while not select.select([connection], [], [], 0.2)[0]:
            connection.sendall(bytes([next(head)]))
        assert b" 408 " in received(connection)
    assert 4 < time.monotonic() - began < SLOW_MAX_S


def test_a_body_may_take_longer_when_it_moves(service):
    body = ISSUE + b" " * 40_000
    began = time.monotonic()
    with connect(service.port) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
        for first in range(0, len(body), 2_500):
            connection.sendall(body[first : first + 2_500])
            time.sleep(0.45)
        assert b" 404 " in answer(connection)
    assert time.monotonic() - began > 6


def test_a_long_answer_may_take_longer_when_it_moves(service):
    began = time.monotonic()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", service.port))
        connection.sendall(ask("/docs/assets/swagger-ui-bundle.js", "Connection: close"))
        length, paused = 0, 0.0
        while data := connection.recv(16_384):
            length += len(data)
            if paused < 7:
                paused += 0.25
                time.sleep(0.25)
    assert (length > 1_000_000, time.monotonic() - began > 6) == (True, True)


def test_a_request_that_waits_is_not_cut_off(service):
    """No worker runs, so that the outcome never comes."""
    creation = b'{"amount": 1, "validFrom": "2026-11-01", "expireAt": "2099-11-30"}'
    head = HEAD.replace(b"PUT /v1/coupons/issue", b"POST /v1/coupons") + b"Prefer: wait=9\r\n"
    with connect(service.port, 30) as connection:
        began = time.monotonic()
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(creation) + creation)
        assert b" 202 " in answer(connection)
        assert time.monotonic() - began > 8
        connection.sendall(ask())
        assert b" 200 " in answer(connection)


def test_an_idle_connection_stays_open(service):
    with connect(service.port) as connection:
        for pause_s in (0, 7):
            time.sleep(pause_s)
            connection.sendall(ask())
            assert b" 200 " in answer(connection)


@pytest.mark.parametrize("kind", KINDS)
def test_two_thousand_slow_connections_delay_others_by_less_than_a_second(service, kind):
    (pid,) = children(service.process.pid)
    with held(service.port, kind, 2_000):
        took = sorted(latencies_s(service.port, 100))
        memory_mb = rss_mb(pid)
    assert took[-2] < 1, took
    assert memory_mb < 400


def test_the_slowest_make_room_for_others(tmp_path):
    """gunicorn would take no more connections than it may have."""
    environ = embedded(tmp_path) | {"GUNICORN_CMD_ARGS": "--worker-connections 40", "COUPON_LOG_FORMAT": "json"}
    with Deployment(environ, web=1, workers=0) as service, connect(service.port) as kept:
        kept.sendall(ask())
        assert b" 200 " in answer(kept)
        with held(service.port, "nothing", 100), held(service.port, "half a head", 100):
            latencies_s(service.port, 50)
            kept.sendall(ask())
            assert b" 200 " in answer(kept)
        eventually(lambda: any("crowded out" in line["closed"] for line in lines(service)), 20)


def test_the_longest_body_in_the_smallest_chunks_costs_little(service):
    body = ISSUE + b" " * (65_536 - len(ISSUE))
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"

    def send():
        with connect(service.port) as connection:
            connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
            assert b" 404 " in answer(connection)

    assert cost_s(service, send) < 0.75 * parsed_s(chunks)


def test_a_body_of_chunks_without_end_costs_little(service):
    chunks = b"1\r\nx\r\n" * 1_000_000

    def send():
        with connect(service.port) as connection, contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
            assert b" 413 " in answer(connection)

    assert cost_s(service, send) < 0.75 * parsed_s(chunks[: 6 * 65_536] + b"0\r\n\r\n")


def cost_s(service, work):
    """CPU seconds of the web process, the least of a few tries."""
    pids, costs = children(service.process.pid), []
    for _ in range(TRIES):
        before = cpu_s(pids)
        work()
        costs.append(cpu_s(pids) - before)
    return min(costs)


def parsed_s(chunks):
    """CPU seconds that gunicorn's own parser spends on them, on this machine."""
    before = time.process_time()
    pieces = (chunks[first : first + 8_192] for first in range(0, len(chunks), 8_192))
    reader = ChunkedReader(None, IterUnreader(pieces))
    assert len(reader.read(65_537)) == 65_536
    return time.process_time() - before
