"""gunicorn's worker of threads, made to stay with a busy connection, to leave new ones to who has less to do, and to
wait for no client.

A thread of the pool gets a request when it is there; what a client has yet to send or to take is waited for elsewhere
(``coupon/web/parked_connections.py``).

By itself a thread gives each connection back after one answer: the next request on it is found by the main thread, and
handed to a thread again, with eight calls of the kernel and two switches of threads, as much as a small view costs.
Here the thread that has answered waits for the next request itself, for a moment, unless others wait for a thread.

By itself the process that wakes up first takes all connections of a crowd that comes at once, and keeps them.
Here a process with a connection for each of its threads hesitates, so that another one is first.
"""

import errno
import select
import time
from typing import Any

import structlog
from gunicorn.http.errors import NoMoreData

from coupon.web.connection import Connection, Waits
from coupon.web.parked_connections import ParkingWorker

KEEPALIVE_POLL_MS = 5
"""For so long a connection keeps its thread after an answer: no caller waits longer for a thread that lingers."""
PIECES = 3
"""A thread lingers for so many pieces of a request."""
HESITATE_S = 0.001
"""Longer than it takes another process to wake up."""
GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF)
log = structlog.get_logger("coupon.web")


class KeepAliveThreadWorker(ParkingWorker):
    """``worker_class = "coupon.web.gunicorn_worker.KeepAliveThreadWorker"``."""

    def accept(self, listener: Any) -> None:
        if self.nr_conns - self.slow >= self.cfg.threads:
            time.sleep(HESITATE_S)
        super().accept(listener)

    def handle(self, connection: Connection) -> Waits:
        """Answer requests until the connection ends or is quiet; what it waits for then."""
        is_ready = True
        try:
            while self._is_whole(connection, is_ready):
                waits = self._answer(connection)
                if waits is not Waits.NEXT:
                    return waits
                is_ready = False
        except (EOFError, NoMoreData, StopIteration):  # the client's last; StopIteration: of an answer that broke off
            return Waits.NOTHING
        except OSError as error:
            return self._gone(error)
        except Exception as error:
            return self._refuse(connection, error)
        return connection.missing

    def _is_whole(self, connection: Connection, is_ready: bool) -> bool:
        """Whether a request is there to be answered. Raises EOFError when none will come."""
        for _ in range(PIECES):
            if connection.is_whole(self.cfg, self.body_max):
                return True
            if not (is_ready or self._more_is_near(connection)):
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
        if not connection.sock.flush():
            return Waits.ANSWER
        waits = connection.after_answer
        return Waits.NEXT if waits is Waits.THREAD and not self.tpool._work_queue.qsize() else waits

    def _refuse(self, connection: Connection, error: Exception) -> Waits:
        """What cannot be understood, or what went wrong below the application."""
        connection.is_last = True
        try:
            self.handle_error(connection.request, connection.sock, connection.client, error)
            return connection.after_answer if connection.sock.flush() else Waits.ANSWER
        except OSError as gone:
            return self._gone(gone)

    def _gone(self, error: OSError) -> Waits:
        if error.errno not in GONE:
            log.error("connection given up", exc_info=error)
        return Waits.NOTHING

    def _more_is_near(self, connection: Connection) -> bool:
        """Whether more came on the connection while nobody needs the thread."""
        if not self.alive or self.tpool._work_queue.qsize():
            return False
        poll = select.poll()
        poll.register(connection.socket, select.POLLIN)
        return bool(poll.poll(KEEPALIVE_POLL_MS))
