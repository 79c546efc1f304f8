"""A backend that failed is left alone for a while, longer each time, until what had failed works again.

So a caller does not wait for its time-out once more.
"""

from coupon.domain.clock import Clock

PAUSE_MS, PAUSE_MAX_MS = 500, 10_000


class CircuitBreaker:
    """``open`` it after a failure, ``close`` it when the same thing has worked. In between the next one to do it is the
    trial: a ping proves nothing, a server that refuses every write may answer it."""

    def __init__(self, timer: Clock, pause_max_ms: int = PAUSE_MAX_MS) -> None:
        self._timer, self._pause_max_ms = timer, pause_max_ms
        self._pause_ms = 0
        self._since = 0

    def open(self) -> None:
        self._pause_ms = min(max(self._pause_ms * 2, PAUSE_MS), self._pause_max_ms)
        self._since = self._timer()

    def close(self) -> bool:
        """Whether it was open."""
        was_open, self._pause_ms = self._pause_ms > 0, 0
        return was_open

    def is_open(self) -> bool:
        """Whether the backend failed last time, and it is not yet time to try again."""
        return self._timer() - self._since < self._pause_ms
