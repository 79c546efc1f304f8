"""Clients that are slow on purpose, and how others fare meanwhile."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

KINDS = {
    "nothing": b"",
    "one byte": b"G",
    "half a head": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "half a body": b"PUT /v1/coupons/issue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 60\r\n\r\n{"user',
    "no chunk": b"PUT /v1/coupons/issue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n",
    "half a chunk": b"PUT /v1/coupons/issue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Transfer-Encoding: chunked\r\n\r\nff\r\n{"user',
    "answers not read": b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 6,
    "not closed at the end": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
}
"""What each sends, and no more."""


def ask(path: str = "/livez", *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def connect(port: int, timeout_s: float = 10) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=timeout_s)


@contextmanager
def held(port: int, kind: str, number: int) -> Iterator[list[socket.socket]]:
    """So many connections of that kind."""
    connections = []
    try:
        for _ in range(number):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.settimeout(10)
            connection.connect(("127.0.0.1", port))
            connection.sendall(KINDS[kind])
            connections.append(connection)
        yield connections
    finally:
        for connection in connections:
            connection.close()


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side closes the connection; nothing of one that it reset."""
    whole = b""
    try:
        while data := connection.recv(65_536):
            whole += data
    except ConnectionResetError:
        return b""
    return whole


def answer(connection: socket.socket) -> bytes:
    """One answer, with its ``Content-Length``."""
    whole = b""
    while b"\r\n\r\n" not in whole:
        data = connection.recv(65_536)
        assert data, whole
        whole += data
    head, _, body = whole.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        data = connection.recv(65_536)
        assert data, whole
        body += data
    assert len(body) == length, body
    return head + b"\r\n\r\n" + body


def latencies_s(port: int, number: int, patience_s: float = 10) -> list[float]:
    """How long each of so many new connections waited for ``/livez``."""
    took = []
    for _ in range(number):
        began = time.monotonic()
        with connect(port, patience_s) as connection:
            connection.sendall(ask())
            assert b" 200 OK\r\n" in answer(connection)
        took.append(time.monotonic() - began)
    return took
