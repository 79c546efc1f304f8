"""Refusals without a pause would starve everybody else: where there are many, they are held back.

A backend that is left alone is refused in microseconds. A hundred clients that ask again at once then take all of the
CPU, and no command gets its turn. So beyond a rate, the response waits in the main thread, which costs no thread of the
pool (``coupon/web/parked_connections.py``).
"""

import threading
from typing import Any

from coupon.domain.clock import Clock, monotonic_ms

AT_ONCE_A_SECOND = 50
"""The refusals of a process in a second that are sent at once."""


class RefusalRate:
    """Counts the refusals of a process. Thread-safe."""

    def __init__(self, timer: Clock = monotonic_ms) -> None:
        self._timer, self._lock = timer, threading.Lock()
        self._second, self._number = 0, 0

    def is_too_high(self) -> bool:
        """Count one more; whether its response has to wait."""
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
