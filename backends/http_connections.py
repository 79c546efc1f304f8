"""HTTP/1.1 with one server on plain sockets, which stay open. Each serves one request at a time.

urllib3 and http.client parse the headers of a response as those of an e-mail, which takes longer than all the rest.
"""

import os
import re
import select
import socket
import ssl
import time
import weakref
from typing import Any, NamedTuple

from backends.deadline_socket import ANSWER_MAX, SHORTEST_S, DeadlineSocket, PromptTlsSocket, prompt

IDLE_MAX = 64
"""Idle connections that are kept: more threads than that open one for each request."""
HEAD_MAX = 65_536
RECEIVED_MAX = 65_536
"""Bytes that are received at once: more than that in one piece costs two system calls for its memory."""
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")
_HEADER = re.compile(rb"\r\n([^:\r\n]+):[ \t]*([^\r\n]*)")
_DECIMAL = re.compile(r"[0-9]{1,12}")
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{1,10}")
_WITHOUT_BODY = (204, 304)


class BrokenOff(ConnectionError):
    """The connection ended before the response, or the response was no HTTP. The server may have done the request."""


class Response(NamedTuple):
    """``headers`` have names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class HttpConnections:
    """Has as many connections as it ever had requests at once. Thread-safe; a forked process opens its own.

    ``tls`` is the trust for https, or None for http.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._host, self._port, self._tls = host, port, tls
        if tls is not None:
            tls.sslsocket_class = PromptTlsSocket
        self._idle: list[DeadlineSocket] = []
        """A stack. ``pop`` and ``append`` are atomic."""
        self._process = os.getpid()
        self._finalizer = weakref.finalize(self, _close_all, self._idle)

    def exchange(
        self, request: bytes, timeout_s: float | None, connect_timeout_s: float | None = None, *, is_head: bool = False
    ) -> Response:
        """Send the bytes of a request and receive the response. The timeout covers all of it, connecting included.

        ``is_head`` says that the method is HEAD, whose responses have no body. Raises BrokenOff, TimeoutError, and any
        other OSError where there was no connection.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        connection = self._idle_connection() or self._connect(connect_timeout_s or timeout_s)
        try:
            connection.settimeout(None if deadline is None else max(deadline - time.monotonic(), SHORTEST_S))
            connection.sendall(request)
            response = _response(_Received(connection), is_head)
        except ConnectionError as error:
            connection.close()
            raise BrokenOff(str(error)) from error
        except BaseException:
            connection.close()
            raise
        if response.headers.get("connection", "").lower() == "close" or len(self._idle) >= IDLE_MAX:
            connection.close()
        else:
            self._idle.append(connection)
        if not self._finalizer.alive:  # closed meanwhile
            _close_all(self._idle)
        return response

    def close(self) -> None:
        """Close the idle connections. Those in use close at the end of their requests."""
        self._finalizer()

    def _idle_connection(self) -> DeadlineSocket | None:
        if self._process != os.getpid():  # they are the parent's
            _close_all(self._idle)
            self._process = os.getpid()  # not before: another thread would take one
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread took the last one
                return None
            if not _is_readable(connection):
                return connection
            connection.close()  # the server has closed it, or has sent what nobody asked for
        return None

    def _connect(self, timeout_s: float | None) -> DeadlineSocket:
        connection = prompt(socket.create_connection((self._host, self._port), timeout_s))
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                return connection
            secured: Any = self._tls.wrap_socket(connection, server_hostname=self._host)
            return secured  # type: ignore[no-any-return]
        except BaseException:
            connection.close()
            raise


def _close_all(connections: list[DeadlineSocket]) -> None:
    while True:
        try:
            connections.pop().close()
        except IndexError:
            return


def _is_readable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


class _Received:
    """The bytes of one response. All methods raise BrokenOff where the connection ends before them."""

    def __init__(self, connection: DeadlineSocket) -> None:
        self._connection, self._bytes = connection, bytearray()

    def up_to(self, end: bytes) -> bytes:
        """Those before ``end``, which is taken, too."""
        while (place := self._bytes.find(end)) < 0:
            if len(self._bytes) > HEAD_MAX:
                raise BrokenOff(f"more than {HEAD_MAX} bytes of headers")
            self._receive()
        taken = self._take(place)
        del self._bytes[: len(end)]
        return taken

    def exactly(self, size: int) -> bytes:
        while len(self._bytes) < size:
            self._receive()
        return self._take(size)

    def end(self) -> None:
        if self._bytes:
            raise BrokenOff("more than one response to a request")

    def _take(self, size: int) -> bytes:
        taken = bytes(self._bytes[:size])
        del self._bytes[:size]
        return taken

    def _receive(self) -> None:
        more = self._connection.recv(RECEIVED_MAX)
        if not more:
            raise BrokenOff(f"the connection ended before the response, after {bytes(self._bytes[-100:])!r}")
        self._bytes += more


def _response(received: _Received, is_head: bool) -> Response:
    head = received.up_to(b"\r\n\r\n") + b"\r\n"
    status = _STATUS.match(head)
    if status is None:
        raise BrokenOff(f"no response of HTTP: {head[:100]!r}")
    pairs = _HEADER.findall(head)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1").rstrip() for name, value in pairs}
    response = Response(int(status[1]), headers, b"")
    if not is_head and response.status not in _WITHOUT_BODY:
        response = response._replace(body=_body(received, headers))
    received.end()
    return response


def _body(received: _Received, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _chunks(received)
    return received.exactly(_size(headers.get("content-length", ""), _DECIMAL, 10))


def _chunks(received: _Received) -> bytes:
    chunks = bytearray()
    while size := _size(received.up_to(b"\r\n").split(b";", 1)[0].decode("latin-1").strip(), _HEXADECIMAL, 16):
        if len(chunks) + size > ANSWER_MAX:
            raise BrokenOff(f"more than {ANSWER_MAX} bytes in a response")
        chunks += received.exactly(size)
        if received.up_to(b"\r\n"):
            raise BrokenOff("a chunk without an end")
    while received.up_to(b"\r\n"):
        pass  # trailers
    return bytes(chunks)


def _size(text: str, digits: re.Pattern[str], base: int) -> int:
    """A length that the server has announced. Raises BrokenOff for any other text, and beyond ANSWER_MAX."""
    if digits.fullmatch(text) is None:
        raise BrokenOff(f"no length of a body: {text[:100]!r}")
    size = int(text, base)
    if size > ANSWER_MAX:
        raise BrokenOff(f"a response of {size} bytes")
    return size
