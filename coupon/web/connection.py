"""A connection on which no call blocks: it reads the bytes that are there, sends what the client takes, and buffers the
rest."""

import fcntl
import socket
import struct
import termios
import time
from collections import deque
from enum import Enum
from typing import Any

from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import InvalidHeader, LimitRequestHeaders
from gunicorn.http.message import Request
from gunicorn.http.unreader import Unreader

from coupon.web.chunked_body import ChunkedBody

HEAD_MAX = 16_384
"""The most bytes of a request's line and headers."""
AT_ONCE = 65_536
PASSED_OVER_MAX = 64
_RECEIVE = 8_192
_MORE_MAX = 65_536
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Waits(Enum):
    """What a connection waits for. The values are the words in the log."""

    NEXT = "idle"
    FIRST = "silent"
    HEAD = "half a head"
    BODY = "half a body"
    ANSWER = "answer not read"
    HELD = "held back"
    """The response is a refusal, and waits because there are too many refusals."""
    END = "ending"
    """The last response was sent. If the server closed now, the client might lose the end of it: the client closes."""
    THREAD = "thread"
    NOTHING = "nothing"
    """The connection is over."""


class Received(Unreader):  # type: ignore[misc]  # gunicorn's types are not installed
    """The bytes that were received and not parsed yet. For gunicorn's parser their end is the end of the stream."""

    def __init__(self) -> None:
        self.data = bytearray()

    def read(self, size: int | None = None, read_ahead: int | None = None) -> bytes:  # noqa: ARG002
        if size is None or size < 0:
            size = len(self.data)
        taken = bytes(self.data[:size])
        del self.data[:size]
        return taken

    def unread(self, data: bytes) -> None:
        self.data[:0] = data


