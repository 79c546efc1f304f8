"""A circuit breaker: after a failure, a backend is not called for a while, longer each time, until a call succeeds.

So callers do not wait for the backend's time-out again and again.
"""

from coupon.domain.clock import Clock
from coupon.runtime.metrics import BREAKERS_OPEN

PAUSE_MS, PAUSE_MAX_MS = 500, 10_000


class CircuitBreaker:
    """``open`` it when a call failed, ``close`` it when the same kind of call succeeded.

    When ``is_open`` is False again, the next call is the trial. A ping is none: a server that refuses every write may
    answer it."""

    def __init__(self, role: str, timer: Clock, pause_max_ms: int = PAUSE_MAX_MS) -> None:
        self._role, self._timer, self._pause_max_ms = role, timer, pause_max_ms
        self._pause_ms = 0
        self._since = 0
        BREAKERS_OPEN.set(0, role)

    def open(self) -> None:
        self._pause_ms = min(max(self._pause_ms * 2, PAUSE_MS), self._pause_max_ms)
        self._since = self._timer()
        BREAKERS_OPEN.set(1, self._role)

    def close(self) -> bool:
        """Whether it was open."""
        was_open, self._pause_ms = self._pause_ms > 0, 0
        if was_open:
            BREAKERS_OPEN.set(0, self._role)
        return was_open

    def is_open(self) -> bool:
        """Whether the last call failed, and its pause is not over."""
        return self._timer() - self._since < self._pause_ms
