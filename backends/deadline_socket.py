"""Sockets whose timeout is for a whole response, and which limit its bytes.

Python's timeout is for each wait. When a network passes a few bytes now and then, a response may take minutes, and its
thread with it. A response without end may take all memory.
"""

import array
import fcntl
import socket
import termios
import time
from typing import Any

from backends.tls import TlsSocket

SHORTEST_S = 0.001
ANSWER_MAX = 32 * 1024 * 1024
"""Bytes of a response: twice the largest of DynamoDB's, three times the longest page of a search."""


class DeadlineSocket(socket.socket):
    """Setting the timeout starts the time and the count of bytes, for all that is received until it is set again.

    Bytes that have arrived when the time is over can still be received: the reader was slow, and not the server."""

    answer_max = ANSWER_MAX
    _deadline: float | None = None
    _left = 0

    def settimeout(self, value: float | None) -> None:
        super().settimeout(value)
        self._deadline = None if value is None else time.monotonic() + value
        self._left = self.answer_max
        self._is_late = False

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        data = super().recv(self._allowed(buflen), flags)
        self._left -= len(data)
        return data

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        taken = super().recv_into(buffer, self._allowed(nbytes or len(buffer)), flags)
        self._left -= taken
        return taken

    def _allowed(self, size: int) -> int:
        """The bytes that may be received now, up to ``size``. Raises TimeoutError."""
        if self._deadline is None:
            self._left += size
            return size
        seconds = self._deadline - time.monotonic()
        if seconds <= 0 and not self._is_late:
            self._is_late, self._left = True, min(self._left, self._there())
        if self._left <= 0:
            raise TimeoutError("timed out") if self._is_late else ConnectionAbortedError(self._too_long())
        super().settimeout(max(seconds, SHORTEST_S))
        return min(size, self._left)

    def _there(self) -> int:
        """The number of bytes that have arrived and were not received yet."""
        there = array.array("i", [0])
        fcntl.ioctl(self.fileno(), termios.FIONREAD, there)
        return there[0]

    def _too_long(self) -> str:
        return f"more than {self.answer_max} bytes in an answer"


class PromptTlsSocket(DeadlineSocket, TlsSocket):
    """For ``SSLContext.sslsocket_class``."""

    def _there(self) -> int:
        return super()._there() + self.pending()


def prompt(connected: socket.socket) -> DeadlineSocket:
    """The connected socket as a DeadlineSocket, whose time starts now."""
    timeout_s = connected.gettimeout()
    connection = DeadlineSocket(connected.family, connected.type, connected.proto, connected.detach())
    connection.settimeout(timeout_s)
    return connection