class Outgoing:
    """The socket that gunicorn writes to. It sends the pieces of a response together, as far as the client reads."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._pieces: deque[bytes | memoryview] = deque()
        self._is_full = False
        self.kept = self.sent = 0
        """In bytes."""
        self.is_held = False
        """Whether the main thread sends the response, after a pause."""

    def sendall(self, data: bytes) -> None:
        self._pieces.append(data)
        self.kept += len(data)
        if self.kept >= AT_ONCE and not self._is_full:
            self._is_full = not self.flush()

    send = sendall

    def hold(self) -> None:
        self.is_held = True

    def flush(self) -> bool:
        """Send what the client takes; True when nothing is left. Raises OSError when the client has hung up."""
        self._is_full = False
        pieces = self._pieces
        if len(pieces) > 1 and self.kept < AT_ONCE:
            self._pieces = pieces = deque([b"".join(pieces)])
        while pieces:
            try:
                sent = self._socket.send(pieces[0], socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            self.kept -= sent
            self.sent += sent
            if sent == len(pieces[0]):
                pieces.popleft()
            else:
                pieces[0] = memoryview(pieces[0])[sent:]
        return True

    def on_the_way(self) -> int:
        """The bytes that the kernel has sent or buffered, and that have not arrived.

        They show the progress of a client that reads a few kB a second. Its socket becomes writable only when a third
        of the kernel's buffer is free.
        """
        (number,) = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))
        return int(number)

    def gettimeout(self) -> float:
        return 0.0

    def shutdown(self, _how: int) -> None:
        """gunicorn calls it when a response broke off, and would wait for the client to close."""
        raise OSError("it is closed by the main thread")

    def close(self) -> None:
        """The main thread closes the socket."""


class Connection:
    """Owned by the main thread or by one thread of the pool, never by both.

    ``sock``, ``client`` and ``server`` are gunicorn's names.
    """

    def __init__(self, accepted: socket.socket, client: Any, server: Any) -> None:
        self.socket, self.client, self.server = accepted, client, server
        self.received, self.sock = Received(), Outgoing(accepted)
        self.request: Any = None
        self.number = 0
        self.waits = Waits.FIRST
        self.since = self.deadline = time.monotonic()
        self.moved = self.counted = 0
        self.is_last = False
        self._chunks: ChunkedBody | None = None
        self._needs = 0
        self._passed_over = 0

    def receive(self, most: int = _RECEIVE) -> bool:
        """Read the bytes that are there; False at the end of the stream. Raises BlockingIOError when there are none."""
        data = self.socket.recv(most, socket.MSG_DONTWAIT)
        self.received.data += data
        return bool(data)

    def receive_more(self) -> bool:
        """As ``receive``, in larger pieces, up to the end of the body."""
        return self.receive(min(_MORE_MAX, self._missing() or _MORE_MAX) if self.waits is Waits.BODY else _RECEIVE)

    @property
    def is_for_a_thread(self) -> bool:
        """Whether a thread has something to do: a request to respond to, or to refuse."""
        return self._is_head_over() if self.request is None else self._is_body_here()

    def is_whole(self, cfg: Any, body_max: Any) -> bool:
        """Whether ``request`` is complete. Raises the errors of gunicorn's parser.

        When the head announces a body of more than ``body_max(path)`` bytes, the request is complete without it.
        """
        if self.request is None:
            if not self._is_head_over():
                return False
            self._begin(cfg, body_max)
        return self._is_body_here()

    def end_request(self) -> bool:
        """Skip the rest of the body; False when the beginning of the next request is unknown."""
        body, self.request, self._chunks = self.request.body, None, None
        while not body.failed and body.read(AT_ONCE):
            pass
        return not body.failed

    @property
    def missing(self) -> Waits:
        """The part of the request that is missing."""
        if self.request is not None:
            return Waits.BODY
        if self.received.data:
            return Waits.HEAD
        return Waits.NEXT if self.number else Waits.FIRST

    @property
    def after_answer(self) -> Waits:
        """What the connection waits for once the response is sent."""
        if self.is_last:
            return Waits.END
        return Waits.THREAD if self.received.data else Waits.NEXT

    def pass_over(self) -> bool:
        """Discard what the client sends after the last response; False at its end, or when it was too much."""
        self._passed_over += 1
        return self._passed_over < PASSED_OVER_MAX and bool(self.socket.recv(AT_ONCE, socket.MSG_DONTWAIT))

    def progress(self) -> int:
        """The bytes of the body that were received, or of the responses that arrived at the client."""
        if self.waits is Waits.ANSWER:
            return self.sock.sent - self.sock.on_the_way()
        return len(self.received.data) + (len(self._chunks.body) if self._chunks else 0)

    @property
    def held(self) -> int:
        """The bytes in memory."""
        return len(self.received.data) + self.sock.kept + (len(self._chunks.body) if self._chunks else 0)

    def _is_head_over(self) -> bool:
        data = self.received.data
        if data.find(b"\r\n\r\n") >= 0 or len(data) > HEAD_MAX:
            return True
        return data.count(b"\n") != data.count(b"\r\n")  # the parser refuses it

    def _begin(self, cfg: Any, body_max: Any) -> None:
        """Parse the head, and store the length of the body that it announces."""
        if not 0 <= self.received.data.find(b"\r\n\r\n") <= HEAD_MAX and len(self.received.data) > HEAD_MAX:
            raise LimitRequestHeaders("limit of the head's size")
        self.number += 1
        request = self.request = Request(cfg, self.received, self.client, self.number)
        if request.version >= (1, 1) and not any(name == "HOST" for name, _ in request.headers):
            raise InvalidHeader("HOST", req=request)
        reader, limit = request.body.reader, body_max(request.path)
        if isinstance(reader, ChunkedReader):
            self._chunks, self._needs = ChunkedBody(limit), 0
        else:
            self._chunks, self._needs = None, reader.length
            if reader.length > limit:
                request.force_close()
                self._needs = 0
        if request._expected_100_continue:
            request._expected_100_continue = False  # gunicorn would send it when the body is there
            if not self._is_body_here():
                self.sock.sendall(_CONTINUE)
                self.sock.flush()

    def _is_body_here(self) -> bool:
        if self._chunks is not None:
            if not self._chunks.take(self.received.data):
                return False
            if not self._chunks.is_sound:
                self.request.force_close()
            self._chunks = None
        return not self._missing()

    def _missing(self) -> int:
        return max(0, self._needs - len(self.received.data))
