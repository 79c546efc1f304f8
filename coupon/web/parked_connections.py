"""Connections that wait for their clients are parked in the main thread, each for a bounded time.

In stock gunicorn a thread of the pool waits for its client while it reads a request, and while it writes the response.
So as many slow clients as there are threads are an outage. Its main thread also waits two seconds for each client to
close.
"""

import errno
import heapq
import resource
import selectors
import socket
import struct
import sys
import time
from concurrent.futures import Future
from functools import partial
from typing import Any

import structlog
from gunicorn.errors import ConfigError
from gunicorn.workers.gthread import ThreadWorker

from coupon.web import body_limits
from coupon.web.body_limits import BodyLimits
from coupon.web.connection import Connection, Waits
from coupon.web.problems import last_response
from coupon.web.slow_clients import CROWDED, SlowClients, begin, extend, first_to_go
from coupon.web.thread_pool import WAITING_MAX

SWEEP_S = 0.5
BODY_MAX = 65_536
"""The most bytes of a body, for an application without limits of its own."""
HELD_MAX = 128_000_000
"""The most bytes that all parked connections of a process hold."""
STOPPED_KEEPALIVE_S = 2.0
"""In a process that was told to stop, a connection that becomes idle is kept for so long."""
SEND_BUFFER = 131_072
"""The bytes that the kernel buffers for a client that does not read; its default is megabytes."""
FILES_MAX, FILES_OF_OTHERS = 65_536, 200 + 5 * WAITING_MAX
"""The most file descriptors of a process, and how many of them are left for other things than connections. A thread has
up to five of its own."""
TOO_LATE, STOPPING = last_response("REQUEST_TIMEOUT"), last_response("UNAVAILABLE")
"""The response to an incomplete request whose time is over, or whose process ends."""
log = structlog.get_logger("coupon.web")
_AT_ONCE = struct.pack("ii", 1, 0)


class ParkingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn's types are not installed
    """gunicorn's main thread. The pool runs ``handle``, which never waits for a client.

    ``handle`` returns what the connection waits for next.
    """

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        if cfg.is_ssl:
            raise ConfigError("TLS is ended by the gateway in front, not here")
        super().check_config(cfg, log)

    def init_process(self) -> None:
        self.cfg.set("sendfile", False)  # sendfile would wait for the client
        files = _files()
        self.most = min(self.cfg.worker_connections, files - min(FILES_OF_OTHERS, files // 2))
        self.worker_connections: int = sys.maxsize  # gunicorn would stop accepting there: here room is made instead
        self.parked: set[Connection] = set()
        self.held, self.quiet, self.swept = 0, 0, 0.0
        self.slow_clients = SlowClients()
        for listener in self.sockets:  # accepted connections inherit it
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        limits = getattr(self.wsgi, "extensions", {}).get(body_limits.EXTENSION) or BodyLimits(BODY_MAX)
        self.body_max = limits.of

    def accept(self, listener: Any) -> None:
        if self.nr_conns >= self.most:
            self._make_room()
        try:
            accepted, client = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._make_room()
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return
        self.nr_conns += 1
        self._park(Connection(accepted, client, listener.getsockname()), Waits.FIRST)

    def finish_request(self, connection: Connection, handled: "Future[Waits]") -> None:
        """A thread of the pool returns the connection."""
        try:
            waits = handled.result()
        except Exception as error:
            log.error("connection given up", exc_info=error)
            waits = Waits.NOTHING
        self._go_on(connection, waits)

    def murder_keepalived(self, force: bool = False) -> None:
        """Close the connections whose time is over, or all of them."""
        now = time.monotonic()
        if now - self.swept < SWEEP_S and not force:
            return
        self.swept = now
        for connection in [one for one in self.parked if force or self._is_late(one, now)]:
            if connection.waits is Waits.HELD and not force:
                self._send_held(connection)
                continue
            self.slow_clients.closed(connection)
            self._cut(connection, STOPPING if connection.deadline > now else TOO_LATE)
        self.quiet = sum(now - connection.since > SWEEP_S for connection in self.parked)
        self.slow_clients.log(self.parked)

    def _send_held(self, connection: Connection) -> None:
        self._unpark(connection)
        connection.sock.is_held = False
        try:
            self._go_on(connection, connection.after_answer if connection.sock.flush() else Waits.ANSWER)
        except OSError:
            self._close(connection)

    def _is_late(self, connection: Connection, now: float) -> bool:
        if connection.deadline <= now:
            extend(connection)
        return connection.deadline <= now

    def murder_pending(self) -> None:
        """``murder_keepalived`` has closed these too."""

    def _cap_keepalive(self, deadline: float) -> None:
        for connection in self.parked:
            if connection.waits in (Waits.NEXT, Waits.FIRST):
                connection.deadline = min(connection.deadline, deadline)

    def _go_on(self, connection: Connection, waits: Waits) -> None:
        if waits is Waits.THREAD:
            self.enqueue_req(connection)
            return
        try:
            if waits is Waits.END:
                connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            waits = Waits.NOTHING
        if waits is Waits.NOTHING:
            self._close(connection)
        else:
            self._park(connection, waits)

    def _park(self, connection: Connection, waits: Waits) -> None:
        """Park the connection until its client sends or reads."""
        begin(connection, waits, self.cfg.keepalive)
        self.parked.add(connection)
        if waits is not Waits.HELD:
            event = selectors.EVENT_WRITE if waits is Waits.ANSWER else selectors.EVENT_READ
            self.poller.register(connection.socket, event, partial(self._moved, connection))
        self._count(connection)
        if not self.alive:
            self._cap_keepalive(time.monotonic() + STOPPED_KEEPALIVE_S)

    def _unpark(self, connection: Connection) -> None:
        self.parked.remove(connection)
        if connection.waits is not Waits.HELD:
            self.poller.unregister(connection.socket)
        self.held -= connection.counted
        connection.counted = 0

    def _count(self, connection: Connection) -> None:
        self.held += connection.held - connection.counted
        connection.counted = connection.held
        while self.held > HELD_MAX:
            self._make_room()

    def _moved(self, connection: Connection, _socket: Any) -> None:
        """The client has sent something, can take more, or has hung up."""
        if connection not in self.parked:  # it was closed to make room for another in the same round
            return
        try:
            waits = self._after_move(connection)
        except BlockingIOError:
            return
        except OSError:
            waits = Waits.NOTHING
        if waits is not connection.waits:
            self._unpark(connection)
            self._go_on(connection, waits)
        else:
            extend(connection)
            self._count(connection)

    def _after_move(self, connection: Connection) -> Waits:
        match connection.waits:
            case Waits.NEXT | Waits.FIRST:
                return Waits.THREAD
            case Waits.ANSWER:
                return connection.after_answer if connection.sock.flush() else Waits.ANSWER
            case Waits.END:
                return Waits.END if connection.pass_over() else Waits.NOTHING
        if not connection.receive_more():
            return Waits.NOTHING
        return Waits.THREAD if connection.is_for_a_thread else connection.waits

    def _make_room(self) -> None:
        """Close the slowest twentieth of the parked connections, so that more clients find room."""
        for connection in heapq.nsmallest(1 + len(self.parked) // 20, self.parked, first_to_go):
            self.slow_clients.closed(connection, CROWDED)
            self._cut(connection)

    def _cut(self, connection: Connection, last: bytes = TOO_LATE) -> None:
        """Close the connection without waiting for its client."""
        self._unpark(connection)
        try:
            if connection.waits in (Waits.HEAD, Waits.BODY):
                connection.sock.sendall(last)
                connection.sock.flush()
            elif connection.waits is Waits.HELD:
                connection.sock.flush()
            elif connection.waits is Waits.ANSWER:  # the kernel drops what it has buffered
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        except OSError:
            pass
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        self.nr_conns -= 1
        connection.socket.close()


def _files() -> int:
    """Raise the limit of file descriptors as far as the system allows, up to ``FILES_MAX``, and return it."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = FILES_MAX if most == resource.RLIM_INFINITY else min(most, FILES_MAX)
    if now == resource.RLIM_INFINITY or now >= limit:
        return FILES_MAX
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    return limit
