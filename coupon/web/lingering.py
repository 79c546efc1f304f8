"""gunicorn's worker of threads, made to stay with a busy connection, and to leave new ones to who has less to do.

By itself a thread gives each connection back after one answer: the next request on it is found by the main thread, and
handed to a thread again, with eight calls of the kernel and two switches of threads, as much as a small view costs.
Here the thread that has answered waits for the next request itself, for a moment, unless others wait for a thread.

By itself the process that wakes up first takes all connections of a crowd that comes at once, and keeps them.
Here a process with a connection for each of its threads hesitates, so that another one is first.
"""

import select
import time
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

LINGER_MS = 5
"""For so long a connection keeps its thread after an answer: no caller waits longer for a thread that lingers."""
HESITATE_S = 0.001
"""Longer than it takes another process to wake up."""


class LingeringThreadWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn's types are not installed
    """``worker_class = "coupon.web.lingering.LingeringThreadWorker"``."""

    def accept(self, listener: Any) -> None:
        if self.nr_conns >= self.cfg.threads:
            time.sleep(HESITATE_S)
        super().accept(listener)

    def handle(self, conn: Any) -> Any:
        """Answer requests until the connection ends or is quiet; what to do with it then, as the parent has it."""
        while True:
            outcome = super().handle(conn)
            if outcome is not True or not self._next_is_near(conn):
                return outcome

    def _next_is_near(self, conn: Any) -> bool:
        """Whether more came on the connection while nobody needs the thread. What was read ahead already (pipelining)
        is the parent's to find."""
        if not self.alive or self.tpool._work_queue.qsize() or conn.parser.unreader.buf.tell():
            return False
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(LINGER_MS))
