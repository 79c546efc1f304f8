"""The gunicorn worker of the web side: gthread, whose threads hold on to a busy connection and never wait for a client.

A thread of the pool gets a request once it is complete. Connections whose client has yet to send or to read are parked
in the main thread (``coupon/web/parked_connections.py``).

Stock gthread returns a keep-alive connection to the main thread after each response. The next request needs eight
system calls and two thread switches to reach a thread again, as much as a small view costs. Here the thread polls the
connection for the next request itself, for a moment, unless other requests wait for a thread.

With stock gthread, the process that wakes up first accepts all connections of a burst. Here a process with a busy
connection for each of its threads pauses before it accepts, so that another process accepts the next one.
"""

import errno
import select
import time
from typing import Any

import structlog
from gunicorn.http.errors import NoMoreData

from coupon.runtime.metrics import REQUESTS_WAITING
from coupon.web.connection import Connection, Waits
from coupon.web.parked_connections import ParkingWorker
from coupon.web.thread_pool import ThreadPool

KEEPALIVE_POLL_MS = 5
"""How long a thread polls a connection after a response: no other caller waits longer for that thread."""
HESITATE_S = 0.001
"""The pause before ``accept``: longer than another process takes to wake up."""
PIECES = 3
"""The most pieces of one request that a thread polls for."""
GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF)
log = structlog.get_logger("coupon.web")


class KeepAliveThreadWorker(ParkingWorker):
    """``worker_class = "coupon.web.gunicorn_worker.KeepAliveThreadWorker"``."""

    def get_thread_pool(self) -> ThreadPool:
        pool = ThreadPool.of_process = ThreadPool(self.cfg.threads)
        REQUESTS_WAITING.watch(lambda: pool.backlog, "thread")
        return pool

    def accept(self, listener: Any) -> None:
        if self.nr_conns - self.quiet >= self.cfg.threads:
            time.sleep(HESITATE_S)
        super().accept(listener)

    def handle(self, connection: Connection) -> Waits:
        """Respond to requests until the connection ends or is quiet; returns what it waits for then."""
        is_ready = True
        try:
            while self._is_whole(connection, is_ready):
                waits = self._answer(connection)
                if waits is not Waits.NEXT:
                    return waits
                is_ready = False
        except (EOFError, NoMoreData, StopIteration):  # the stream has ended; StopIteration: a response was cut off
            return Waits.NOTHING
        except OSError as error:
            return self._gone(error)
        except Exception as error:
            return self._refuse(connection, error)
        return connection.missing

    def _is_whole(self, connection: Connection, is_ready: bool) -> bool:
        """Whether a complete request was received. Raises EOFError when the stream has ended."""
        for _ in range(PIECES):
            if connection.is_whole(self.cfg, self.body_max):
                return True
            if not (is_ready or self._more_comes_soon(connection)):
                return False
            is_ready = False
            try:
                if not connection.receive():
                    raise EOFError
            except BlockingIOError:
                return False
        return connection.is_whole(self.cfg, self.body_max)

    def _answer(self, connection: Connection) -> Waits:
        goes_on = self.handle_request(connection.request, connection) and connection.end_request()
        connection.is_last = not goes_on
        if connection.sock.is_held:
            return Waits.HELD
        if not connection.sock.flush():
            return Waits.ANSWER
        waits = connection.after_answer
        return Waits.NEXT if waits is Waits.THREAD and not self.tpool.backlog else waits

    def _refuse(self, connection: Connection, error: Exception) -> Waits:
        """Respond to an invalid request, or to an error below the application."""
        connection.is_last = True
        try:
            self.handle_error(connection.request, connection.sock, connection.client, error)
            return connection.after_answer if connection.sock.flush() else Waits.ANSWER
        except OSError as reset:
            return self._gone(reset)

    def _gone(self, error: OSError) -> Waits:
        if error.errno not in GONE:
            log.error("connection given up", exc_info=error)
        return Waits.NOTHING

    def _more_comes_soon(self, connection: Connection) -> bool:
        """Whether more bytes were received before another request needed the thread."""
        if not self.alive or self.tpool.backlog:
            return False
        poll = select.poll()
        poll.register(connection.socket, select.POLLIN)
        return bool(poll.poll(KEEPALIVE_POLL_MS))
