"""Sockets whose timeout is for an answer as a whole.

Python's is for each wait: where a network lets a few bytes through now and then, an answer may take minutes, and each
of them holds a thread.
"""

import socket
import ssl
import time
from typing import Any

SHORTEST_S = 0.001


class PromptSocket(socket.socket):
    """The timeout counts from when it is set, for all that is received until it is set again. What is there already
    may be taken later, too: it was the reader that was slow."""

    _deadline: float | None = None

    def settimeout(self, value: float | None) -> None:
        super().settimeout(value)
        self._deadline = None if value is None else time.monotonic() + value

    def recv(self, *arguments: Any) -> bytes:
        self._hurry()
        return super().recv(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        self._hurry()
        return super().recv_into(*arguments)

    def _hurry(self) -> None:
        if self._deadline is not None:
            super().settimeout(max(self._deadline - time.monotonic(), SHORTEST_S))


class PromptTlsSocket(PromptSocket, ssl.SSLSocket):
    """For ``SSLContext.sslsocket_class``."""


def prompt(connected: socket.socket) -> PromptSocket:
    """The same connection, with its timeout from now on."""
    timeout_s = connected.gettimeout()
    connection = PromptSocket(connected.family, connected.type, connected.proto, connected.detach())
    connection.settimeout(timeout_s)
    return connection
