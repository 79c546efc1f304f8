"""Refusals beyond a rate are held back, so that clients that retry at once do not take all of the CPU.

While a backend hangs, a request is refused in microseconds. A hundred clients that retry at once would leave no CPU for
other requests. So beyond a rate the response waits in the main thread, which costs no thread of the pool
(``coupon/web/parked_connections.py``).
"""

import threading
from typing import Any

from coupon.domain.clock import Clock, monotonic_ms

AT_ONCE_A_SECOND = 50
"""The most refusals of a process in a second that are sent at once."""


class RefusalRate:
    """Counts the refusals of a process. Thread-safe."""

    def __init__(self, timer: Clock = monotonic_ms) -> None:
        self._timer, self._lock = timer, threading.Lock()
        self._second, self._number = 0, 0

    def is_too_high(self) -> bool:
        """Count a refusal; returns whether its response has to wait."""
        second = self._timer() // 1_000
        with self._lock:
            if second != self._second:
                self._second, self._number = second, 0
            self._number += 1
            return self._number > AT_ONCE_A_SECOND


def hold_back(environ: dict[str, Any]) -> None:
    """Let the response of this request wait, where the server is our gunicorn worker."""
    hold = getattr(environ.get("gunicorn.socket"), "hold", None)
    if hold is not None:
        hold()
