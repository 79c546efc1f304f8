"""How long a client of the web side may take, and the line in the log about those that took longer."""

import time
from collections import Counter
from collections.abc import Callable, Iterable

import structlog

from coupon.web.connection import Connection, Waits

HEAD_S = 5.0
"""From the first byte of a request's head to its last."""
GRACE_S, BYTES_A_SECOND = 5.0, 4_096
"""A body comes in, and an answer is taken, so fast; a client who was faster may pause for so long, and no longer."""
END_S = 2.0
SAY_EVERY_S = 5.0
SILENT_MANY = 10
"""Fewer that never said anything are connections that clients made in advance."""
CROWDED = "crowded out"
SLOW = (Waits.FIRST, Waits.HEAD, Waits.BODY, Waits.ANSWER)
log = structlog.get_logger("coupon.web")


def begin(connection: Connection, waits: Waits, keepalive_s: float) -> None:
    """The connection waits for its client from now on."""
    patience_s = {Waits.HEAD: HEAD_S, Waits.BODY: GRACE_S, Waits.ANSWER: GRACE_S, Waits.END: END_S}
    connection.waits, connection.since = waits, time.monotonic()
    connection.moved = connection.progress()
    connection.deadline = connection.since + patience_s.get(waits, keepalive_s)


def extend(connection: Connection) -> None:
    """The client may go on for as long as what has passed meanwhile is worth."""
    if connection.waits in (Waits.BODY, Waits.ANSWER):
        moved, connection.moved = connection.moved, connection.progress()
        earned_s = (connection.moved - moved) / BYTES_A_SECOND
        connection.deadline = min(connection.deadline + earned_s, time.monotonic() + GRACE_S)


def first_to_go(connection: Connection) -> tuple[bool, bool, float]:
    """In this order connections make room for others: half-sent and unread ones whose time ends soonest, then silent
    ones, at last those that were answered before."""
    return connection.waits is Waits.NEXT, connection.waits is Waits.FIRST, connection.deadline


class SlowClients:
    """Counts the connections that were closed, and tells of them at most once in ``SAY_EVERY_S``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._from = clock, clock()
        self._closed: Counter[str] = Counter()
        self._peers: Counter[str] = Counter()

    def closed(self, connection: Connection, why: str | None = None) -> None:
        """It was closed because its time was over, or for another reason."""
        if why is None and connection.waits not in SLOW:
            return
        self._closed[why or connection.waits.value] += 1
        if isinstance(connection.client, tuple):
            self._peers[connection.client[0]] += 1

    def tell(self, kept: Iterable[Connection]) -> None:
        """Say what was closed since the last line, and how many are held now; nothing when there is nothing to say."""
        now = self._clock()
        if now - self._from < SAY_EVERY_S:
            return
        if self._closed.total() > min(self._closed[Waits.FIRST.value], SILENT_MANY - 1):
            held = Counter(connection.waits.value for connection in kept if connection.waits in SLOW)
            peer, number = self._peers.most_common(1)[0] if self._peers else (None, 0)
            log.warning("slow connections", closed=dict(self._closed), held=dict(held), peer=peer, of_peer=number)
        self._from = now
        self._closed.clear()
        self._peers.clear()
