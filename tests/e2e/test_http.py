"""HTTP as gunicorn speaks it with our worker, byte by byte."""

import contextlib
import signal
import socket
import time

import pytest

from tests.e2e.clients import answer, ask, connect, received
from tests.e2e.deployment import Deployment, children, embedded, eventually

ISSUE = b'{"userId": "ann", "couponCode": "AAAAA-AAAAAA-AAAAAAAA"}'
HEAD = b"PUT /v1/coupons/issue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(ISSUE) + ISSUE
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    environ = embedded(tmp_path_factory.mktemp("service")) | {"WEB_THREADS": "2"}
    with Deployment(environ, web=1, workers=0) as service:
        service.session.close()
        yield service


@pytest.fixture
def connection(service):
    with connect(service.port) as connection:
        yield connection


def status(connection: socket.socket) -> int:
    return int(answer(connection)[9:12])


def in_pieces(connection: socket.socket, sent: bytes, size: int) -> None:
    """In packets that the server sees one by one, more or less."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for first in range(0, len(sent), size):
        connection.sendall(sent[first : first + size])
        time.sleep(0.002)


@pytest.mark.parametrize("size", [1, 7, 50, 1_000])
def test_a_request_in_pieces_is_answered_as_a_whole_one(connection, size):
    chunks = b"5;name=value\r\n" + ISSUE[:5] + b"\r\n%x\r\n" % len(ISSUE[5:]) + ISSUE[5:] + b"\r\n0\r\n\r\n"
    in_pieces(connection, WHOLE + CHUNKED + chunks + ask(), size)
    assert answers(connection, 3) == [404, 404, 200]


def answers(connection: socket.socket, number: int) -> list[int]:
    """The status of each of so many answers, which may come together."""
    whole, found = b"", []
    while len(found) < number:
        data = connection.recv(65_536)
        assert data, whole
        whole += data
        found = [int(part[:3]) for part in whole.split(b"HTTP/1.1 ")[1:]]
    return found


def test_pipelined_requests_are_answered_in_turn(connection):
    connection.sendall((WHOLE + ask() + ask("/nowhere")) * 20)
    assert answers(connection, 60) == [404, 200, 404] * 20


def test_a_connection_goes_on_after_each_answer(connection):
    for _ in range(3):
        for sent, expected in ((WHOLE, 404), (ask(), 200), (CHUNKED + b"0\r\n\r\n", 400)):
            connection.sendall(sent)
            assert status(connection) == expected


def test_a_body_that_the_application_does_not_read_is_passed_over(connection):
    for framed in (
        b"Content-Length: 8\r\n\r\nGET /x H",
        b"Transfer-Encoding: chunked\r\n\r\n8\r\nGET /x H\r\n0\r\nA: b\r\n\r\n",
    ):
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + framed + ask("/nowhere"))
        assert answers(connection, 2) == [200, 404]


@pytest.mark.parametrize(
    ("sent", "stays"),
    [
        (b"GET /livez HTTP/1.0\r\n\r\n", False),
        (b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        (ask("/livez", "Connection: close"), False),
        (ask(), True),
    ],
)
def test_a_connection_stays_open_when_the_client_wants_it(connection, sent, stays):
    connection.sendall(sent)
    assert status(connection) == 200
    if stays:
        connection.sendall(ask())
        assert status(connection) == 200
    else:
        assert connection.recv(1) == b""


def test_who_expects_100_continue_gets_it_when_the_body_is_still_to_come(connection):
    for head in (HEAD + b"Content-Length: %d\r\n" % len(ISSUE), HEAD + b"Transfer-Encoding: chunked\r\n"):
        connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(len(CONTINUE)) == CONTINUE
        connection.sendall(ISSUE if b"Length" in head else b"%x\r\n%b\r\n0\r\n\r\n" % (len(ISSUE), ISSUE))
        assert status(connection) == 404


def test_who_announces_too_much_is_refused_before_he_sends_it(connection):
    connection.sendall(HEAD + b"Content-Length: 65537\r\nExpect: 100-continue\r\n\r\n")
    assert status(connection) == 413
    connection.sendall(b" " * 65_537)
    assert received(connection) == b""


def test_too_many_chunks_are_refused(connection):
    with contextlib.suppress(ConnectionError):
        connection.sendall(CHUNKED + b"2000\r\n" + (b" " * 0x2000 + b"\r\n2000\r\n") * 8)
    assert status(connection) == 413


@pytest.mark.parametrize(
    "chunks",
    [
        *(b"x\r\n", b"+1\r\nx\r\n0\r\n\r\n", b"0x1\r\nx\r\n0\r\n\r\n", b"1\r\nxx\r\n0\r\n\r\n", b"1\nx\n0\n\n"),
        *(b"1 \r\nx\r\n0\r\n\r\n", b"1;a=\x01\r\nx\r\n0\r\n\r\n", b"1" * 300, b"0\r\nno trailer\r\n\r\n"),
    ],
)
def test_wrong_chunks_are_a_bad_request_and_the_end_of_the_connection(connection, chunks):
    connection.sendall(CHUNKED + chunks + ask())
    response = received(connection)
    assert (response[9:12], response.count(b"HTTP/1.1 ")) == (b"400", 1)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET /livez HTTP/1.1\n\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000, 431),
        (b"GET /" + b"x" * 5_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /" + b"x" * 20_000, 431),
        (b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 60 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),  # without a Host
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (HEAD + b"Content-Length: -5\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused_at_once(connection, sent, expected):
    connection.sendall(sent)
    assert int(received(connection)[9:12]) == expected


def test_half_a_request_of_a_client_that_ends_is_not_answered(connection):
    connection.sendall(WHOLE[:-1])
    connection.shutdown(socket.SHUT_WR)
    assert received(connection) == b""


def test_a_client_that_says_its_last_is_answered(connection):
    connection.sendall(WHOLE + ask())
    connection.shutdown(socket.SHUT_WR)
    assert received(connection).count(b"HTTP/1.1 ") == 2


@pytest.mark.parametrize("path", ["//livez", "///livez", "//v1/coupons/AAAAA-AAAAAA-AAAAAAAA"])
def test_a_path_with_two_slashes_is_another_path(connection, path):
    connection.sendall(ask(path))
    response = answer(connection)
    assert b" 404 " in response
    assert b'"NOT_FOUND"' in response


@pytest.mark.parametrize("header", ["SCRIPT_NAME: /docs", "PATH_INFO: /livez", "Script-Name: /docs"])
def test_no_header_says_where_the_application_is(connection, header):
    connection.sendall(ask("/docs/livez", header) + ask("/docs", header))
    assert answers(connection, 2) == [404, 200]


def test_a_stop_answers_what_is_under_way(tmp_path):
    with Deployment(embedded(tmp_path) | {"WEB_THREADS": "2"}, web=1, workers=0) as service:
        creation = b'{"amount": 1, "validFrom": "2026-11-01", "expireAt": "2099-11-30"}'
        head = b"POST /v1/coupons HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nPrefer: wait=3\r\n"
        whole = head + b"Content-Length: %d\r\n\r\n" % len(creation) + creation
        with (
            connect(service.port) as waiting,
            connect(service.port) as idle,
            connect(service.port) as half,
            connect(service.port) as silent,
        ):
            idle.sendall(ask())
            assert status(idle) == 200
            half.sendall(whole[:-1])
            waiting.sendall(whole)
            (worker,) = children(service.process.pid)
            eventually(lambda: b"accepted" in (service.folder / "web.log").read_bytes(), 10)
            service.process.send_signal(signal.SIGTERM)
            eventually(lambda: b"Handling signal: term" in (service.folder / "web.log").read_bytes(), 10)
            time.sleep(0.5)
            idle.sendall(ask())
            half.sendall(whole[-1:])
            for connection, expected in ((idle, 200), (waiting, 202), (half, 202)):
                response = answer(connection)
                assert (int(response[9:12]), b"Connection: close" in response) == (expected, connection is not waiting)
            assert received(silent) == b""
        service.process.wait(12)
        assert worker not in children(1)
