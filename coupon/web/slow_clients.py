"""Deadlines of clients, and the log line on the clients that were too slow."""

import time
from collections import Counter
from collections.abc import Callable, Iterable

import structlog

from coupon.web.connection import Connection, Waits

HEAD_S = 5.0
"""The longest time from the first byte of a request's head to the last one."""
GRACE_S, BYTES_A_SECOND = 5.0, 4_096
"""The slowest rate of a body or a response, and the longest pause of a client that was faster than that."""
END_S = 2.0
HELD_S = 0.5
"""The pause before a refusal that is held back, or a little more."""
LOG_INTERVAL_S = 5.0
SILENT_MANY = 10
"""Fewer silent connections are normal: clients open some in advance."""
CROWDED = "crowded out"
SLOW = (Waits.FIRST, Waits.HEAD, Waits.BODY, Waits.ANSWER)
log = structlog.get_logger("coupon.web")


def begin(connection: Connection, waits: Waits, keepalive_s: float) -> None:
    """The connection waits for its client from now on: set its deadline."""
    patience_s = {Waits.HEAD: HEAD_S, Waits.BODY: GRACE_S, Waits.ANSWER: GRACE_S, Waits.END: END_S, Waits.HELD: HELD_S}
    connection.waits, connection.since = waits, time.monotonic()
    connection.moved = connection.progress()
    connection.deadline = connection.since + patience_s.get(waits, keepalive_s)


def extend(connection: Connection) -> None:
    """Extend the deadline by the bytes that moved since the last call."""
    if connection.waits in (Waits.BODY, Waits.ANSWER):
        moved, connection.moved = connection.moved, connection.progress()
        earned_s = (connection.moved - moved) / BYTES_A_SECOND
        connection.deadline = min(connection.deadline + earned_s, time.monotonic() + GRACE_S)


def first_to_go(connection: Connection) -> tuple[bool, bool, float]:
    """The order in which connections make room for others.

    First come half-sent requests and unread responses, by their deadline; then silent connections; then idle ones.
    """
    return connection.waits is Waits.NEXT, connection.waits is Waits.FIRST, connection.deadline


class SlowClients:
    """Counts the connections that were closed, and logs them at most once in ``LOG_INTERVAL_S``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._from = clock, clock()
        self._closed: Counter[str] = Counter()
        self._peers: Counter[str] = Counter()

    def closed(self, connection: Connection, why: str | None = None) -> None:
        """Count a connection that was closed because its time was over, or for the reason in ``why``."""
        if why is None and connection.waits not in SLOW:
            return
        self._closed[why or connection.waits.value] += 1
        if isinstance(connection.client, tuple):
            self._peers[connection.client[0]] += 1

    def log(self, parked: Iterable[Connection]) -> None:
        """Log how many connections were closed since the last line, and how many are parked now."""
        now = self._clock()
        if now - self._from < LOG_INTERVAL_S:
            return
        if self._closed.total() > min(self._closed[Waits.FIRST.value], SILENT_MANY - 1):
            held = Counter(connection.waits.value for connection in parked if connection.waits in SLOW)
            peer, number = self._peers.most_common(1)[0] if self._peers else (None, 0)
            log.warning("slow connections", closed=dict(self._closed), held=dict(held), peer=peer, of_peer=number)
        self._from = now
        self._closed.clear()
        self._peers.clear()
